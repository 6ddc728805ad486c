//! What is stored of a campaign: how far it is, who holds it, and which scopes failed.

use std::error::Error as StdError;
use std::fmt;
use std::iter::successors;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::Outcome;
use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind, Result};
use crate::scope::ScopeId;

/// The part of a [`Repository`](crate::Repository) that campaigns need: the state of each, moved in the transaction of
/// its changes.
///
/// The defaults are those of a repository that keeps no campaigns, and refuse: an empty `impl` is enough where nobody
/// calls `rotate_all` or `rewrap_all`.
#[async_trait]
pub trait CampaignRepository: fmt::Debug + Send + Sync {
    /// Starts a campaign that this lease holds. If there is one of this id, finds it and changes nothing.
    /// It may be called again after any error.
    async fn start_campaign(&self, _new: &NewCampaign, _lease: &Lease) -> Result<CampaignState> {
        Err(no_campaigns())
    }

    /// The campaign of this id.
    async fn campaign(&self, _id: &str) -> Result<Option<CampaignState>> {
        Err(no_campaigns())
    }

    /// All campaigns, the oldest first.
    async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        Err(no_campaigns())
    }

    /// Takes or keeps a campaign, by the database's clock, and lets the lease begin anew. Returns whether the
    /// lease's holder holds it now. It may be called again after any error.
    async fn hold_campaign(&self, _campaign: &str, _lease: &Lease, _hold: Hold) -> Result<bool> {
        Err(no_campaigns())
    }

    /// Ends the lease of this holder, if it holds the campaign.
    async fn release_campaign(&self, _campaign: &str, _holder: &str) -> Result<()> {
        Err(no_campaigns())
    }

    /// Applies a batch of a campaign as [`Repository::apply`](crate::Repository::apply) does, and records its progress
    /// in that same transaction. For each change set: applied adds one to the count and removes the scope's
    /// failure; refused records a failure (its outcome says the same). The lease begins anew; a step that
    /// finishes the campaign ends it.
    ///
    /// # Errors
    ///
    /// The outer error [`ErrorKind::Conflict`], with nothing written, if another holder has taken the campaign,
    /// if the cursor is not where the step expects it, if a scope of a step that tries failures again is not among
    /// the failures, or if scopes have failed and the step is to finish the campaign.
    async fn apply_step(
        &self,
        _changes: Arc<[ChangeSet]>,
        _step: CampaignStep,
    ) -> Result<Vec<Outcome>> {
        Err(no_campaigns())
    }
}

fn no_campaigns() -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail("this repository keeps no campaigns")
}

/// A campaign to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCampaign {
    /// Chosen by the operator, or made.
    pub id: String,
    /// What it does: `rotate` or `rewrap`.
    pub kind: &'static str,
    /// Its settings in a canonical form, compared when it is found again.
    pub parameters: String,
    /// The scopes there are for it at its start.
    pub total: u64,
}

/// Who works on a campaign, and for how long nobody else may. One process at a time does, so that no scope is
/// prepared by two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// A random id of the run.
    pub holder: String,
    /// The lease ends so long after it began, by the database's clock. Another holder may take the campaign then.
    pub length: Duration,
}

/// How a campaign comes to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// If nobody else holds it, or the lease of whoever does has ended.
    Take,
    /// Only if it is held by this holder already. A lease that has ended can be kept until somebody takes it.
    Keep,
}

/// How far a campaign is.
#[derive(Clone, Debug)]
pub struct CampaignState {
    /// Its kind, as stored.
    pub kind: String,
    /// Its settings, as stored.
    pub parameters: String,
    /// The last scope of the last batch.
    pub cursor: Option<ScopeId>,
    /// Scopes changed so far.
    pub done: u64,
    /// Scopes so far that needed no change.
    pub unchanged: u64,
    /// The scopes that there were at its start.
    pub total: u64,
    /// When the last scope was done. `None` while the cursor is on its way, or scopes have failed.
    pub finish_time: Option<SystemTime>,
    /// Whose lease was the last one. It may have ended. `None` if it was released.
    pub holder: Option<String>,
    /// The scopes that failed and were not done since.
    pub failures: Vec<CampaignFailure>,
}

impl CampaignState {
    /// Records what became of a step, as a repository stores it.
    pub(crate) fn record(
        &mut self,
        changes: &[ChangeSet],
        outcomes: &[Outcome],
        step: &CampaignStep,
    ) {
        self.failures
            .retain(|known| step.scopes(changes).all(|scope| known.scope != *scope));
        for (change, outcome) in changes.iter().zip(outcomes) {
            match outcome {
                Ok(_) => self.done += 1,
                Err(error) => {
                    let failure = CampaignFailure::of(change.scope.clone(), error);
                    self.failures.push(failure);
                }
            }
        }
        self.failures.extend(step.failures.iter().cloned());
        self.unchanged += step.unchanged.len() as u64;
        match &step.advance {
            Advance::To { to, .. } => self.cursor = Some(to.clone()),
            Advance::Finish { .. } => {
                self.finish_time = Some(SystemTime::now());
                self.holder = None;
            }
            Advance::Retry => {}
        }
    }
}

