//! Changes in transactions of their own.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;

use super::{Engine, Kms};
use crate::cache::answer;
use crate::change::{ChangeSet, DeletionTarget, Operation, Proof, Receipt};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::id::KeyVersionId;
use crate::planner::RewrapKeys;
use crate::prepared::Prepared;
use crate::random;
use crate::repository::Resolution;
use crate::root_name::RootName;
use crate::scope::{Purpose, ScopeId};

/// How often a change is prepared, when others keep changing the same scope.
const ATTEMPTS: u32 = 12;

/// Upper limit of the pause before the second attempt; doubled for each further one, up to the other limit.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How often the fate of an unanswered commit is asked for.
const RESOLVE_ATTEMPTS: u32 = 3;

/// Whether a rotation also rewraps the older versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rewrap {
    /// Every older root key version is encrypted anew by the root wrapper, and every data key version by
    /// the new root key version, so that the older root key versions can be revoked.
    Yes,
    /// Older versions stay as they are.
    No,
}

/// A change that can be prepared as often as it takes.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    Create(&'a ScopeId, Option<&'a RootName>, &'a [Purpose]),
    Rotate(&'a ScopeId, Rewrap),
    Rewrap(&'a ScopeId, RewrapKeys),
    Reconcile(&'a ScopeId, &'a [Purpose]),
    Revoke(&'a KeyVersionId, Proof),
    Delete(&'a ScopeId, Proof),
    AssignRoot(&'a ScopeId, Option<&'a RootName>),
    Rename(&'a ScopeId, &'a ScopeId),
}

impl Request<'_> {
    /// The scope, where it is known before the change is prepared.
    fn scope(&self) -> Option<&ScopeId> {
        match self {
            Self::Create(scope, ..)
            | Self::Rotate(scope, _)
            | Self::Rewrap(scope, _)
            | Self::Reconcile(scope, _)
            | Self::Delete(scope, _)
            | Self::AssignRoot(scope, _)
            | Self::Rename(scope, _) => Some(scope),
            Self::Revoke(..) => None,
        }
    }

    async fn prepare(self, kms: &Kms) -> Result<Option<Prepared>> {
        match self {
            Self::Create(scope, root, purposes) => {
                kms.prepare_create(scope, root, purposes).await.map(Some)
            }
            Self::Rotate(scope, rewrap) => kms.prepare_rotate_keys(scope, rewrap).await.map(Some),
            Self::Rewrap(scope, which) => kms.prepare_rewrap_keys(scope, which).await,
            Self::Reconcile(scope, purposes) => kms.prepare_reconcile_keys(scope, purposes).await,
            Self::Revoke(id, proof) => kms.prepare_revoke(id, proof).await.map(Some),
            Self::Delete(scope, proof) => kms.prepare_delete(scope, proof).await.map(Some),
            Self::AssignRoot(scope, root) => kms.prepare_root(scope, root).await,
            Self::Rename(scope, to) => kms.prepare_rename_scope(scope, to).await,
        }
    }
}

impl Kms {
    /// Creates the keys of a scope: a root key, its first version, and for every purpose a data key and
    /// its first version. All or nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UndeclaredPurpose`], [`ErrorKind::DuplicatePurpose`], [`ErrorKind::AlreadyExists`],
    /// [`ErrorKind::NoRootWrapper`]; those of the root wrapper and of the repository.
    pub async fn create_keys(&self, scope: &ScopeId, purposes: &[Purpose]) -> Result<()> {
        self.change(Request::Create(scope, None, purposes))
            .await
            .map(drop)
    }

    /// Makes a new root key version and a new version of every data key of the scope. Older versions go
    /// on decrypting.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`]; with [`Rewrap::Yes`] the failure of any version that does not open,
    /// and [`ErrorKind::DuplicateKey`]; those of the root wrapper and of the repository.
    pub async fn rotate_keys(&self, scope: &ScopeId, rewrap: Rewrap) -> Result<()> {
        self.change(Request::Rotate(scope, rewrap)).await.map(drop)
    }

    /// Encrypts the scope's keys anew, without making new ones: for a new root wrapper, to free an older
    /// root key version, or to bind keys that came from Go kms (rotate after that).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`]; the failure of any version that does not open;
    /// [`ErrorKind::DuplicateKey`]; those of the root wrapper and of the repository.
    pub async fn rewrap_keys(&self, scope: &ScopeId, which: RewrapKeys) -> Result<()> {
        self.change(Request::Rewrap(scope, which)).await.map(drop)
    }

    /// Deletes a key version. What it encrypted is lost, so it is refused unless that is proven to be
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownKeyVersion`]; [`ErrorKind::NewestVersion`]; [`ErrorKind::InUse`] with what uses
    /// it; [`ErrorKind::UseNotProven`] for a data key version if no restricting foreign key could tell;
    /// those of the repository.
    pub async fn revoke_key_version(&self, id: &KeyVersionId) -> Result<()> {
        self.change(Request::Revoke(id, Proof::Required))
            .await
            .map(drop)
    }

    /// Deletes all keys of a scope: crypto-shredding. Deleting the application's own scope row does the
    /// same by cascade, and needs no call.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`]; [`ErrorKind::InUse`] with what uses a key;
    /// [`ErrorKind::UseNotProven`]; those of the repository.
    pub async fn delete_keys(&self, scope: &ScopeId) -> Result<()> {
        self.change(Request::Delete(scope, Proof::Required))
            .await
            .map(drop)
    }

    /// Prepares and applies, again if the scope changed in between. `None` if there was nothing to do.
    pub(super) async fn change(&self, request: Request<'_>) -> Result<Option<ChangeSet>> {
        let _turn = match request.scope() {
            Some(scope) => self.0.queues.turn(scope, &self.0.executor).await?,
            None => None,
        };
        let mut limit = FIRST_PAUSE;
        for attempt in 1.. {
            let Some(prepared) = request.prepare(self).await? else {
                return Ok(None);
            };
            let change = prepared.into_change_set();
            match self.apply(change.clone()).await {
                Ok(_) => return Ok(Some(change)),
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => {
                    let pause = random::with_rng(|rng| rng.random_range(Duration::ZERO..limit));
                    tokio::time::sleep(pause).await;
                    limit = (limit * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    return Err(error
                        .with_operation(change.operation.name())
                        .with_context("scope", &change.scope));
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Applies in a task of its own: when the caller goes away in the middle, the cache is told all the
    /// same.
    pub(super) async fn apply(&self, change: ChangeSet) -> Result<Receipt> {
        let engine = Arc::clone(&self.0);
        let (publisher, applied) = answer();
        self.0.executor.spawn(async move {
            let result = engine.apply(change).await;
            publisher.publish(result);
        })?;
        applied.wait().await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::OutcomeUnknown)
                .with_detail("the runtime in which the change was applied has ended"))
        })
    }
}

impl Engine {
    async fn apply(&self, change: ChangeSet) -> Result<Receipt> {
        let changes: Arc<[ChangeSet]> = Arc::new([change]);
        let applied = guarded(
            "the repository panicked",
            self.repository.apply(Arc::clone(&changes)),
        );
        let mut result = match applied.await {
            Ok(mut outcomes) if outcomes.len() == 1 => outcomes.remove(0),
            Ok(outcomes) => Err(Error::new(ErrorKind::Internal).with_detail(format!(
                "the repository gave {} outcomes for one change set",
                outcomes.len()
            ))),
            Err(error) => Err(error),
        };
        if let Err(error) = &result
            && error.kind() == ErrorKind::OutcomeUnknown
        {
            result = self.resolve(&changes, error.clone()).await;
        }
        // After a failure too: it costs one look at the rows, and is right whatever happened.
        self.overtake(&changes[0]);
        result
    }

    /// The answer to the commit was lost: looks for what was to be written.
    async fn resolve(&self, changes: &Arc<[ChangeSet]>, lost: Error) -> Result<Receipt> {
        for _ in 0..RESOLVE_ATTEMPTS {
            match self
                .repository
                .resolve(Arc::clone(changes))
                .await
                .as_deref()
            {
                Ok([Resolution::Applied]) => {
                    if self.is_elsewhere(&changes[0]).await.unwrap_or(true) {
                        break;
                    }
                    return Ok(Receipt::found_applied(&changes[0]));
                }
                Ok([Resolution::NotApplied]) => {
                    return Err(Error::new(ErrorKind::Conflict)
                        .with_detail("the connection was lost before the commit took effect")
                        .with_source(lost));
                }
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
                _ => break,
            }
        }
        Err(lost)
    }

    /// Whether what this change set deletes is there, under another scope id: then it was renamed, and not deleted.
    async fn is_elsewhere(&self, change: &ChangeSet) -> Result<bool> {
        let id = match (&change.delete, &change.expected) {
            (Some(deletion), Some(expected)) => match &deletion.target {
                DeletionTarget::Version(id) => id.clone(),
                DeletionTarget::Scope => expected.newest_root_key_version()?.id.clone().into(),
            },
            _ => return Ok(false),
        };
        Ok(self.repository.scope_of(&id).await?.is_some())
    }

    pub(super) fn accept(&self, receipt: &Receipt) {
        self.changed(receipt.operation(), receipt.scope(), receipt.renamed_to());
    }

    /// The change may have been applied: what is cached of its scope may be old.
    pub(super) fn overtake(&self, change: &ChangeSet) {
        let renamed_to = change.update.scope.as_ref();
        self.changed(change.operation, &change.scope, renamed_to);
    }

    fn changed(&self, operation: Operation, scope: &ScopeId, renamed_to: Option<&ScopeId>) {
        self.loader.notice_server_changes();
        if let Some(scope) = renamed_to {
            self.cache.overtake(scope);
        }
        match operation {
            Operation::Delete | Operation::Revoke | Operation::Rename => self.cache.forget(scope),
            _ => self.cache.overtake(scope),
        }
    }
}
