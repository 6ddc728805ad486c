//! Opening wrapped keys: from rows to a key ring.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::{Instant, timeout_at};

use crate::aead::Aead;
use crate::binding::{self, Binding};
use crate::blob::Blob;
use crate::cache::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::guard::guarded;
use crate::id::{DataKeyVersionId, RootKeyId, RootKeyVersionId};
use crate::key_ring::{
    DataKey, DataKeyVersion, Failure, Held, KeyRing, Opened, Ring, RootKeyVersion,
};
use crate::local_key::LocalKey;
use crate::resting_key::RestingKey;
use crate::root_name::RootName;
use crate::roots::{Root, Roots};
use crate::rows::{DataKeyRow, DataKeyVersionRow, RootKeyVersionRow, ScopeRows};
use crate::scope::ScopeId;
use crate::secret::{KeyBytes, SecretBytes};
use crate::usage::Usage;
use smol_str::SmolStr;

mod known;
mod root_keys;

use known::{Kept, Known};

/// Opens wrapped keys with the root wrapper, in one binding mode.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) roots: Arc<Roots>,
    pub(crate) aead: Arc<dyn Aead>,
    pub(crate) binding: Binding,
    pub(crate) decrypt_only: bool,
    pub(crate) usage: Usage,
}

/// How an opening goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// Calls to the root wrapper at once.
    pub(crate) parallel: usize,
    /// The time, by which failures count their pauses.
    pub(crate) now: Moment,
    /// Whether keys that are held may be kept. If not, the scope's root has to open all of them anew.
    pub(crate) keep: bool,
    /// When a call to the root wrapper is given up. A wrapper bounds its calls itself, but it may be anybody's.
    pub(crate) deadline: Option<Instant>,
}

impl Opener {
    /// Opens the data key versions of a scope, and the root key versions that this needs. What does not open fails
    /// alone.
    ///
    /// A data key version whose row is that of `known` is taken from there, whatever became of the root key version
    /// above it: moving to another root key calls no root wrapper where the keys are held. What failed before is
    /// tried again only if somebody asked for it and its pause is over.
    pub(crate) async fn open(
        &self,
        rows: &ScopeRows,
        known: Option<&KeyRing>,
        opening: Opening,
    ) -> KeyRing {
        let known = Known::of(known, rows, opening.keep);
        let held: Vec<Vec<Kept>> = rows
            .data_keys
            .iter()
            .map(|key| known.kept(rows, key, opening.now))
            .collect();
        let needed: HashSet<&RootKeyVersionId> = rows
            .data_keys
            .iter()
            .zip(&held)
            .flat_map(|(key, held)| key.versions.iter().zip(held))
            .filter(|(_, kept)| matches!(kept, Kept::Nothing))
            .map(|(version, _)| &version.root_key_version)
            .collect();
        let root_keys = self.open_root_keys(rows, &known, &needed, opening).await;
        let mut wrapping = Wrapping::new(&root_keys);
        let data_keys: Box<[DataKey]> = rows
            .data_keys
            .iter()
            .zip(held)
            .map(|(row, held)| {
                let versions = row.versions.iter().zip(held);
                let versions = versions.map(|(version, kept)| {
                    let key = match kept {
                        Kept::Key(held) => Ok(self.prepared(row, version, held)),
                        Kept::Failure(failure) => Err(failure),
                        Kept::Nothing => self.open_data_key(
                            rows,
                            row,
                            version,
                            &mut wrapping,
                            &known,
                            opening.now,
                        ),
                    };
                    DataKeyVersion {
                        id: version.id.clone(),
                        row: version.fingerprint(),
                        key,
                    }
                });
                DataKey::new(row.id.clone(), row.purpose.clone(), versions.collect())
            })
            .collect();
        let root_key_versions = rows
            .root_key_versions
            .iter()
            .map(|row| RootKeyVersion {
                id: row.id.clone(),
                version: row.version,
                wrapped: Fingerprint::of(&row.key),
                key: match root_keys.get(&row.id) {
                    Some(Ok(key)) => Opened::Key(Arc::clone(key)),
                    Some(Err(failure)) => Opened::Failed(Arc::clone(failure)),
                    None => known
                        .root_key(row)
                        .unwrap_or_else(|| Opened::NotNeeded(row.key.as_slice().into())),
                },
            })
            .collect();
        let ring = KeyRing::new(Ring {
            scope: rows.scope.clone(),
            root_key: rows.root_key.clone(),
            root: rows.root.clone(),
            root_key_versions,
            data_keys,
            encrypts: !self.decrypt_only,
        });
        known.log_changes(&ring);
        ring
    }

