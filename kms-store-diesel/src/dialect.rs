//! What each database does in its own words, below the logic that is the same for both.

use std::collections::HashSet;
use std::time::Duration;

use diesel::QueryResult;
use diesel::result::Error as QueryError;
use kms_core::{
    CampaignFailure, CampaignState, CampaignSummary, ChangeSet, Changes, CollectionVersion,
    Deletion, DeletionTarget, ErrorKind, Hold, KeyVersionId, Lease, MissingKeys, NewCampaign,
    Purpose, Referencer, Refusal, RootCheck, RootKeyId, ScopeFilter, ScopeId, ScopeRows, Snapshot,
    Writes, Written,
};

use crate::transaction::Transactions;

/// The versions that a database says it has, each `None` where its table is missing or empty.
#[derive(Debug, Default)]
pub(crate) struct SchemaVersions {
    pub(crate) shared: Option<String>,
    pub(crate) extension: Option<String>,
}

/// Statements that read the same for both databases; written once, in `key_tables.rs`, and compiled
/// against the `schema.rs` of each.
pub(crate) trait KeyTables {
    fn owner(
        &mut self,
        id: &KeyVersionId,
    ) -> impl Future<Output = QueryResult<Option<String>>> + Send;

    /// Deletes a root key with all below it, or one version. Gives the number of rows named.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "Postgres has a function that tells why it failed")
    )]
    fn delete_target(
        &mut self,
        root_key: &RootKeyId,
        target: &DeletionTarget,
    ) -> impl Future<Output = QueryResult<usize>> + Send;
}

/// The statements of campaigns, which read the same for both databases too: `campaign_tables.rs`.
pub(crate) trait CampaignTables {
    fn insert_campaign(
        &mut self,
        new: &NewCampaign,
        lease: &Lease,
    ) -> impl Future<Output = QueryResult<()>> + Send;

    fn campaign(
        &mut self,
        id: &str,
    ) -> impl Future<Output = QueryResult<Option<CampaignState>>> + Send;

    fn campaigns(&mut self) -> impl Future<Output = QueryResult<Vec<CampaignSummary>>> + Send;

    /// Takes or keeps the campaign, and thereby locks its row. Returns whether it is held by the lease's holder.
    fn hold_campaign(
        &mut self,
        id: &str,
        lease: &Lease,
        hold: Hold,
    ) -> impl Future<Output = QueryResult<bool>> + Send;

    fn release_campaign(
        &mut self,
        id: &str,
        holder: &str,
    ) -> impl Future<Output = QueryResult<()>> + Send;

    /// Moves the cursor. Returns whether it was where it was expected.
    fn move_cursor(
        &mut self,
        campaign: &str,
        from: Option<&ScopeId>,
        to: &ScopeId,
    ) -> impl Future<Output = QueryResult<bool>> + Send;

    /// As [`move_cursor`](Self::move_cursor), to the end. Nobody holds the campaign any more.
    fn finish_campaign(
        &mut self,
        campaign: &str,
        from: Option<&ScopeId>,
    ) -> impl Future<Output = QueryResult<bool>> + Send;

    fn failed_scopes(
        &mut self,
        campaign: &str,
    ) -> impl Future<Output = QueryResult<HashSet<String>>> + Send;

    fn remove_failures(
        &mut self,
        campaign: &str,
        scopes: &[&str],
    ) -> impl Future<Output = QueryResult<()>> + Send;

    fn insert_failures(
        &mut self,
        campaign: &str,
        failures: &[CampaignFailure],
    ) -> impl Future<Output = QueryResult<()>> + Send;

    fn add_counts(
        &mut self,
        campaign: &str,
        done: u64,
        unchanged: u64,
    ) -> impl Future<Output = QueryResult<()>> + Send;
}

/// The statements of check blobs, which read the same for both databases too: `root_check_tables.rs`.
pub(crate) trait RootCheckTables {
    /// The newest first.
    fn root_checks(&mut self) -> impl Future<Output = QueryResult<Vec<RootCheck>>> + Send;

    /// Returns whether it was stored: there was none, or the former one.
    fn store_root_check(
        &mut self,
        check: &RootCheck,
        former: Option<&[u8]>,
    ) -> impl Future<Output = QueryResult<bool>> + Send;
}

/// A connection to one of the databases, that of diesel or that of diesel-async. On one of diesel every future is ready
/// at once: `blocking.rs`.
pub(crate) trait Dialect:
    KeyTables
    + CampaignTables
    + RootCheckTables
    + Reading
    + Writing
    + Renaming
    + Transactions
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
        + Transactions
        + Send
        + 'static,
> Dialect for C
{
}

