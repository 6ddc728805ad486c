//! Whether the root wrapper's key is the one that the database was filled with.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use tokio::sync::OnceCell;

use super::builder::PARALLEL_ROOT_CALLS;
use super::{Engine, Kms};
use crate::blob::Blob;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::repository::{RootCheck, ScopeFilter};
use crate::root_name::RootName;
use crate::rows::{RootKeyVersionRow, ScopeRows};
use crate::secret::KeyBytes;
use crate::wrapper::{Ownership, Wrapper};

/// What a check blob holds, and what it is bound to. It is too short for a key, so that it is none wherever somebody
/// puts it.
const TEXT: &[u8] = b"kms root check";

/// Check blobs that are opened, at most: the newest. A key in Vault has one for each of its versions.
const MOST_CHECKS: usize = 8;

/// Scopes in which keys are looked for where check blobs do not suffice, and keys that are opened for each key id.
const SAMPLED_SCOPES: usize = 100;
const SAMPLED_KEYS: usize = 3;

/// Key ids that an error names, at most.
const NAMED_KEYS: usize = 3;

/// How often it is looked again after another process stored a check blob at the same time.
const ATTEMPTS: usize = 3;

/// What this engine knows about its root wrapper's key: nothing yet, or that it is the right one.
#[derive(Debug)]
pub(super) struct RightRoot {
    checked: OnceCell<()>,
    /// Whether it may be one that the database has never seen.
    may_be_new: bool,
}

impl RightRoot {
    pub(super) fn unchecked(may_be_new: bool) -> Self {
        Self {
            checked: OnceCell::new(),
            may_be_new,
        }
    }
}

impl Kms {
    /// Finds out at start-up what would fail later: that the root wrapper encrypts and decrypts
    /// ([`Wrapper::preflight`]; an engine that only decrypts leaves that out), and that its key is the one that the
    /// database was filled with, as [`KmsBuilder::build`](crate::KmsBuilder::build) does, but each time anew.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoRootWrapper`]; [`ErrorKind::WrongRootKey`]; those of the root wrapper and of the repository.
    pub async fn preflight(&self) -> Result<()> {
        let check = async {
            let root = self.0.opener.roots.own()?;
            if !self.0.opener.decrypt_only {
                guarded("the root wrapper panicked", root.preflight()).await?;
            }
            self.0.check_root().await?.map_or(Ok(()), Err)
        };
        check
            .await
            .map_err(|error: Error| error.with_operation("preflight"))
    }
}

/// A root key version and the rows of its scope.
type Sampled<'a> = (&'a ScopeRows, &'a RootKeyVersionRow);

/// What opening told about a key id.
enum Finding {
    Opens,
    /// It is another root's.
    Foreign,
    /// It is not by this key, or was altered.
    DoesNotOpen(Error),
    /// The root wrapper could not say.
    Untold(Error),
}

impl Engine {
    /// Sees to it that the key of the root that is about to wrap something is the right one: of the engine's own root,
    /// since a named one leaves no check blob. It costs calls once, and nothing from then on.
    pub(super) async fn ensure_right_root_of(&self, root: Option<&RootName>) -> Result<()> {
        match root {
            None => self.ensure_right_root().await,
            Some(_) => Ok(()),
        }
    }

    /// The same for the engine's own root.
    pub(super) async fn ensure_right_root(&self) -> Result<()> {
        let check = || async {
            if let Some(error) = self.check_root().await? {
                tracing::warn!(%error, "the root wrapper's key could not be checked");
            }
            Ok(())
        };
        if self.right_root.checked.initialized() {
            return Ok(());
        }
        let checked: BoxFuture<'_, _> = Box::pin(self.right_root.checked.get_or_try_init(check));
        checked.await.map(drop)
    }