    /// Unwraps one data key version with the key that wraps it.
    pub(crate) fn data_key_version(
        &self,
        rows: &ScopeRows,
        key: &DataKeyRow,
        version: &DataKeyVersionRow,
        wrapping: &LocalKey,
    ) -> Result<KeyBytes> {
        let context = |error: Error| {
            error
                .with_context("scope", &rows.scope)
                .with_context("purpose", &key.purpose)
                .with_context("key_version", &version.id)
        };
        let blob = Blob::decode(&version.key).map_err(|source| context(tampered(source)))?;
        let aad = binding::data_key_version(
            &rows.scope,
            &key.purpose,
            &key.id,
            &version.id,
            version.version,
            &version.root_key_version,
        );
        let mut opened = Err(Error::new(ErrorKind::AuthenticationFailed));
        for attempt in self.attempts(&blob) {
            opened = wrapping.decrypt(&blob, attempt.aad(&aad));
            if !could_be_otherwise_bound(&opened) {
                break;
            }
        }
        self.finish(opened, &blob).map_err(context)
    }

    /// Prepares a key that wraps others.
    pub(crate) fn prepare(&self, key: &KeyBytes, id: SmolStr) -> LocalKey {
        LocalKey::named(&*self.aead, key, id, None)
    }

    /// Prepares a key that encrypts data, which is counted.
    pub(crate) fn prepare_data_key(&self, key: &KeyBytes, id: &DataKeyVersionId) -> LocalKey {
        LocalKey::named(&*self.aead, key, id.text(), Some(self.usage.of(id)))
    }

    fn rest(&self, key: &KeyBytes) -> Arc<RestingKey> {
        RestingKey::new(Arc::clone(&self.aead), key)
    }

    fn open_data_key(
        &self,
        rows: &ScopeRows,
        key: &DataKeyRow,
        version: &DataKeyVersionRow,
        wrapping: &mut Wrapping<'_>,
        known: &Known<'_>,
        now: Moment,
    ) -> Result<Held, Arc<Failure>> {
        let failed = |error| Failure::new(error, known.failure(version), now);
        let resting = wrapping
            .resting(&version.root_key_version)
            .ok_or_else(|| failed(rows.foreign_wrapping_key(key, version)))?
            .map_err(Arc::clone)?;
        let wrapping = wrapping.expanded(&version.root_key_version, resting);
        let bytes = self
            .data_key_version(rows, key, version, wrapping)
            .map_err(failed)?;
        let newest = key.versions.last();
        Ok(if newest.is_some_and(|newest| newest.id == version.id) {
            Held::Ready(Arc::new(self.prepare_data_key(&bytes, &version.id)))
        } else {
            Held::Resting(self.rest(&bytes))
        })
    }

    /// What is held, as its version needs it: expanded if it is the newest now, which encrypts.
    fn prepared(&self, key: &DataKeyRow, version: &DataKeyVersionRow, held: Held) -> Held {
        let newest = key.versions.last();
        match held {
            Held::Resting(resting) if newest.is_some_and(|newest| newest.id == version.id) => {
                let count = Some(self.usage.of(&version.id));
                Held::Ready(Arc::new(resting.expand_counted(version.id.text(), count)))
            }
            other => other,
        }
    }

