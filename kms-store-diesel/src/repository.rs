//! The core's `Repository` on a pool of diesel connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use kms_core::{
    Applied, CampaignRepository, CampaignState, CampaignStep, CampaignSummary, ChangeSet, Changes,
    CollectionVersion, Error, ErrorKind, Hold, KeyVersionId, Lease, MissingKeys, NewCampaign,
    Operation, Outcome, Purpose, Referencer, Repository, Resolution, Result, RootCheck,
    ScopeFilter, ScopeId, Snapshot, Writes,
};

use crate::apply::{apply, apply_step, create};
use crate::calls::{Calls, Pooled};
use crate::connections::check;
use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::transaction::{Terms, own_ended};

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
pub struct DieselRepository<C: Pooled> {
    calls: C::Calls,
}

impl<C: Pooled> DieselRepository<C> {
    pub(crate) fn over(calls: C::Calls) -> Self {
        Self { calls }
    }

    /// The same repository with another limit for the whole of a call, from the wait for a connection to the answer.
    /// Clones made before keep theirs. See `call_timeout` of the builders.
    ///
    /// With a limit of zero every call fails.
    #[must_use]
    pub fn with_call_timeout(self, timeout: Duration) -> Self {
        Self {
            calls: C::with_call_limit(self.calls, timeout),
        }
    }
}

impl<C: Pooled> Clone for DieselRepository<C> {
    fn clone(&self) -> Self {
        Self {
            calls: self.calls.clone(),
        }
    }
}

impl<C: Pooled> fmt::Debug for DieselRepository<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DieselRepository")
            .field("connections", &self.calls)
            .finish()
    }
}

#[async_trait]
impl<C: Dialect + Pooled<Calls: Calls<C>>> Repository for DieselRepository<C> {
    fn server_changes(&self) -> u64 {
        self.calls.server_changes()
    }

    async fn validate_schema(&self) -> Result<String> {
        let versions = self.calls.run("validate_schema", (), |_, connection, _| {
            Box::pin(async move { Ok(connection.schema_versions().await?) })
        });
        check(&versions.await?)
    }

    async fn collection_version(&self, since: Option<CollectionVersion>) -> Result<Changes> {
        self.calls
            .run("collection_version", since, |since, connection, _| {
                Box::pin(async move { Ok(connection.changes(*since).await?) })
            })
            .await
    }

    async fn scramble_collection_version(&self) -> Result<()> {
        self.calls
            .run("announce_restore", (), |_, connection, terms| {
                Box::pin(async move {
                    connection.begin_writing(terms.settings).await?;
                    let scrambled = connection.scramble_collection().await;
                    own_ended(connection, terms, scrambled.map_err(Into::into)).await
                })
            })
            .await
    }

    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot> {
        self.calls
            .run("load", scopes.to_vec(), |scopes, connection, _| {
                Box::pin(async move {
                    let scopes: Vec<_> = scopes.iter().map(ScopeId::as_str).collect();
                    Ok(connection.snapshot(&scopes).await?)
                })
            })
            .await
    }

    async fn scope_of(&self, id: &KeyVersionId) -> Result<Option<ScopeId>> {
        let scope = self.calls.run("scope_of", id.clone(), |id, connection, _| {
            Box::pin(async move { Ok(connection.owner(id).await?) })
        });
        Ok(scope.await?.as_deref().map(ScopeId::from_stored))
    }

    async fn apply(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Outcome>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        self.calls
            .run("apply", changes, |changes, connection, terms| {
                Box::pin(apply_patiently(connection, changes, terms))
            })
            .await
    }

