//! What each database does in its own words, below the logic that is the same for both.

use std::collections::HashSet;
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::{AnsiTransactionManager, Connection};
use diesel::r2d2::R2D2Connection;
use diesel::result::Error as QueryError;
use kms_core::{
    CampaignFailure, CampaignState, CampaignSummary, ChangeSet, Changes, CollectionVersion,
    Deletion, DeletionTarget, ErrorKind, Hold, KeyVersionId, Lease, MissingKeys, NewCampaign,
    Purpose, Referencer, Refusal, RootCheck, RootKeyId, ScopeFilter, ScopeId, ScopeRows, Snapshot,
    Writes, Written,
};

/// The versions that a database says it has, each `None` where its table is missing or empty.
#[derive(Debug, Default)]
pub(crate) struct SchemaVersions {
    pub(crate) shared: Option<String>,
    pub(crate) extension: Option<String>,
}

/// Statements that read the same for both databases; written once, in `key_tables.rs`, and compiled
/// against the `schema.rs` of each.
pub(crate) trait KeyTables: Connection<TransactionManager = AnsiTransactionManager> {
    fn owner(&mut self, id: &KeyVersionId) -> QueryResult<Option<String>>;

    /// Deletes a root key with all below it, or one version. Gives the number of rows named.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "Postgres has a function that tells why it failed")
    )]
    fn delete_target(
        &mut self,
        root_key: &RootKeyId,
        target: &DeletionTarget,
    ) -> QueryResult<usize>;
}

/// The statements of campaigns, which read the same for both databases too: `campaign_tables.rs`.
pub(crate) trait CampaignTables {
    fn insert_campaign(&mut self, new: &NewCampaign, lease: &Lease) -> QueryResult<()>;

    fn campaign(&mut self, id: &str) -> QueryResult<Option<CampaignState>>;

    fn campaigns(&mut self) -> QueryResult<Vec<CampaignSummary>>;

    /// Takes or keeps the campaign, and thereby locks its row. Returns whether it is held by the lease's holder.
    fn hold_campaign(&mut self, id: &str, lease: &Lease, hold: Hold) -> QueryResult<bool>;

    fn release_campaign(&mut self, id: &str, holder: &str) -> QueryResult<()>;

    /// Moves the cursor. Returns whether it was where it was expected.
    fn move_cursor(
        &mut self,
        campaign: &str,
        from: Option<&ScopeId>,
        to: &ScopeId,
    ) -> QueryResult<bool>;

    /// As [`move_cursor`](Self::move_cursor), to the end. Nobody holds the campaign any more.
    fn finish_campaign(&mut self, campaign: &str, from: Option<&ScopeId>) -> QueryResult<bool>;

    fn failed_scopes(&mut self, campaign: &str) -> QueryResult<HashSet<String>>;

    fn remove_failures(&mut self, campaign: &str, scopes: &[&str]) -> QueryResult<()>;

    fn insert_failures(&mut self, campaign: &str, failures: &[CampaignFailure]) -> QueryResult<()>;

    fn add_counts(&mut self, campaign: &str, done: u64, unchanged: u64) -> QueryResult<()>;
}

/// The statements of check blobs, which read the same for both databases too: `root_check_tables.rs`.
pub(crate) trait RootCheckTables {
    /// The newest first.
    fn root_checks(&mut self) -> QueryResult<Vec<RootCheck>>;

    /// Returns whether it was stored: there was none, or the former one.
    fn store_root_check(&mut self, check: &RootCheck, former: Option<&[u8]>) -> QueryResult<bool>;
}

/// A connection to one of the databases.
pub(crate) trait Dialect:
    KeyTables
    + CampaignTables
    + RootCheckTables
    + Reading
    + Writing
    + Renaming
    + R2D2Connection
    + Send
    + 'static
{
}

impl<
    C: KeyTables
        + CampaignTables
        + RootCheckTables
        + Reading
        + Writing
        + Renaming
        + R2D2Connection
        + Send
        + 'static,
> Dialect for C
{
}

/// Queries that differ between the databases.
pub(crate) trait Reading {
    /// Whether the server lets this session write.
    fn accepts_writes(&mut self) -> QueryResult<bool>;

