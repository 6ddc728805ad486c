//! Rotating or rewrapping every scope, in batches that can be stopped and carried on.

use std::time::SystemTime;

use tokio::sync::OnceCell;

use super::{Kms, Rewrap};
use crate::blob::Blob;
use crate::change::ChangeSet;
use crate::error::{Error, Result};
use crate::planner::{Planner, RewrapKeys};
use crate::prepared::Prepared;
use crate::repository::{Advance, CampaignFailure, CampaignSummary};
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
mod run;
mod step;
mod turn;

use breaker::Breaker;
use copies::Copies;
pub use id::CampaignId;
pub use options::CampaignOptions;
pub use outcome::{CampaignOutcome, CampaignProgress, CampaignReport};
use parameters::Parameters;
use turn::Turn;

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
    /// [`CampaignMismatch`](crate::ErrorKind::CampaignMismatch) if the id belongs to another campaign;
    /// [`WrongRootKey`](crate::ErrorKind::WrongRootKey);
    /// [`CampaignSuspended`](crate::ErrorKind::CampaignSuspended) if the root wrapper fails for one scope after the other; those of the
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
    /// [`CampaignMismatch`](crate::ErrorKind::CampaignMismatch), where the root wrapper knows its key's id.
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
        let root = self.0.opener.roots.own()?;
        self.0.ensure_right_root().await?;
        if matches!(work, Work::Rewrap(RewrapKeys::OlderVersions)) {
            self.0.learn_newest_version().await?;
        }
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
            Err(error) => self.failures.push(CampaignFailure::of(scope, &error)),
        }
    }
}

impl Campaign<'_> {
    /// `rows` is `None` for a scope that was deleted, or that the filter does not want any more.
    async fn plan_scope(&self, rows: Option<ScopeRows>) -> Plan {
        let Some(rows) = rows.filter(|rows| self.wants(rows)) else {
            return Ok(None);
        };
        self.breaker.admit(rows.root.as_ref())?;
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