/// A campaign in a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CampaignSummary {
    /// Its id.
    pub id: String,
    /// What it does: `rotate` or `rewrap`.
    pub kind: String,
    /// Its settings.
    pub parameters: String,
    /// Scopes changed so far.
    pub done: u64,
    /// Scopes so far that needed no change.
    pub unchanged: u64,
    /// Scopes that failed and were not done since.
    pub failed: u64,
    /// The scopes that there were at its start.
    pub total: u64,
    /// When it was started, by the database's clock.
    pub create_time: SystemTime,
    /// When a process that works on it was last heard of.
    pub update_time: SystemTime,
    /// When it was finished. `None` if it can be carried on.
    pub finish_time: Option<SystemTime>,
}

impl CampaignSummary {
    /// A summary that a repository fills in, from what belongs to the campaign from its start.
    #[must_use]
    pub fn new(id: String, kind: String, parameters: String, total: u64) -> Self {
        Self {
            id,
            kind,
            parameters,
            done: 0,
            unchanged: 0,
            failed: 0,
            total,
            create_time: SystemTime::UNIX_EPOCH,
            update_time: SystemTime::UNIX_EPOCH,
            finish_time: None,
        }
    }
}

/// A scope that a campaign could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignFailure {
    /// Which.
    pub scope: ScopeId,
    /// [`ErrorKind::name`](crate::ErrorKind::name) of the failure.
    pub kind: String,
    /// The message, with those of its causes. No secret is in it.
    pub message: String,
}

/// Longer than the messages of an error and its causes are; what a service answers may be of any length.
const LONGEST_MESSAGE: usize = 1_000;

impl CampaignFailure {
    /// The failure of this scope: the kind of the error, and its message followed by those of its causes, of which at
    /// most 1,000 characters are kept.
    #[must_use]
    pub fn of(scope: ScopeId, error: &Error) -> Self {
        let causes = successors(StdError::source(error), |&cause| cause.source());
        let message = causes.fold(error.to_string(), |message, cause| {
            format!("{message}: {cause}")
        });
        Self {
            scope,
            kind: error.kind().name().to_owned(),
            message: message.chars().take(LONGEST_MESSAGE).collect(),
        }
    }
}

/// The progress that goes with a batch.
#[derive(Clone, Debug)]
pub struct CampaignStep {
    /// The campaign.
    pub campaign: String,
    /// Who takes the step. Its lease begins anew.
    pub lease: Lease,
    /// What the step does to the cursor.
    pub advance: Advance,
    /// Scopes for which no change could even be prepared.
    pub failures: Vec<CampaignFailure>,
    /// Scopes that need no change. A failure of theirs is void.
    pub unchanged: Vec<ScopeId>,
}

impl CampaignStep {
    /// Every scope that the step has an answer for.
    pub fn scopes<'a>(&'a self, changes: &'a [ChangeSet]) -> impl Iterator<Item = &'a ScopeId> {
        let changed = changes.iter().map(|change| &change.scope);
        let failed = self.failures.iter().map(|failure| &failure.scope);
        changed.chain(failed).chain(&self.unchanged)
    }
}

/// Where a step moves a campaign's cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// From one scope to another.
    To {
        /// Where it must be.
        from: Option<ScopeId>,
        /// Where it goes.
        to: ScopeId,
    },
    /// To the end: every scope is done, and none has failed.
    Finish {
        /// Where it must be.
        from: Option<ScopeId>,
    },
    /// Nowhere: scopes that failed before are tried again.
    Retry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_causes_and_is_of_bounded_length() {
        let disk = std::io::Error::other("No space left on device");
        let stopped = Error::new(ErrorKind::Database)
            .with_source(Error::new(ErrorKind::Internal).with_source(disk));
        let failure = CampaignFailure::of(ScopeId::from_stored("o_1"), &stopped);
        assert_eq!(failure.kind, "Database");
        assert_eq!(
            failure.message,
            "the database refused: internal failure: No space left on device"
        );
        let long =
            Error::new(ErrorKind::Internal).with_source(std::io::Error::other("ü".repeat(9_999)));
        let failure = CampaignFailure::of(ScopeId::from_stored("o_1"), &long);
        assert_eq!(failure.message.chars().count(), LONGEST_MESSAGE);
    }
}
