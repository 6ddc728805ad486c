//! The core's `Repository` on a pool of diesel connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::connection::{AnsiTransactionManager, TransactionManager as _};
use diesel::r2d2::R2D2Connection;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use kms_core::{
    Applied, CampaignRepository, CampaignState, CampaignStep, CampaignSummary, ChangeSet, Changes,
    CollectionVersion, Error, ErrorKind, Hold, KeyVersionId, Lease, MissingKeys, NewCampaign,
    Operation, Outcome, Purpose, Referencer, Repository, Resolution, Result, RootCheck,
    ScopeFilter, ScopeId, Snapshot, Writes,
};

use crate::apply::{apply, apply_step, create};
use crate::connections::{Connections, check};
use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::transaction::{Terms, in_own_transaction};

/// Pauses before a transaction is run again because somebody held a row for a moment. Nothing is locked
/// meanwhile.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(150),
];

/// Keys in a database that diesel reaches. Named by the database:
#[cfg_attr(
    feature = "postgres",
    doc = "[`PostgresRepository`](crate::PostgresRepository)"
)]
#[cfg_attr(
    feature = "sqlite",
    doc = "[`SqliteRepository`](crate::SqliteRepository)"
)]
///
/// Every call runs on a connection of the pool, on the thread that this connection has for itself; it needs a tokio
/// runtime of either flavour with its time driver. As many calls as the pool has connections run at one time, the
/// others wait as tasks. A clone shares the pool.
///
/// A call whose caller goes away is worked on to its end. Each call has a deadline
/// ([`with_call_timeout`](Self::with_call_timeout)), whatever the database does. At the deadline the call is abandoned:
/// its connection is never used again, and the next call may have a new one in its place. If as many calls as the pool
/// has connections were abandoned, further ones fail at once, except for one a second at most, until the database has
/// answered one.
///
/// # Errors
///
/// Of every call: [`ErrorKind::DatabaseUnreachable`] if no connection could be made, or the database did not answer in
/// time; [`ErrorKind::DatabaseLogin`] if it refused the role, the password or the name of the database;
/// [`ErrorKind::DatabaseReadOnly`] if it accepts no writes; [`ErrorKind::DatabaseBusy`] if no connection was free, or a lock was not granted, in time;
/// [`ErrorKind::SchemaVersion`] if a table is missing; [`ErrorKind::Database`] for what else the database
/// refused. Neither they nor `Debug` show the connection string or a password.
///
/// A connection that the server closed is replaced, and the call runs once more, where nothing can have
/// been committed. If a commit was not answered, that is [`ErrorKind::OutcomeUnknown`]. With every other error nothing
/// was written, nor will be.
pub struct DieselRepository<C: R2D2Connection + Send + 'static> {
    connections: Connections<C>,
}

impl<C: R2D2Connection + Send + 'static> DieselRepository<C> {
    pub(crate) fn over(connections: Connections<C>) -> Self {
        Self { connections }
    }

    /// The same repository with another limit for the whole of a call, from the wait for a connection to the answer.
    /// Clones made before keep theirs. See `call_timeout` of the builders.
    ///
    /// With a limit of zero every call fails.
    #[must_use]
    pub fn with_call_timeout(self, timeout: Duration) -> Self {
        Self {
            connections: self.connections.with_call_limit(timeout),
        }
    }
}

impl<C: R2D2Connection + Send + 'static> Clone for DieselRepository<C> {
    fn clone(&self) -> Self {
        Self {
            connections: self.connections.clone(),
        }
    }
}

impl<C: R2D2Connection + Send + 'static> fmt::Debug for DieselRepository<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DieselRepository")
            .field("connections", &self.connections)
            .finish()
    }
}

#[async_trait]
impl<C: Dialect> Repository for DieselRepository<C> {
    fn server_changes(&self) -> u64 {
        self.connections.server_changes()
    }

    async fn validate_schema(&self) -> Result<String> {
        let versions = self.read("validate_schema", C::schema_versions).await?;
        check(&versions)
    }

    async fn collection_version(&self, since: Option<CollectionVersion>) -> Result<Changes> {
        self.read("collection_version", move |connection| {
            connection.changes(since)
        })
        .await
    }

    async fn scramble_collection_version(&self) -> Result<()> {
        self.write("announce_restore", |connection| {
            Ok(connection.scramble_collection()?)
        })
        .await
    }

    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot> {
        let scopes = scopes.to_vec();
        self.read("load", move |connection| {
            let scopes: Vec<_> = scopes.iter().map(ScopeId::as_str).collect();
            connection.snapshot(&scopes)
        })
        .await
    }