    /// Never fails for a missing table.
    fn schema_versions(&mut self) -> QueryResult<SchemaVersions>;

    /// The collection version, and the way to it from an earlier one.
    fn changes(&mut self, since: Option<CollectionVersion>) -> QueryResult<Changes>;

    /// The collection version and the rows of these scopes, in one snapshot.
    fn snapshot(&mut self, scopes: &[&str]) -> QueryResult<Snapshot>;

    fn scopes(
        &mut self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: i64,
    ) -> QueryResult<Vec<String>>;

    fn count_scopes(&mut self, filter: &ScopeFilter) -> QueryResult<i64>;

    fn missing(
        &mut self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> QueryResult<Vec<MissingKeys>>;

    fn copies(
        &mut self,
        scope: &ScopeId,
        ciphertexts: &[Vec<u8>],
    ) -> QueryResult<Vec<KeyVersionId>>;

    fn referencers(&mut self) -> QueryResult<Vec<Referencer>>;
}

/// Changes that differ between the databases.
pub(crate) trait Writing: Reading {
    /// Begins a transaction that is going to write, with these statements for its settings.
    fn begin_writing(&mut self, settings: Option<&str>) -> QueryResult<()>;

    /// Whether the failure of a statement means that a lock was not to be had.
    fn is_busy(error: &QueryError) -> bool;

    /// What the failure of a statement says about the database as a whole, where that is known by its code.
    fn condition(_error: &QueryError) -> Option<ErrorKind> {
        None
    }

    fn scramble_collection(&mut self) -> QueryResult<()>;

    /// Bumps the collection version if asked, then locks these root keys in order of their ids. Waits
    /// for a lock as long as `wait` says, or for `None` as long as the connection is set to.
    fn lock(&mut self, bump: bool, root_keys: &[&str], wait: Option<Duration>) -> QueryResult<()>;

    /// Checks what is deferred to the commit, in a statement that tells why it failed.
    fn check_deferred(&mut self) -> QueryResult<()>;

    /// Locks a campaign, in a statement that tells why it failed.
    fn lock_campaign(&mut self, id: &str) -> QueryResult<()>;

    /// Locks as [`lock`](Self::lock) does, and then reads the rows of these scopes, as they are once the locks were
    /// granted.
    fn lock_and_read(
        &mut self,
        bump: bool,
        root_keys: &[&str],
        scopes: &[&str],
        wait: Option<Duration>,
    ) -> QueryResult<Vec<ScopeRows>>;

    /// Inserts root keys whose scope has none yet, and gives their ids.
    fn insert_root_keys(&mut self, rows: &[(&RootKeyId, &ScopeId)])
    -> QueryResult<HashSet<String>>;

    /// Writes all of it. Of a creation whose scope has a root key nothing is written.
    fn write(&mut self, writes: &Writes<'_>) -> QueryResult<Written>;

    /// Whether [`create`](Self::create) is there.
    const CREATES_AT_ONCE: bool = false;

    /// Creates the keys of a scope in one statement, which fails if the database assigns other numbers than the change
    /// set has.
    fn create(&mut self, change: &ChangeSet, wait: Duration) -> QueryResult<()>;

    /// Deletes, unless a foreign key of the application stands against it. Called in a savepoint, with the scope's rows.
    fn delete(
        &mut self,
        deletion: &Deletion,
        rows: &ScopeRows,
        referencers: &[Referencer],
    ) -> Result<(), DeletionFailure>;
}

/// The one way to change the scope id of a root key: past the trigger that keeps it.
pub(crate) trait Renaming {
    fn rename_scope(&mut self, root_key: &RootKeyId, scope: &ScopeId) -> QueryResult<()>;
}

/// Why a deletion did not happen.
#[derive(Debug)]
pub(crate) enum DeletionFailure {
    Refused(Refusal),
    Query(QueryError),
}

impl From<QueryError> for DeletionFailure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<kms_core::Error> for DeletionFailure {
    fn from(error: kms_core::Error) -> Self {
        Self::Refused(Refusal::Other(error))
    }
}
