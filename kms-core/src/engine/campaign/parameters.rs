//! What must be the same when a campaign is carried on, in one canonical form.

use sha2::{Digest as _, Sha256};

use super::{CampaignOptions, Work};
use crate::planner::RewrapKeys;
use crate::scope::ScopeId;
use crate::wrapper::Wrapper;

use super::super::Rewrap;

/// The settings of a campaign, as they are stored and compared. A list of scopes is in them as their number and a
/// digest, however long it is.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    /// All but the root key.
    settings: String,
    /// The root wrapper that a rewrap moves keys to.
    target: Option<Target>,
    /// Of the settings, and of the root's key id as far as it was known when the engine was built. (A service may
    /// tell it with the first call, and that must not make another campaign of the next one.)
    digest: [u8; 32],
}

/// A root wrapper. Some learn the id of their key by their first call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    kind: String,
    key_id: Option<String>,
}

const TARGET: &str = " root=";

impl Parameters {
    pub(super) fn of(
        work: Work,
        options: &CampaignOptions,
        binds: bool,
        root: &dyn Wrapper,
        known_key_id: Option<&str>,
    ) -> Self {
        let name = match work {
            Work::Rewrap(RewrapKeys::OlderVersions) => "older-versions",
            Work::Rotate(Rewrap::Yes) => "rewrap",
            Work::Rotate(Rewrap::No) => "new-versions-only",
            Work::Rewrap(RewrapKeys::All) => "all",
            Work::Rewrap(RewrapKeys::ForeignRoot) => "foreign-root",
        };
        let settings = format!(
            "work={name} binds={binds} older_than_ms={:?} wrapped_by={:?} scopes={}",
            options.older_than.map(|age| age.as_millis()),
            options.root_key_id,
            options.scopes.as_deref().map_or("all".to_owned(), list),
        );
        let target = matches!(work, Work::Rewrap(_)).then(|| Target {
            kind: root.kind().to_owned(),
            key_id: root.key_id(),
        });
        let mut digest = Sha256::new();
        digest.update(&settings);
        if let (Some(target), Some(id)) = (&target, known_key_id) {
            digest.update(format!("{TARGET}{} {id:?}", target.kind));
        }
        Self {
            settings,
            target,
            digest: digest.finalize().into(),
        }
    }

    pub(super) fn to_text(&self) -> String {
        let Self {
            settings, target, ..
        } = self;
        match target {
            None => settings.clone(),
            Some(Target { kind, key_id }) => format!("{settings}{TARGET}{kind} {key_id:?}"),
        }
    }

    /// Whether these are the stored ones. A root key whose id is not known, now or then, may be the same.
    pub(super) fn fit(&self, stored: &str) -> bool {
        let Some(target) = &self.target else {
            return self.settings == stored;
        };
        let Some(root) = stored
            .strip_prefix(&self.settings)
            .and_then(|rest| rest.strip_prefix(TARGET))
        else {
            return false;
        };
        let Some(id) = root
            .strip_prefix(&target.kind)
            .and_then(|id| id.strip_prefix(' '))
        else {
            return false;
        };
        target.key_id.is_none() || id == "None" || id == format!("{:?}", target.key_id)
    }

    /// Eight hexadecimal digits, for an id that is made of them.
    pub(super) fn short_digest(&self) -> String {
        hex(&self.digest[..4])
    }
}

/// The number of these scopes, and the SHA-256 of their ids in order, each after its length in bytes (eight bytes,
/// the least significant first).
fn list(scopes: &[ScopeId]) -> String {
    let mut digest = Sha256::new();
    for scope in scopes {
        digest.update((scope.as_str().len() as u64).to_le_bytes());
        digest.update(scope.as_str());
    }
    format!("{}:sha256:{}", scopes.len(), hex(&digest.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
