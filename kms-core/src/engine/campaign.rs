//! Rotating or rewrapping every scope, in batches that can be stopped and carried on.

use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;

use super::{Kms, Rewrap};
use crate::binding::Binding;
use crate::blob::Blob;
use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind, Result};
use crate::planner::{Planner, RewrapKeys};
use crate::prepared::Prepared;
use crate::repository::{
    Advance, CampaignFailure, CampaignState, CampaignSummary, Hold, NewCampaign,
};
use crate::rows::ScopeRows;
use crate::scope::ScopeId;

mod ahead;
mod breaker;
mod copies;
mod id;
mod options;
mod outcome;
mod pages;
mod parameters;
mod patience;
mod step;
mod turn;

use ahead::Ahead;
use breaker::Breaker;
use copies::Copies;
pub use id::CampaignId;
pub use options::CampaignOptions;
pub use outcome::{CampaignOutcome, CampaignProgress, CampaignReport};
use pages::Source;
use parameters::Parameters;
use step::Stepped;
use turn::Turn;

/// How often the scopes that failed are tried again before the call ends.
const RETRY_ROUNDS: usize = 3;

/// What a campaign does to each scope.
#[derive(Clone, Copy, Debug)]
enum Work {
    Rotate(Rewrap),
    Rewrap(RewrapKeys),
}

impl Work {
    fn kind(self) -> &'static str {
        match self {
            Self::Rotate(_) => "rotate",
            Self::Rewrap(_) => "rewrap",
        }
    }
}

impl Kms {
    /// Rotates the keys of every scope that the options want. A campaign of this id that was interrupted
    /// is carried on: no scope is rotated twice by it.
    ///
    /// One process at a time works on a campaign; others that were called with its id wait, and take over if that one
    /// goes away. `progress` is called after each batch, in those that wait too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::CampaignMismatch`] if the id belongs to another campaign;
    /// [`ErrorKind::CampaignSuspended`] if the root wrapper fails for one scope after the other; those of the
    /// repository, if they last longer than the [`patience`](CampaignOptions::patience). After any of the latter two
    /// the same call carries the campaign on. What fails for single scopes is in the outcome, and does not stop the
    /// others.
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
    /// them. The root key that it rewraps to belongs to the campaign: the same id with another one is a
    /// [`CampaignMismatch`](ErrorKind::CampaignMismatch), where the root wrapper knows its key's id.
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

    /// All campaigns there have been, the oldest first.
    ///
    /// # Errors
    ///
    /// Those of the repository.
    pub async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        self.0.repository.campaigns().await
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
        let root = self.0.opener.root()?;
        let binds = self.0.opener.binding.binds();
        let known_key_id = self.0.root_key_id.as_deref();
        let parameters = Parameters::of(work, options, binds, &**root, known_key_id);
        let campaign = Campaign {
            kms: self,
            id: options.id.text(work.kind(), &parameters, SystemTime::now()),
            planner: Planner {
                // Concurrency is counted in scopes here.
                parallel: 1,
                ..self.0.planner.clone()
            },
            work,
            options,
            parameters,
            breaker: Breaker::of(options.concurrency),
            copies: OnceCell::new(),
        };
        let mut turn = Turn::new(&self.0, &campaign.id, options.lease);
        let outcome = campaign.run(&mut turn, &mut progress).await;
        turn.release().await;
        outcome.map_err(|error| {
            error
                .with_operation(operation)
                .with_context("campaign", &campaign.id)
        })
    }
}

struct Campaign<'a> {
    kms: &'a Kms,
    id: String,
    planner: Planner,
    work: Work,
    options: &'a CampaignOptions,
    parameters: Parameters,
    breaker: Breaker,
    /// Wrapped keys that stand in more than one scope; looked for where they could become bound.
    copies: OnceCell<Copies>,
}

/// What is to be done to a scope. `None` if there is nothing to do.
type Plan = Result<Option<ChangeSet>>;

/// What planning a batch gave.
#[derive(Default)]
struct Batch {
    changes: Vec<ChangeSet>,
    failures: Vec<CampaignFailure>,
    /// Scopes with nothing to do.
    unchanged: Vec<ScopeId>,
}