    async fn scope_of(&self, id: &KeyVersionId) -> Result<Option<ScopeId>> {
        let id = id.clone();
        let scope = self
            .read("scope_of", move |connection| connection.owner(&id))
            .await?;
        Ok(scope.as_deref().map(ScopeId::from_stored))
    }

    async fn apply(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Outcome>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        self.connections
            .run("apply", move |connection, terms| {
                apply_patiently(connection, &changes, terms)
            })
            .await
    }

    async fn resolve(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Resolution>> {
        self.connections
            .run("resolve", move |connection, terms| {
                await_end(connection, &changes, terms)?;
                let scopes: Vec<_> = changes
                    .iter()
                    .map(|change| change.scope_after().as_str())
                    .collect();
                let found = connection.snapshot(&scopes)?.scopes;
                Ok(changes
                    .iter()
                    .map(|change| {
                        let scope = change.scope_after();
                        change.resolution(found.iter().find(|rows| rows.scope == *scope))
                    })
                    .collect())
            })
            .await
    }

    async fn scopes(
        &self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ScopeId>> {
        let (filter, after) = (filter.clone(), after.cloned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let scopes = self
            .read("scopes", move |connection| {
                connection.scopes(&filter, after.as_ref(), limit)
            })
            .await?;
        Ok(scopes
            .iter()
            .map(|scope| ScopeId::from_stored(scope))
            .collect())
    }

    async fn missing(
        &self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> Result<Vec<MissingKeys>> {
        let (purposes, scopes) = (purposes.to_vec(), scopes.map(<[_]>::to_vec));
        self.read("missing", move |connection| {
            connection.missing(&purposes, scopes.as_deref())
        })
        .await
    }

    async fn copies(&self, scope: &ScopeId, ciphertexts: &[Vec<u8>]) -> Result<Vec<KeyVersionId>> {
        let (scope, ciphertexts) = (scope.clone(), ciphertexts.to_vec());
        self.read("copies", move |connection| {
            connection.copies(&scope, &ciphertexts)
        })
        .await
    }

    async fn root_checks(&self) -> Result<Vec<RootCheck>> {
        self.read("root_checks", C::root_checks).await
    }

    async fn store_root_check(&self, check: &RootCheck, former: Option<&[u8]>) -> Result<bool> {
        let (check, former) = (check.clone(), former.map(<[u8]>::to_vec));
        self.write("store_root_check", move |connection| {
            Ok(connection.store_root_check(&check, former.as_deref())?)
        })
        .await
    }

    async fn referencers(&self) -> Result<Vec<Referencer>> {
        self.read("referencers", C::referencers).await
    }

    async fn count_scopes(&self, filter: &ScopeFilter) -> Result<u64> {
        let filter = filter.clone();
        let count = self.read("count_scopes", move |connection| {
            connection.count_scopes(&filter)
        });
        Ok(u64::try_from(count.await?).unwrap_or_default())
    }
}

#[async_trait]
impl<C: Dialect> CampaignRepository for DieselRepository<C> {
    async fn start_campaign(&self, new: &NewCampaign, lease: &Lease) -> Result<CampaignState> {
        let (new, lease) = (new.clone(), lease.clone());
        self.write("start_campaign", move |connection| {
            connection.insert_campaign(&new, &lease)?;
            connection
                .campaign(&new.id)?
                .ok_or_else(|| Error::new(ErrorKind::Internal).into())
        })
        .await
    }

    async fn campaign(&self, id: &str) -> Result<Option<CampaignState>> {
        let id = id.to_owned();
        self.read("campaign", move |connection| connection.campaign(&id))
            .await
    }

    async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        self.read("campaigns", C::campaigns).await
    }

    async fn hold_campaign(&self, campaign: &str, lease: &Lease, hold: Hold) -> Result<bool> {
        let (campaign, lease) = (campaign.to_owned(), lease.clone());
        self.write("hold_campaign", move |connection| {
            connection.lock_campaign(&campaign)?;
            Ok(connection.hold_campaign(&campaign, &lease, hold)?)
        })
        .await
    }

    async fn release_campaign(&self, campaign: &str, holder: &str) -> Result<()> {
        let (campaign, holder) = (campaign.to_owned(), holder.to_owned());
        self.write("release_campaign", move |connection| {
            connection.lock_campaign(&campaign)?;
            Ok(connection.release_campaign(&campaign, &holder)?)
        })
        .await
    }

    async fn apply_step(
        &self,
        changes: Arc<[ChangeSet]>,
        step: CampaignStep,
    ) -> Result<Vec<Outcome>> {
        self.connections
            .run("apply_step", move |connection, terms| {
                let changes: Vec<_> = changes.iter().collect();
                retried(
                    || {
                        in_own_transaction(connection, terms, |connection| {
                            apply_step(connection, &changes, &step, Some(terms.lock))
                        })
                    },
                    Failure::is_conflict,
                )
                // A conflict would say that the cursor is elsewhere.
                .map_err(|failure| {
                    if failure.is_conflict() {
                        Error::new(ErrorKind::DatabaseBusy)
                            .with_source(failure.into_error())
                            .into()
                    } else {
                        failure
                    }
                })
            })
            .await
    }
}

impl<C: R2D2Connection + Send + 'static> DieselRepository<C> {
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        query: impl Fn(&mut C) -> diesel::QueryResult<T> + Send + 'static,
    ) -> Result<T>
    where
        C: Dialect,
    {
        self.connections
            .run(operation, move |connection, _| Ok(query(connection)?))
            .await
    }

    /// In a transaction of its own.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Fn(&mut C) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T>
    where
        C: Dialect,
    {
        self.connections
            .run(operation, move |connection, terms| {
                in_own_transaction(connection, terms, &work)
            })
            .await
    }
}

/// Applies in one transaction, and what was refused for a passing reason in further ones.
fn apply_patiently<C: Dialect>(
    connection: &mut C,
    changes: &[ChangeSet],
    terms: Terms<'_>,
) -> Result<Vec<Outcome>, Failure> {
    if let [change] = changes
        && C::CREATES_AT_ONCE
        && change.operation == Operation::Create
    {
        let created = retried(|| create(connection, change, terms), Failure::is_conflict)?;
        return Ok(vec![created]);
    }
    let all: Vec<_> = changes.iter().collect();
    let Applied {
        mut outcomes,
        passing: mut again,
    } = apply_together(connection, &all, terms)?;
    for pause in PAUSES {
        if again.is_empty() {
            break;
        }
        std::thread::sleep(pause);
        let changes: Vec<_> = again.iter().map(|&position| all[position]).collect();
        match apply_together(connection, &changes, terms) {
            Ok(applied) => {
                for (&position, outcome) in again.iter().zip(applied.outcomes) {
                    outcomes[position] = outcome;
                }
                again = applied
                    .passing
                    .iter()
                    .map(|&position| again[position])
                    .collect();
            }
            // The others may be committed: what is open stays refused as it was.
            Err(_) if outcomes.iter().any(Result::is_ok) => break,
            Err(failure) => return Err(failure),
        }
    }
    Ok(outcomes)
}

fn apply_together<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
    terms: Terms<'_>,
) -> Result<Applied, Failure> {
    let result = retried(
        || {
            in_own_transaction(connection, terms, |connection| {
                apply(connection, changes, Some(terms.lock))
            })
        },
        Failure::is_conflict,
    );
    match result {
        Err(Failure::NoneApplied(applied)) => Ok(applied),
        other => other,
    }
}

