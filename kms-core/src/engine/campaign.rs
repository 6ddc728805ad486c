//! Rotating or rewrapping every scope, in batches that can be stopped and carried on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Kms, Rewrap};
use crate::binding::Binding;
use crate::blob::Blob;
use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind, Result};
use crate::planner::{Planner, RewrapKeys};
use crate::prepared::Prepared;
use crate::repository::{
    Advance, CampaignFailure, CampaignState, CampaignStep, NewCampaign, ScopeFilter,
};
use crate::rows::ScopeRows;
use crate::scope::ScopeId;

mod ahead;
mod copies;
mod options;

use ahead::Ahead;
use copies::Copies;
pub use options::{CampaignOptions, CampaignOutcome, CampaignProgress};

/// How often the scopes that failed are tried again before the campaign ends.
const RETRY_ROUNDS: usize = 3;

/// How often in a row a batch, or a look at the database, is tried while passing failures keep it from
/// going on.
const BATCH_ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// What a campaign does to each scope.
#[derive(Clone, Copy, Debug)]
enum Work {
    Rotate(Rewrap),
    Rewrap(RewrapKeys),
}

impl Kms {
    /// Rotates the keys of every scope that the options want. A campaign of this id that was interrupted
    /// is carried on: no scope is rotated twice by it.
    ///
    /// `progress` is called after each batch.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::CampaignMismatch`] if the id belongs to another campaign; those of the repository, if
    /// they last. What fails for single scopes is in the outcome, and does not stop the others.
    pub async fn rotate_all(
        &self,
        options: &CampaignOptions,
        rewrap: Rewrap,
        progress: impl FnMut(&CampaignProgress) + Send,
    ) -> Result<CampaignOutcome> {
        self.run_campaign("rotate_all", Work::Rotate(rewrap), options, progress)
            .await
    }

    /// Rewraps the keys of every scope that the options want, as [`rotate_all`](Self::rotate_all) rotates
    /// them.
    ///
    /// # Errors
    ///
    /// As [`rotate_all`](Self::rotate_all).
    pub async fn rewrap_all(
        &self,
        options: &CampaignOptions,
        which: RewrapKeys,
        progress: impl FnMut(&CampaignProgress) + Send,
    ) -> Result<CampaignOutcome> {
        self.run_campaign("rewrap_all", Work::Rewrap(which), options, progress)
            .await
    }

    async fn run_campaign(
        &self,
        operation: &'static str,
        work: Work,
        options: &CampaignOptions,
        mut progress: impl FnMut(&CampaignProgress) + Send,
    ) -> Result<CampaignOutcome> {
        self.writable(operation)?;
        options.check()?;
        self.0.opener.root()?;
        let binds_unbound = self.0.opener.binding == Binding::Migrating
            && !matches!(work, Work::Rotate(Rewrap::No));
        let campaign = Campaign {
            kms: self,
            planner: Planner {
                // Concurrency is counted in scopes here.
                parallel: 1,
                ..self.0.planner.clone()
            },
            work,
            options,
            copies: if binds_unbound {
                Some(Copies::find(&*self.0.repository).await?)
            } else {
                None
            },
        };
        campaign.run(&mut progress).await.map_err(|error| {
            error
                .with_operation(operation)
                .with_context("campaign", &options.id)
        })
    }
}

struct Campaign<'a> {
    kms: &'a Kms,
    planner: Planner,
    work: Work,
    options: &'a CampaignOptions,
    /// Wrapped keys that stand in more than one scope; looked for where they could become bound.
    copies: Option<Copies>,
}

/// What is to be done to a scope. `None` if there is nothing to do.
type Plan = Result<Option<ChangeSet>>;

/// What planning a batch gave.
#[derive(Default)]
struct Batch {
    changes: Vec<ChangeSet>,
    failures: Vec<CampaignFailure>,
    /// Scopes with nothing to do.
    settled: Vec<ScopeId>,
}

impl Batch {
    fn add(&mut self, scope: ScopeId, plan: Plan) {
        match plan {
            Ok(Some(change)) => self.changes.push(change),
            Ok(None) => self.settled.push(scope),
            Err(error) => self.failures.push(CampaignFailure {
                scope,
                kind: error.kind().name().to_owned(),
                message: error.to_string(),
            }),
        }
    }
}