impl Batch {
    fn add(&mut self, scope: ScopeId, plan: Plan) {
        match plan {
            Ok(Some(change)) => self.changes.push(change),
            Ok(None) => self.unchanged.push(scope),
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
        turn: &mut Turn,
        progress: &mut (impl FnMut(&CampaignProgress) + Send),
    ) -> Result<CampaignOutcome> {
        let (mut state, started) = self.open(turn).await?;
        if let Some(at) = state.finish_time {
            turn.close();
            let id = self.id.clone();
            return Ok(CampaignOutcome::AlreadyFinished { id, at });
        }
        let mut held = started;
        while state.finish_time.is_none() {
            if !held {
                held = self.await_turn(turn, &mut state, progress).await?;
                continue;
            }
            let heartbeat = turn.keep();
            let work = self.work(turn, &mut state, progress);
            match heartbeat.whilst(work).await {
                Some(Ok(Stepped::Yes)) => {
                    if state.finish_time.is_some() {
                        // The step that finished it released it.
                        turn.close();
                    }
                    break;
                }
                Some(Ok(Stepped::Lost)) | None => held = false,
                Some(Err(error)) => return Err(error),
            }
        }
        let report = CampaignReport::of(&self.id, state);
        Ok(if started {
            CampaignOutcome::Started(report)
        } else {
            CampaignOutcome::CarriedOn(report)
        })
    }

    /// Finds the campaign or starts it. Returns whether this run started it, and thereby holds it.
    async fn open(&self, turn: &Turn) -> Result<(CampaignState, bool)> {
        let repository = &self.kms.0.repository;
        let found = self.persist(|| repository.campaign(&self.id)).await?;
        let (state, started) = match found {
            Some(state) => (state, false),
            None => {
                let filter = self.options.age_filter();
                let new = NewCampaign {
                    id: self.id.clone(),
                    kind: self.work.kind(),
                    parameters: self.parameters.to_text(),
                    total: match &self.options.scopes {
                        Some(scopes) => scopes.len() as u64,
                        None => self.persist(|| repository.count_scopes(&filter)).await?,
                    },
                };
                let state = self.persist(|| repository.start_campaign(&new, &turn.lease));
                let state = state.await?;
                let started = state.holder.as_ref() == Some(&turn.lease.holder);
                (state, started)
            }
        };
        if state.kind != self.work.kind() || !self.parameters.fit(&state.parameters) {
            return Err(Error::new(ErrorKind::CampaignMismatch)
                .with_detail(format!("it is a {} with {}", state.kind, state.parameters)));
        }
        Ok((state, started))
    }

    /// Takes the campaign as soon as no other run holds it. Returns whether this one holds it now: it does not if the
    /// campaign was finished meanwhile.
    async fn await_turn(
        &self,
        turn: &Turn,
        state: &mut CampaignState,
        progress: &mut (impl FnMut(&CampaignProgress) + Send),
    ) -> Result<bool> {
        loop {
            let held = self.persist(|| turn.hold(Hold::Take)).await?;
            let before = CampaignProgress::of(state);
            *state = self.stored().await?;
            let now = CampaignProgress::of(state);
            if now != before {
                progress(&now);
            }
            if held || state.finish_time.is_some() {
                return Ok(held);
            }
            tokio::time::sleep(turn.pause()).await;
        }
    }

    /// Goes through all scopes, then once more through those that failed.
    async fn work(
        &self,
        turn: &Turn,
        state: &mut CampaignState,
        progress: &mut (impl FnMut(&CampaignProgress) + Send),
    ) -> Result<Stepped> {
        let binds_unbound = self.kms.0.opener.binding == Binding::Migrating
            && !matches!(self.work, Work::Rotate(Rewrap::No));
        if binds_unbound {
            let repository = &*self.kms.0.repository;
            let find = || Copies::find(repository, self.options.patience);
            self.copies.get_or_try_init(find).await?;
        }
        let source = Source::from(self.options, state.cursor.clone());
        if self.go(source, turn, state, progress).await? == Stepped::Lost {
            return Ok(Stepped::Lost);
        }
        for _ in 0..RETRY_ROUNDS {
            if state.failures.is_empty() {
                break;
            }
            let source = Source::again(self.options, &state.failures);
            match self.go(source, turn, state, progress).await {
                Ok(Stepped::Yes) => {}
                Ok(Stepped::Lost) => return Ok(Stepped::Lost),
                // All others are done: what goes on failing is in the report.
                Err(error)
                    if error.kind() == ErrorKind::CampaignSuspended && self.breaker.worked() =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if !state.failures.is_empty() {
            return Ok(Stepped::Yes);
        }
        let from = state.cursor.clone();
        let finish = Advance::Finish { from };
        let finished = self.step(turn, state, Batch::default(), finish).await?;
        if finished == Stepped::Yes {
            progress(&CampaignProgress::of(state));
        }
        Ok(finished)
    }

    /// Plans and applies what the source gives.
    async fn go(
        &self,
        source: Source,
        turn: &Turn,
        state: &mut CampaignState,
        progress: &mut (impl FnMut(&CampaignProgress) + Send),
    ) -> Result<Stepped> {
        let mut ahead = Ahead::of(self, source);
        while let Some((batch, advance)) = ahead.next().await? {
            let step = self.step(turn, state, batch, advance);
            if ahead.meanwhile(step).await? == Stepped::Lost {
                return Ok(Stepped::Lost);
            }
            progress(&CampaignProgress::of(state));
        }
        Ok(Stepped::Yes)
    }

    /// The campaign as it is stored.
    async fn stored(&self) -> Result<CampaignState> {
        let repository = &self.kms.0.repository;
        let found = self.persist(|| repository.campaign(&self.id)).await?;
        found.ok_or_else(|| {
            Error::new(ErrorKind::Conflict).with_detail("the campaign's row was deleted")
        })
    }

    async fn persist<T, F: Future<Output = Result<T>>>(&self, call: impl Fn() -> F) -> Result<T> {
        let patience: Duration = self.options.patience;
        patience::persist(patience, call).await
    }

    /// `rows` is `None` for a scope that was deleted, or that the filter does not want any more.
    async fn plan_scope(&self, rows: Option<ScopeRows>) -> Plan {
        let Some(rows) = rows.filter(|rows| self.wants(rows)) else {
            return Ok(None);
        };
        if let Some(copies) = self.copies.get() {
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
}