    async fn resolve(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Resolution>> {
        self.calls
            .run("resolve", changes, |changes, connection, terms| {
                Box::pin(async move {
                    await_end(connection, changes, terms).await?;
                    let scopes: Vec<_> = changes
                        .iter()
                        .map(|change| change.scope_after().as_str())
                        .collect();
                    let found = connection.snapshot(&scopes).await?.scopes;
                    Ok(changes
                        .iter()
                        .map(|change| {
                            let scope = change.scope_after();
                            change.resolution(found.iter().find(|rows| rows.scope == *scope))
                        })
                        .collect())
                })
            })
            .await
    }

    async fn scopes(
        &self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ScopeId>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let page = (filter.clone(), after.cloned(), limit);
        let scopes = self.calls.run("scopes", page, |page, connection, _| {
            let (filter, after, limit) = page;
            Box::pin(async move { Ok(connection.scopes(filter, after.as_ref(), *limit).await?) })
        });
        Ok(scopes
            .await?
            .iter()
            .map(|scope| ScopeId::from_stored(scope))
            .collect())
    }

    async fn missing(
        &self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> Result<Vec<MissingKeys>> {
        let asked = (purposes.to_vec(), scopes.map(<[_]>::to_vec));
        self.calls
            .run("missing", asked, |(purposes, scopes), connection, _| {
                Box::pin(async move { Ok(connection.missing(purposes, scopes.as_deref()).await?) })
            })
            .await
    }

    async fn copies(&self, scope: &ScopeId, ciphertexts: &[Vec<u8>]) -> Result<Vec<KeyVersionId>> {
        let asked = (scope.clone(), ciphertexts.to_vec());
        self.calls
            .run("copies", asked, |(scope, ciphertexts), connection, _| {
                Box::pin(async move { Ok(connection.copies(scope, ciphertexts).await?) })
            })
            .await
    }

    async fn root_checks(&self) -> Result<Vec<RootCheck>> {
        self.calls
            .run("root_checks", (), |_, connection, _| {
                Box::pin(async move { Ok(connection.root_checks().await?) })
            })
            .await
    }

    async fn store_root_check(&self, check: &RootCheck, former: Option<&[u8]>) -> Result<bool> {
        let given = (check.clone(), former.map(<[u8]>::to_vec));
        self.calls
            .run(
                "store_root_check",
                given,
                |(check, former), connection, terms| {
                    Box::pin(async move {
                        connection.begin_writing(terms.settings).await?;
                        let stored = connection.store_root_check(check, former.as_deref()).await;
                        own_ended(connection, terms, stored.map_err(Into::into)).await
                    })
                },
            )
            .await
    }

    async fn referencers(&self) -> Result<Vec<Referencer>> {
        self.calls
            .run("referencers", (), |_, connection, _| {
                Box::pin(async move { Ok(connection.referencers().await?) })
            })
            .await
    }

    async fn count_scopes(&self, filter: &ScopeFilter) -> Result<u64> {
        let count = self
            .calls
            .run("count_scopes", filter.clone(), |filter, connection, _| {
                Box::pin(async move { Ok(connection.count_scopes(filter).await?) })
            });
        Ok(u64::try_from(count.await?).unwrap_or_default())
    }
}

#[async_trait]
impl<C: Dialect + Pooled<Calls: Calls<C>>> CampaignRepository for DieselRepository<C> {
    async fn start_campaign(&self, new: &NewCampaign, lease: &Lease) -> Result<CampaignState> {
        let given = (new.clone(), lease.clone());
        self.calls
            .run(
                "start_campaign",
                given,
                |(new, lease), connection, terms| {
                    Box::pin(async move {
                        connection.begin_writing(terms.settings).await?;
                        let started = start_campaign(connection, new, lease).await;
                        own_ended(connection, terms, started).await
                    })
                },
            )
            .await
    }

    async fn campaign(&self, id: &str) -> Result<Option<CampaignState>> {
        self.calls
            .run("campaign", id.to_owned(), |id, connection, _| {
                Box::pin(async move { Ok(connection.campaign(id).await?) })
            })
            .await
    }

    async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        self.calls
            .run("campaigns", (), |_, connection, _| {
                Box::pin(async move { Ok(connection.campaigns().await?) })
            })
            .await
    }

    async fn hold_campaign(&self, campaign: &str, lease: &Lease, hold: Hold) -> Result<bool> {
        let given = (campaign.to_owned(), lease.clone(), hold);
        self.calls
            .run(
                "hold_campaign",
                given,
                |(campaign, lease, hold), connection, terms| {
                    Box::pin(async move {
                        connection.begin_writing(terms.settings).await?;
                        let held = match connection.lock_campaign(campaign).await {
                            Ok(()) => connection.hold_campaign(campaign, lease, *hold).await,
                            Err(error) => Err(error),
                        };
                        own_ended(connection, terms, held.map_err(Into::into)).await
                    })
                },
            )
            .await
    }

    async fn release_campaign(&self, campaign: &str, holder: &str) -> Result<()> {
        let given = (campaign.to_owned(), holder.to_owned());
        self.calls
            .run(
                "release_campaign",
                given,
                |(campaign, holder), connection, terms| {
                    Box::pin(async move {
                        connection.begin_writing(terms.settings).await?;
                        let released = match connection.lock_campaign(campaign).await {
                            Ok(()) => connection.release_campaign(campaign, holder).await,
                            Err(error) => Err(error),
                        };
                        own_ended(connection, terms, released.map_err(Into::into)).await
                    })
                },
            )
            .await
    }

    async fn apply_step(
        &self,
        changes: Arc<[ChangeSet]>,
        step: CampaignStep,
    ) -> Result<Vec<Outcome>> {
        self.calls
            .run(
                "apply_step",
                (changes, step),
                |(changes, step), connection, terms| {
                    Box::pin(apply_step_patiently(connection, changes, step, terms))
                },
            )
            .await
    }
}

async fn start_campaign<C: Dialect>(
    connection: &mut C,
    new: &NewCampaign,
    lease: &Lease,
) -> Result<CampaignState, Failure> {
    connection.insert_campaign(new, lease).await?;
    let campaign = connection.campaign(&new.id).await?;
    campaign.ok_or_else(|| Error::new(ErrorKind::Internal).into())
}

async fn apply_step_patiently<C: Dialect>(
    connection: &mut C,
    changes: &[ChangeSet],
    step: &CampaignStep,
    terms: Terms<'_>,
) -> Result<Vec<Outcome>, Failure> {
    let changes: Vec<_> = changes.iter().collect();
    let mut again = Again::default();
    loop {
        connection.begin_writing(terms.settings).await?;
        let applied = apply_step(connection, &changes, step, Some(terms.lock)).await;
        let applied = again.checked(connection, applied).await;
        match own_ended(connection, terms, applied).await {
            Err(failure) => match again.after(&failure) {
                Some(pause) => C::pause(pause).await,
                // A conflict would say that the cursor is elsewhere.
                None if failure.is_conflict() => {
                    return Err(Error::new(ErrorKind::DatabaseBusy)
                        .with_source(failure.into_error())
                        .into());
                }
                None => return Err(failure),
            },
            other => return other,
        }
    }
}

/// When a transaction that came to nothing is run again.
#[derive(Default)]
struct Again {
    conflicts: usize,
    checks: bool,
}

impl Again {
    /// Checks what is deferred to the commit, if that was refused before.
    async fn checked<C: Dialect, T>(
        &self,
        connection: &mut C,
        result: Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.checks && result.is_ok() {
            connection.check_deferred().await?;
        }
        result
    }