    /// The same for an engine that is being built: a check that can't be made now is left to the first change.
    pub(super) async fn check_root_at_start(&self) -> Result<()> {
        if self.opener.roots.own().is_err() {
            return Ok(());
        }
        match self.ensure_right_root().await {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WrongRootKey | ErrorKind::SchemaVersion
                ) =>
            {
                Err(error.with_operation("build"))
            }
            Err(error) => {
                tracing::warn!(%error, "the root wrapper's key will be checked later");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Lets the root wrapper see the newest version of its key, by an encryption.
    pub(super) async fn learn_newest_version(&self) -> Result<()> {
        if self.opener.decrypt_only {
            return Err(ErrorKind::DecryptOnly.into());
        }
        let probe = KeyBytes::generate()?;
        self.encrypt_by_root(probe.expose()).await.map(drop)
    }

    /// Compares the key with the check blobs, and where they do not suffice with a sample of the keys. Stores a check
    /// blob of the present key if there is none. Returns the error of the root wrapper where it can't decrypt, and
    /// trying again would not help.
    async fn check_root(&self) -> Result<Option<Error>> {
        let mut untold = None;
        for _ in 0..ATTEMPTS {
            untold = None;
            let root = &**self.opener.roots.own()?;
            let (checks, mut foreign) = self.own_checks(root).await?;
            let mut present = false;
            let mut failed = Vec::new();
            let mut is_known = false;
            let openings: Vec<_> = checks
                .iter()
                .map(|(check, blob)| async move { (check, blob, self.open_check(blob).await) })
                .collect();
            let mut findings = stream::iter(openings).buffered(PARALLEL_ROOT_CALLS);
            while let Some((check, blob, finding)) = findings.next().await {
                is_known |= !matches!(finding, Finding::Foreign);
                match finding {
                    Finding::Opens => present |= root.is_current(blob) != Ownership::No,
                    Finding::Foreign => drop(foreign.insert(check.key_id.clone())),
                    Finding::DoesNotOpen(error) => failed.push((check, error)),
                    Finding::Untold(error) if error.is_retryable() => return Err(error),
                    Finding::Untold(error) => untold = Some(error),
                }
            }
            let mut stale = Vec::new();
            if !is_known || !failed.is_empty() {
                let sample = self.sample(root).await?;
                present |= sample
                    .values()
                    .any(|(current, finding)| *current && matches!(finding, Finding::Opens));
                for (check, error) in failed {
                    match sample.get(&check.key_id) {
                        Some((_, Finding::Opens)) => stale.push(check),
                        // Of a key that wraps nothing any more.
                        None if present => stale.push(check),
                        _ => return Err(wrong(&check.key_id, error)),
                    }
                }
                if !is_known {
                    for (key_id, (_, finding)) in sample {
                        is_known |= !matches!(finding, Finding::Foreign);
                        match finding {
                            Finding::Opens => {}
                            Finding::Foreign => drop(foreign.insert(key_id)),
                            Finding::DoesNotOpen(error) => return Err(wrong(&key_id, error)),
                            Finding::Untold(error) if error.is_retryable() => return Err(error),
                            Finding::Untold(error) => untold = Some(error),
                        }
                    }
                    if !(is_known || foreign.is_empty() || self.right_root.may_be_new) {
                        return Err(unknown(root, &foreign));
                    }
                    present = false;
                }
            }
            if self.opener.decrypt_only || (present && stale.is_empty()) {
                return Ok(untold);
            }
            if self.store_checks(&stale).await? {
                return Ok(untold);
            }
        }
        Ok(untold)
    }

    /// The check blobs that this root wrapper may have made, and the key ids of all others.
    async fn own_checks(
        &self,
        root: &dyn Wrapper,
    ) -> Result<(Vec<(RootCheck, Blob)>, BTreeSet<String>)> {
        let (mut own, mut foreign) = (Vec::new(), BTreeSet::new());
        for check in self.repository.root_checks().await? {
            match Blob::decode(&check.blob) {
                Ok(blob) if root.owns(&blob) != Ownership::No => own.push((check, blob)),
                _ => drop(foreign.insert(check.key_id)),
            }
        }
        own.truncate(MOST_CHECKS);
        Ok((own, foreign))
    }

    async fn open_check(&self, blob: &Blob) -> Finding {
        let opened = async {
            let aad = if blob.is_marked_bound() { TEXT } else { &[] };
            let text = self.opener.roots.own()?.decrypt(blob, aad).await?;
            if text.expose() == TEXT {
                Ok(())
            } else {
                Err(ErrorKind::AuthenticationFailed.into())
            }
        };
        match guarded("the root wrapper panicked", opened).await {
            Ok(()) => Finding::Opens,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AuthenticationFailed | ErrorKind::InvalidBlob
                ) =>
            {
                Finding::DoesNotOpen(error)
            }
            Err(error) => untold_or_foreign(error),
        }
    }

    /// What some of the root key versions tell, by the id of the key that wraps them; and whether that key may be the one
    /// that encrypts now. Of each id one that opens is enough, since single ones may be damaged.
    async fn sample(&self, root: &dyn Wrapper) -> Result<BTreeMap<String, (bool, Finding)>> {
        let filter = ScopeFilter::default();
        let scopes = self
            .repository
            .scopes(&filter, None, SAMPLED_SCOPES)
            .await?;
        let scopes = self.repository.load(&scopes).await?.scopes;
        let mut keys: BTreeMap<String, (bool, Vec<Sampled<'_>>)> = BTreeMap::new();
        // A tenant's own root tells nothing about this one.
        for rows in scopes.iter().filter(|rows| rows.root.is_none()) {
            for version in &rows.root_key_versions {
                let Ok(blob) = Blob::decode(&version.key) else {
                    continue;
                };
                let current = root.is_current(&blob) != Ownership::No;
                let (_, sampled) = keys
                    .entry(blob.key_id().to_owned())
                    .or_insert((current, Vec::new()));
                if sampled.len() < SAMPLED_KEYS {
                    sampled.push((rows, version));
                }
            }
        }
        let mut findings = BTreeMap::new();
        for (key_id, (current, sampled)) in keys {
            let mut finding = None;
            for (rows, version) in sampled {
                finding = Some(self.open_sampled(rows, version).await);
                if matches!(finding, Some(Finding::Opens)) {
                    break;
                }
            }
            findings.extend(finding.map(|finding| (key_id, (current, finding))));
        }
        Ok(findings)
    }

    async fn open_sampled(&self, rows: &ScopeRows, row: &RootKeyVersionRow) -> Finding {
        match self.opener.root_key_version_of(rows, row).await {
            Ok(_) => Finding::Opens,
            Err(error) if error.kind() == ErrorKind::TamperedKey => Finding::DoesNotOpen(error),
            Err(error) => untold_or_foreign(error),
        }
    }

    /// Stores a check blob of the present key, and in the place of those that are out of date. Returns whether nobody
    /// else did so meanwhile.
    async fn store_checks(&self, stale: &[&RootCheck]) -> Result<bool> {
        let blob = self.encrypt_by_root(TEXT).await?;
        let (key_id, blob) = (blob.key_id().to_owned(), blob.encode());
        let mut places: Vec<_> = stale
            .iter()
            .map(|check| (check.key_id.clone(), Some(&*check.blob)))
            .collect();
        if stale.iter().all(|check| check.key_id != key_id) {
            places.push((key_id, None));
        }
        let mut stored = true;
        for (key_id, former) in places {
            let blob = blob.clone();
            let check = RootCheck { key_id, blob };
            stored &= self.repository.store_root_check(&check, former).await?;
        }
        Ok(stored)
    }

    async fn encrypt_by_root(&self, plaintext: &[u8]) -> Result<Blob> {
        let root = self.opener.roots.own()?;
        let binds = self.opener.binding.binds();
        let aad = if binds { TEXT } else { &[] };
        let call = async { root.encrypt(plaintext, aad).await };
        let blob = guarded("the root wrapper panicked", call).await?;
        Ok(if binds { blob.marked_bound() } else { blob })
    }
}

fn untold_or_foreign(error: Error) -> Finding {
    match error.kind() {
        ErrorKind::ForeignRootKey | ErrorKind::UnknownKeyVersion => Finding::Foreign,
        _ => Finding::Untold(error),
    }
}

fn wrong(key_id: &str, cause: Error) -> Error {
    Error::new(ErrorKind::WrongRootKey)
        .with_detail(
            "it opens nothing that the database holds under its id: another key is in its place (it was replaced, or \
             deleted and made again), or what it made was altered; give the engine the former key, or a pool of both to \
             rewrap what the new one made",
        )
        .with_context("root_key_id", key_id)
        .with_source(cause)
}

/// The error for a root wrapper that may have made nothing of what the database holds; `foreign` are the ids of the keys
/// that did.
fn unknown(root: &dyn Wrapper, foreign: &BTreeSet<String>) -> Error {
    let error = Error::new(ErrorKind::WrongRootKey).with_detail(
        "nothing in the database is of the root wrapper's key; to move to a new root, give the engine a pool that holds \
         the former one too, or tell the builder root_may_be_new()",
    );
    let known: Vec<_> = foreign.iter().take(NAMED_KEYS).map(|id| &**id).collect();
    let known = known.join(", ");
    let error = error.with_context("known_root_keys", known);
    let error = error.with_context("known_root_key_count", foreign.len());
    match root.key_id() {
        Some(id) => error.with_context("root_key_id", id),
        None => error,
    }
}
