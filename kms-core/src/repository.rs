//! The role of the storage.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::change::{ChangeSet, Receipt};
use crate::error::{Error, ErrorKind, Result};
use crate::id::KeyVersionId;
use crate::rows::{CollectionVersion, Snapshot};
use crate::scope::{Purpose, ScopeId};

mod campaign;
mod looking;

pub use campaign::{
    Advance, CampaignFailure, CampaignRepository, CampaignState, CampaignStep, CampaignSummary,
    Hold, Lease, NewCampaign,
};

/// Stores keys, all of them wrapped: no key in the clear ever passes through here.
///
/// # Contract
///
/// - [`load`](Self::load) is one consistent snapshot: no change is seen in part, and the collection
///   version belongs to the rows.
/// - [`apply`](Self::apply) is one transaction, and does what [`ChangeSet`] says, in that order. After a
///   crash at any point the database holds all of it or none.
/// - A dropped future may leave the work running, but it still ends as all or nothing.
/// - No call waits without bound: neither for a connection nor for a lock.
/// - It works on a current-thread and on a multi-thread tokio runtime, and does not block its threads.
///
/// # Errors
///
/// `DatabaseUnreachable`, `DatabaseLogin`, `DatabaseBusy`, `SchemaVersion`, `Database`, from what writes also
/// `DatabaseReadOnly`, and from `apply` `OutcomeUnknown` when the answer to the commit was lost.
///
/// # Implementing it
///
/// Seven methods and [`CampaignRepository`] are required. The others have a default that is right for every repository;
/// override what the database can answer in one query. [`Batch`](crate::Batch) has the rules by which
/// [`apply`](Self::apply) goes. `kms_testkit::repository` is the suite that an implementation passes.
/// [`MemoryRepository`] is the smallest one.
///
/// [`MemoryRepository`]: crate::MemoryRepository
#[async_trait]
pub trait Repository: CampaignRepository {
    /// How often this repository found out that it had been connected to a server that is not the right one any more,
    /// such as a primary that was demoted. When it grows, the engine takes nothing that was read before for confirmed:
    /// it reads the rows of each scope again before it uses their keys.
    ///
    /// It is asked after each call, and must not block. A repository that has one database for ever returns 0.
    fn server_changes(&self) -> u64 {
        0
    }

    /// The collection version as committed now, and which scopes changed since an earlier one, in one snapshot and
    /// one round trip. See [`Changes`] for what the answer promises.
    ///
    /// The default is that of a repository that keeps no record of changes, [`Changes::untold`]: caches then read the
    /// rows of every scope again after each change.
    async fn collection_version(&self, _since: Option<CollectionVersion>) -> Result<Changes> {
        Ok(Changes::untold(self.load(&[]).await?.collection))
    }

    /// Moves the collection version to a random value, so that caches filled before a restore are
    /// checked against the rows even if the restored counter happens to be theirs.
    async fn scramble_collection_version(&self) -> Result<()>;

    /// All rows of these scopes and the collection version, in one snapshot, in one round trip where
    /// the database allows. Scopes without keys are absent from the answer.
    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot>;

    /// The scope that this key version belongs to.
    async fn scope_of(&self, id: &KeyVersionId) -> Result<Option<ScopeId>>;