    /// The ways in which this mode may open a wrapped key, the likelier first.
    fn attempts(&self, blob: &Blob) -> impl Iterator<Item = Bound> + use<> {
        match self.binding {
            Binding::Required => [Some(Bound::Yes), None],
            _ if blob.is_marked_bound() => [Some(Bound::Yes), Some(Bound::No)],
            _ => [Some(Bound::No), Some(Bound::Yes)],
        }
        .into_iter()
        .flatten()
    }

    fn finish(&self, opened: Result<SecretBytes>, blob: &Blob) -> Result<KeyBytes> {
        match opened {
            Ok(bytes) => KeyBytes::from_slice(bytes.expose()).map_err(tampered),
            Err(error) if could_be_otherwise_bound::<SecretBytes>(&Err(error.clone())) => {
                // The mark is only a hint; here it makes the message more useful, nothing else.
                if self.binding == Binding::Required && !blob.is_marked_bound() {
                    Err(Error::new(ErrorKind::UnboundKey).with_source(error))
                } else {
                    Err(tampered(error))
                }
            }
            Err(error) => Err(error),
        }
    }
}

type RootKeys = HashMap<RootKeyVersionId, Result<Arc<RestingKey>, Arc<Failure>>>;

/// Waits no longer than this for the root wrapper.
async fn within<T>(deadline: Option<Instant>, call: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(deadline) = deadline else {
        return call.await;
    };
    timeout_at(deadline, call).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::TimedOut)
            .with_detail("the root wrapper did not return within the time that a load may take"))
    })
}

/// The root key versions of a scope, each expanded once if anything is opened with it.
struct Wrapping<'a> {
    root_keys: &'a RootKeys,
    expanded: HashMap<RootKeyVersionId, LocalKey>,
}

impl<'a> Wrapping<'a> {
    fn new(root_keys: &'a RootKeys) -> Self {
        Self {
            root_keys,
            expanded: HashMap::new(),
        }
    }

    fn resting(&self, id: &RootKeyVersionId) -> Option<Result<&'a RestingKey, &'a Arc<Failure>>> {
        let key = self.root_keys.get(id)?;
        Some(key.as_ref().map(|key| &**key))
    }

    fn expanded(&mut self, id: &RootKeyVersionId, resting: &RestingKey) -> &LocalKey {
        let expand = || resting.expand(id.text());
        self.expanded.entry(id.clone()).or_insert_with(expand)
    }
}

enum Bound {
    Yes,
    No,
}

impl Bound {
    fn aad(self, bound: &[u8]) -> &[u8] {
        match self {
            Self::Yes => bound,
            Self::No => &[],
        }
    }
}

/// Whether this failure may come from trying with the wrong AAD.
fn could_be_otherwise_bound<T>(opened: &Result<T>) -> bool {
    opened.as_ref().is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidBlob
        )
    })
}

fn tampered(source: Error) -> Error {
    Error::new(ErrorKind::TamperedKey).with_source(source)
}

impl DataKeyVersionRow {
    /// Of all that its key is opened from, but for what belongs to its data key.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of((self.version, self.root_key_version.as_str(), &self.key))
    }
}

impl ScopeRows {
    /// The root key version with the highest number.
    pub(crate) fn newest_root_key_version(&self) -> Result<&RootKeyVersionRow> {
        self.root_key_versions.last().ok_or_else(|| {
            Error::new(ErrorKind::TamperedKey)
                .with_detail("the root key has no version")
                .with_context("scope", &self.scope)
        })
    }

    /// The error for a data key version that names a root key version of another scope.
    pub(crate) fn foreign_wrapping_key(
        &self,
        key: &DataKeyRow,
        version: &DataKeyVersionRow,
    ) -> Error {
        Error::new(ErrorKind::TamperedKey)
            .with_detail("wrapped by a root key version that is not this scope's")
            .with_context("scope", &self.scope)
            .with_context("purpose", &key.purpose)
            .with_context("key_version", &version.id)
            .with_context("root_key_version", &version.root_key_version)
    }
}