/// Runs a transaction again if it came to nothing for a reason that passes.
fn retried<T>(
    mut transaction: impl FnMut() -> Result<T, Failure>,
    passing: impl Fn(&Failure) -> bool,
) -> Result<T, Failure> {
    for pause in PAUSES {
        match transaction() {
            Err(failure) if passing(&failure) => std::thread::sleep(pause),
            other => return other,
        }
    }
    transaction()
}

/// Waits until a transaction that wrote these changes has ended, by asking for what it holds: the root
/// keys, and for a creation the place of the root key. Nothing is written.
///
/// Only what the database grants proves that end. A wait that ends in another way says nothing: the transaction may be
/// at its commit for a long time, when a standby is slow to confirm it.
fn await_end<C: Dialect>(
    connection: &mut C,
    changes: &[ChangeSet],
    terms: Terms<'_>,
) -> Result<(), Failure> {
    let mut root_keys: Vec<_> = changes
        .iter()
        .map(|change| change.root_key.as_str())
        .collect();
    root_keys.sort_unstable();
    let created = Writes::of(changes).root_keys();
    connection.begin_writing(terms.settings)?;
    let waited = connection
        .lock(false, &root_keys, Some(terms.lock))
        .and_then(|()| {
            if created.is_empty() {
                return Ok(());
            }
            match connection.insert_root_keys(&created) {
                // The places were free, or are taken by what is committed.
                Ok(_) => Ok(()),
                Err(QueryError::DatabaseError(
                    DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::ForeignKeyViolation,
                    _,
                )) => Ok(()),
                Err(error) => Err(error),
            }
        });
    let rolled_back = AnsiTransactionManager::rollback_transaction(connection);
    waited?;
    Ok(rolled_back?)
}