    /// Applies change sets of different scopes in one transaction; each is all or nothing for itself,
    /// and one that is refused does not stop the others. One outcome each, in their order.
    ///
    /// # Errors
    ///
    /// The outer error: nothing was written, or `OutcomeUnknown`. The outcomes: `Conflict`,
    /// `AlreadyExists`, `InUse`, `UseNotProven`, …
    async fn apply(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Outcome>>;

    /// Pages through the scopes that have keys, in the database's order of their ids: those after
    /// `after`, `limit` at most.
    async fn scopes(
        &self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ScopeId>>;

    /// The check blobs of all root keys, the one that was written last first. There is one for each key id.
    async fn root_checks(&self) -> Result<Vec<RootCheck>>;

    /// Stores a check blob, in a transaction of its own: where its key id has none, or in the place of the one that is
    /// `former`. Returns whether it was stored; if not, another process was first.
    async fn store_root_check(&self, check: &RootCheck, former: Option<&[u8]>) -> Result<bool>;

    /// Checks that the stored schema is the one this code was written for, and gives its version. The default is that of
    /// a repository whose schema can't be another.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SchemaVersion`], made by [`schema_mismatch`], naming expected and found.
    async fn validate_schema(&self) -> Result<String> {
        Ok(SCHEMA_VERSION.to_owned())
    }

    /// Finds out what became of change sets whose commit was not answered, by looking for their rows. It
    /// first waits until the transaction in doubt has ended.
    ///
    /// The default is that of a repository that always answers: it has nothing to find out, and says
    /// [`Resolution::Unknown`].
    async fn resolve(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Resolution>> {
        Ok(vec![Resolution::Unknown; changes.len()])
    }

    /// The purposes that these scopes (or all, for `None`) have no data key of. Scopes
    /// that lack nothing are absent; of a scope that has no root key it says so.
    ///
    /// The default loads the scopes, page by page.
    async fn missing(
        &self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> Result<Vec<MissingKeys>> {
        looking::missing(self, purposes, scopes).await
    }

    /// Key versions of other scopes whose wrapped key holds one of these ciphertexts, anywhere in its
    /// bytes: whoever copies a wrapped key can encode the rest of it in another way.
    ///
    /// The default loads all scopes, page by page.
    async fn copies(&self, scope: &ScopeId, ciphertexts: &[Vec<u8>]) -> Result<Vec<KeyVersionId>> {
        looking::copies(self, scope, ciphertexts).await
    }

    /// The foreign keys of the application to the data key versions. By default there are none, so that no data key
    /// version can be proven unused.
    async fn referencers(&self) -> Result<Vec<Referencer>> {
        Ok(Vec::new())
    }

    /// How many scopes this filter lets through. The default pages through them.
    async fn count_scopes(&self, filter: &ScopeFilter) -> Result<u64> {
        looking::count(self, filter).await
    }
}

/// A text that everybody knows, encrypted by a root key: a root wrapper that doesn't open it has another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootCheck {
    /// The id of the root key, as its blobs carry it.
    pub key_id: String,
    /// The encoded blob.
    pub blob: Vec<u8>,
}

/// The collection version as it is now, and the way from an earlier one to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// As committed now.
    pub collection: CollectionVersion,
    /// Every collection version after the one that was asked about, ascending, the present one last; empty if the two
    /// are the same. `None` if the repository can't tell: the earlier version is none of this database's history (it
    /// was restored, or [scrambled](Repository::scramble_collection_version)), lies too far back, or none was given.
    ///
    /// Rows of scopes that are in none of the steps are the same at every one of these versions.
    pub steps: Option<Vec<Step>>,
}

/// One move of the collection version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it moved to.
    pub collection: CollectionVersion,
    /// The scopes whose rows were changed or deleted by the transaction that moved it. A scope that did not change
    /// may be among them; one that did is never missing, unless that transaction created its keys.
    pub scopes: Vec<ScopeId>,
}

impl Changes {
    /// The answer of a repository that can't tell what changed.
    #[must_use]
    pub fn untold(collection: CollectionVersion) -> Self {
        Self {
            collection,
            steps: None,
        }
    }
}

/// What became of one change set.
pub type Outcome = Result<Receipt>;

/// What became of a change set whose commit was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was committed.
    Applied,
    /// It was not, and will not be.
    NotApplied,
    /// The rows allow both: later changes went over them.
    Unknown,
}

/// Which scopes to page through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopeFilter {
    /// Only scopes whose newest root key version is at least this old, by the database's clock.
    pub older_than: Option<Duration>,
    /// Only these scopes.
    pub scopes: Option<Vec<ScopeId>>,
}

/// The data keys that a scope lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKeys {
    /// Whose.
    pub scope: ScopeId,
    /// What it lacks.
    pub lack: Lack,
}

/// What a scope lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It has no keys at all.
    RootKey,
    /// It has no data key of these purposes.
    Purposes(Vec<Purpose>),
}

/// A foreign key of the application to `kms_data_key_version`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Referencer {
    /// The schema of the table, where the database has schemas.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// The column that holds the key version id.
    pub column: String,
    /// What happens to its rows when the key version goes.
    pub on_delete: OnDelete,
}

/// What a foreign key does to its rows on deletion of what they reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnDelete {
    /// `restrict`: refuses.
    Restrict,
    /// `no action`: refuses, at the end of the statement or transaction.
    NoAction,
    /// `cascade`: deletes them.
    Cascade,
    /// `set null`.
    SetNull,
    /// `set default`.
    SetDefault,
}

impl OnDelete {
    /// Whether it keeps a key version that is in use from being deleted.
    #[must_use]
    pub fn restricts(self) -> bool {
        matches!(self, Self::Restrict | Self::NoAction)
    }
}

/// Checks that these foreign keys can prove a data key version unused: at least one, and each of them
/// restricting.
///
/// # Errors
///
/// [`ErrorKind::UseNotProven`], naming the one that does not restrict.
pub fn provable(referencers: &[Referencer]) -> Result<()> {
    if referencers.is_empty() {
        return Err(Error::new(ErrorKind::UseNotProven)
            .with_detail("no table has a foreign key to kms_data_key_version"));
    }
    match referencers
        .iter()
        .find(|known| !known.on_delete.restricts())
    {
        None => Ok(()),
        Some(loose) => {
            let error = Error::new(ErrorKind::UseNotProven)
                .with_detail("this foreign key would take its rows along or empty them")
                .with_context("table", &loose.table)
                .with_context("column", &loose.column);
            Err(match &loose.schema {
                Some(schema) => error.with_context("schema", schema),
                None => error,
            })
        }
    }
}

impl fmt::Display for Referencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// The version of the part of the schema that is shared with Go kms.
pub const SCHEMA_VERSION: &str = "v0.0.2";

/// The error for another schema version than the expected one.
#[must_use]
pub fn schema_mismatch(expected: &str, found: Option<&str>) -> Error {
    Error::new(ErrorKind::SchemaVersion)
        .with_operation("validate_schema")
        .with_context("expected", expected)
        .with_context("found", found.unwrap_or("none"))
}