    /// After which pause, if this failure passes.
    ///
    /// What is deferred to the commit may be refused there with an error that can't be told from others. Nothing was
    /// committed then, and the work runs once more, with those checks in a statement that tells.
    fn after(&mut self, failure: &Failure) -> Option<Duration> {
        if failure.is_unknown_refusal_to_commit() && !self.checks {
            self.checks = true;
            return Some(Duration::ZERO);
        }
        let pause = *PAUSES.get(self.conflicts)?;
        self.conflicts += 1;
        failure.is_conflict().then_some(pause)
    }
}

/// Applies in one transaction, and what was refused for a passing reason in further ones.
async fn apply_patiently<C: Dialect>(
    connection: &mut C,
    changes: &[ChangeSet],
    terms: Terms<'_>,
) -> Result<Vec<Outcome>, Failure> {
    if let [change] = changes
        && C::CREATES_AT_ONCE
        && change.operation == Operation::Create
    {
        return create_patiently(connection, change, terms).await;
    }
    let all: Vec<_> = changes.iter().collect();
    let Applied {
        mut outcomes,
        passing: mut again,
    } = apply_together(connection, &all, terms).await?;
    for pause in PAUSES {
        if again.is_empty() {
            break;
        }
        C::pause(pause).await;
        let changes: Vec<_> = again.iter().map(|&position| all[position]).collect();
        match apply_together(connection, &changes, terms).await {
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

async fn create_patiently<C: Dialect>(
    connection: &mut C,
    change: &ChangeSet,
    terms: Terms<'_>,
) -> Result<Vec<Outcome>, Failure> {
    let mut again = Again::default();
    loop {
        match create(connection, change, terms).await {
            Ok(outcome) => return Ok(vec![outcome]),
            Err(failure) => match again.after(&failure) {
                Some(pause) => C::pause(pause).await,
                None => return Err(failure),
            },
        }
    }
}

/// Runs the transaction again if it came to nothing for a reason that passes.
async fn apply_together<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
    terms: Terms<'_>,
) -> Result<Applied, Failure> {
    let mut again = Again::default();
    loop {
        connection.begin_writing(terms.settings).await?;
        let applied = apply(connection, changes, Some(terms.lock)).await;
        let applied = again.checked(connection, applied).await;
        match own_ended(connection, terms, applied).await {
            Err(Failure::NoneApplied(applied)) => return Ok(applied),
            Err(failure) => match again.after(&failure) {
                Some(pause) => C::pause(pause).await,
                None => return Err(failure),
            },
            other => return other,
        }
    }
}

/// Waits until a transaction that wrote these changes has ended, by asking for what it holds: the root
/// keys, and for a creation the place of the root key. Nothing is written.
///
/// Only what the database grants proves that end. A wait that ends in another way says nothing: the transaction may be
/// at its commit for a long time, when a standby is slow to confirm it.
async fn await_end<C: Dialect>(
    connection: &mut C,
    changes: &[ChangeSet],
    terms: Terms<'_>,
) -> Result<(), Failure> {
    connection.begin_writing(terms.settings).await?;
    let waited = wait_for_places(connection, changes, terms).await;
    let rolled_back = connection.roll_back().await;
    waited?;
    Ok(rolled_back?)
}

async fn wait_for_places<C: Dialect>(
    connection: &mut C,
    changes: &[ChangeSet],
    terms: Terms<'_>,
) -> Result<(), Failure> {
    let mut root_keys: Vec<_> = changes
        .iter()
        .map(|change| change.root_key.as_str())
        .collect();
    root_keys.sort_unstable();
    connection.lock(false, &root_keys, Some(terms.lock)).await?;
    let created = Writes::of(changes).root_keys();
    if created.is_empty() {
        return Ok(());
    }
    match connection.insert_root_keys(&created).await {
        // The places were free, or are taken by what is committed.
        Ok(_)
        | Err(QueryError::DatabaseError(
            DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::ForeignKeyViolation,
            _,
        )) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