/// Queries that differ between the databases.
pub(crate) trait Reading {
    /// Whether the server lets this session write.
    fn accepts_writes(&mut self) -> impl Future<Output = QueryResult<bool>> + Send;

    /// Never fails for a missing table.
    fn schema_versions(&mut self) -> impl Future<Output = QueryResult<SchemaVersions>> + Send;

    /// The collection version, and the way to it from an earlier one.
    fn changes(
        &mut self,
        since: Option<CollectionVersion>,
    ) -> impl Future<Output = QueryResult<Changes>> + Send;

    /// The collection version and the rows of these scopes, in one snapshot.
    fn snapshot(&mut self, scopes: &[&str]) -> impl Future<Output = QueryResult<Snapshot>> + Send;

    fn scopes(
        &mut self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: i64,
    ) -> impl Future<Output = QueryResult<Vec<String>>> + Send;

    fn count_scopes(
        &mut self,
        filter: &ScopeFilter,
    ) -> impl Future<Output = QueryResult<i64>> + Send;

    fn missing(
        &mut self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> impl Future<Output = QueryResult<Vec<MissingKeys>>> + Send;

    fn copies(
        &mut self,
        scope: &ScopeId,
        ciphertexts: &[Vec<u8>],
    ) -> impl Future<Output = QueryResult<Vec<KeyVersionId>>> + Send;

    fn referencers(&mut self) -> impl Future<Output = QueryResult<Vec<Referencer>>> + Send;
}

/// Changes that differ between the databases.
pub(crate) trait Writing: Reading {
    /// Begins a transaction that is going to write, with these statements for its settings.
    fn begin_writing(
        &mut self,
        settings: Option<&str>,
    ) -> impl Future<Output = QueryResult<()>> + Send;

    /// Whether the failure of a statement means that a lock was not to be had.
    fn is_busy(error: &QueryError) -> bool;

    /// What the failure of a statement says about the database as a whole, where that is known by its code.
    fn condition(_error: &QueryError) -> Option<ErrorKind> {
        None
    }

    fn scramble_collection(&mut self) -> impl Future<Output = QueryResult<()>> + Send;

    /// Bumps the collection version if asked, then locks these root keys in order of their ids. Waits
    /// for a lock as long as `wait` says, or for `None` as long as the connection is set to.
    fn lock(
        &mut self,
        bump: bool,
        root_keys: &[&str],
        wait: Option<Duration>,
    ) -> impl Future<Output = QueryResult<()>> + Send;

    /// Checks what is deferred to the commit, in a statement that tells why it failed.
    fn check_deferred(&mut self) -> impl Future<Output = QueryResult<()>> + Send;

    /// Locks a campaign, in a statement that tells why it failed.
    fn lock_campaign(&mut self, id: &str) -> impl Future<Output = QueryResult<()>> + Send;

    /// Locks as [`lock`](Self::lock) does, and then reads the rows of these scopes, as they are once the locks were
    /// granted.
    fn lock_and_read(
        &mut self,
        bump: bool,
        root_keys: &[&str],
        scopes: &[&str],
        wait: Option<Duration>,
    ) -> impl Future<Output = QueryResult<Vec<ScopeRows>>> + Send;

    /// Inserts root keys whose scope has none yet, and gives their ids.
    fn insert_root_keys(
        &mut self,
        rows: &[(&RootKeyId, &ScopeId)],
    ) -> impl Future<Output = QueryResult<HashSet<String>>> + Send;

    /// Writes all of it. Of a creation whose scope has a root key nothing is written.
    fn write(&mut self, writes: &Writes<'_>) -> impl Future<Output = QueryResult<Written>> + Send;

    /// Whether [`create`](Self::create) is there.
    const CREATES_AT_ONCE: bool = false;

    /// Creates the keys of a scope in one statement, which fails if the database assigns other numbers than the change
    /// set has.
    fn create(
        &mut self,
        change: &ChangeSet,
        wait: Duration,
    ) -> impl Future<Output = QueryResult<()>> + Send;

    /// Deletes, unless a foreign key of the application stands against it. Called in a savepoint, with the scope's rows.
    fn delete(
        &mut self,
        deletion: &Deletion,
        rows: &ScopeRows,
        referencers: &[Referencer],
    ) -> impl Future<Output = Result<(), DeletionFailure>> + Send;
}

/// The one way to change the scope id of a root key: past the trigger that keeps it.
pub(crate) trait Renaming {
    fn rename_scope(
        &mut self,
        root_key: &RootKeyId,
        scope: &ScopeId,
    ) -> impl Future<Output = QueryResult<()>> + Send;
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