impl Campaign<'_> {
    async fn run(
        &self,
        progress: &mut (impl FnMut(&CampaignProgress) + Send),
    ) -> Result<CampaignOutcome> {
        let mut state = self.state().await?;
        let mut ahead = Ahead::of(self, state.cursor.clone());
        let mut stuck = 0;
        while !state.finished {
            let before = state.cursor.clone();
            let (batch, advance) = ahead.next().await?;
            let to = match &advance {
                Advance::To { to, .. } => Some(to.clone()),
                Advance::Finish { .. } | Advance::Retry => None,
            };
            let step = async {
                let failure = self.step(batch, advance).await?;
                // What is stored, not what this process thinks: another one may carry on the same campaign.
                Ok::<_, Error>((failure, self.state().await?))
            };
            let (failure, now) = ahead.meanwhile(step).await?;
            state = now;
            if failure.is_some() || to.is_none() || state.cursor != to {
                // What was planned ahead may be for another place.
                ahead = Ahead::of(self, state.cursor.clone());
            }
            match failure {
                Some(error) if !state.finished && state.cursor == before => {
                    stuck += 1;
                    if stuck == BATCH_ATTEMPTS {
                        return Err(error);
                    }
                }
                _ => {
                    stuck = 0;
                    progress(&CampaignProgress::of(&state));
                }
            }
        }
        for _ in 0..RETRY_ROUNDS {
            if state.failures.is_empty() {
                break;
            }
            self.retry(&state.failures).await?;
            state = self.state().await?;
            progress(&CampaignProgress::of(&state));
        }
        Ok(CampaignOutcome::of(state))
    }

    /// Starts the campaign or finds it again.
    async fn state(&self) -> Result<CampaignState> {
        let new = NewCampaign {
            id: self.options.id.clone(),
            kind: match self.work {
                Work::Rotate(_) => "rotate",
                Work::Rewrap(_) => "rewrap",
            },
            parameters: self.options.parameters(match self.work {
                Work::Rotate(Rewrap::Yes) => "rewrap",
                Work::Rotate(Rewrap::No) => "new-versions-only",
                Work::Rewrap(RewrapKeys::All) => "all",
                Work::Rewrap(RewrapKeys::ForeignRoot) => "foreign-root",
            }),
        };
        let state = persist(|| self.kms.0.repository.start_campaign(&new)).await?;
        if state.kind != new.kind || state.parameters != new.parameters {
            return Err(Error::new(ErrorKind::CampaignMismatch)
                .with_detail(format!("it is a {} with {}", state.kind, state.parameters)));
        }
        Ok(state)
    }

    /// Scopes that failed once more, one by one, so that one that goes on failing hinders no other.
    async fn retry(&self, failures: &[CampaignFailure]) -> Result<()> {
        for failure in failures {
            let scope = std::slice::from_ref(&failure.scope);
            let filter = ScopeFilter {
                scopes: Some(scope.to_vec()),
                ..self.options.scope_filter()
            };
            let wanted = persist(|| self.kms.0.repository.scopes(&filter, None, 1)).await?;
            let rows = if wanted.is_empty() {
                None
            } else {
                self.rows(scope).await?.remove(&failure.scope)
            };
            let mut batch = Batch::default();
            batch.add(failure.scope.clone(), self.plan_scope(rows).await);
            self.step(batch, Advance::Retry).await?;
        }
        Ok(())
    }

    /// The rows of these scopes; those that have none are absent.
    async fn rows(&self, scopes: &[ScopeId]) -> Result<HashMap<ScopeId, ScopeRows>> {
        let snapshot = persist(|| self.kms.0.repository.load(scopes)).await?;
        let rows = snapshot.scopes.into_iter();
        Ok(rows.map(|rows| (rows.scope.clone(), rows)).collect())
    }

    /// `rows` is `None` for a scope that was deleted, or that the filter does not want any more.
    async fn plan_scope(&self, rows: Option<ScopeRows>) -> Plan {
        let Some(rows) = rows.filter(|rows| self.wants(rows)) else {
            return Ok(None);
        };
        if let Some(copies) = &self.copies {
            copies.refuse(&rows)?;
        }
        let prepared = match self.work {
            Work::Rotate(rewrap) => {
                let rewrap = rewrap == Rewrap::Yes;
                Some(self.planner.rotate(&rows, rewrap).await?)
            }
            Work::Rewrap(which) => self.planner.rewrap(&rows, which).await?,
        };
        Ok(prepared.map(Prepared::into_change_set))
    }

    /// The part of the filter that the database can't evaluate.
    fn wants(&self, rows: &ScopeRows) -> bool {
        self.options.root_key_id.as_ref().is_none_or(|wanted| {
            rows.root_key_versions
                .iter()
                .any(|version| Blob::decode(&version.key).is_ok_and(|blob| blob.key_id() == wanted))
        })
    }

    /// Applies a batch with its progress, in a task of its own, so that the caches are told also when the
    /// caller goes away in the middle. Gives the failure, if it was a passing one.
    async fn step(&self, batch: Batch, advance: Advance) -> Result<Option<Error>> {
        let engine = Arc::clone(&self.kms.0);
        let changes: Arc<[ChangeSet]> = batch.changes.into();
        let step = CampaignStep {
            campaign: self.options.id.clone(),
            advance,
            failures: batch.failures,
            settled: batch.settled,
        };
        let apply = tokio::spawn(async move {
            let result = engine
                .repository
                .apply_step(Arc::clone(&changes), step)
                .await;
            for change in changes.iter() {
                engine.overtake(change);
            }
            result
        });
        let result = apply.await.unwrap_or_else(|source| {
            Err(Error::new(ErrorKind::Internal)
                .with_detail("the task that applied the batch ended early")
                .with_source(source))
        });
        match result {
            // Refused scopes are recorded as failures, and tried again at the end.
            Ok(_) => Ok(None),
            // Either another process moved the cursor, or nobody knows whether this one did: the stored
            // state tells, and the next batch starts from there.
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::OutcomeUnknown => {
                tracing::info!(campaign = %self.options.id, kind = error.kind().name(), "a batch was not applied, or not surely");
                tokio::time::sleep(PAUSE).await;
                Ok(Some(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// Tries again after passing failures, a bounded number of times.
async fn persist<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let mut attempt = 1;
    loop {
        match call().await {
            Err(error) if error.is_retryable() && attempt < BATCH_ATTEMPTS => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}
