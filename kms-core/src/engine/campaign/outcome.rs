//! What a campaign did, and how far it is.

use std::time::SystemTime;

use crate::repository::{CampaignFailure, CampaignState};
use crate::scope::ScopeId;

/// What became of a call of [`Kms::rotate_all`](crate::Kms::rotate_all) or
/// [`Kms::rewrap_all`](crate::Kms::rewrap_all).
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "the campaign may have been finished before, or scopes may have failed"]
pub enum CampaignOutcome {
    /// The call started the campaign.
    Started(CampaignReport),
    /// The campaign was under way: begun by an earlier call, or by another process.
    CarriedOn(CampaignReport),
    /// A campaign of this id was finished before the call. Nothing was done: for another round give it another id.
    AlreadyFinished {
        /// The id.
        id: String,
        /// When it was finished, by the database's clock.
        at: SystemTime,
    },
}

impl CampaignOutcome {
    /// What was done. `None` if nothing was, since the campaign was finished before.
    #[must_use]
    pub fn report(&self) -> Option<&CampaignReport> {
        match self {
            Self::Started(report) | Self::CarriedOn(report) => Some(report),
            Self::AlreadyFinished { .. } => None,
        }
    }
}

/// How a campaign stands at the end of a call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CampaignReport {
    /// Its id.
    pub id: String,
    /// Scopes changed since it began, in whatever process.
    pub done: u64,
    /// Scopes since it began that needed no change.
    pub unchanged: u64,
    /// All its scopes.
    pub total: u64,
    /// Scopes that could not be done. The campaign is finished when there are none: carrying it on tries them again.
    pub failures: Vec<CampaignFailure>,
}

/// How far a campaign is, after a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CampaignProgress {
    /// Scopes changed since the campaign began, in whatever process.
    pub done: u64,
    /// Scopes since it began that needed no change.
    pub unchanged: u64,
    /// Scopes that failed and were not done since.
    pub failed: usize,
    /// The scopes there were at its start. At its end this is the number that it came across, if scopes were created
    /// or deleted meanwhile.
    pub total: u64,
    /// The last scope of the last batch.
    pub cursor: Option<ScopeId>,
}

impl CampaignProgress {
    pub(super) fn of(state: &CampaignState) -> Self {
        Self {
            done: state.done,
            unchanged: state.unchanged,
            failed: state.failures.len(),
            total: total(state, state.finish_time.is_some()),
            cursor: state.cursor.clone(),
        }
    }

    /// Scopes that the campaign came across: changed, in need of no change, or failed. It grows to the total.
    #[must_use]
    pub fn processed(&self) -> u64 {
        self.done + self.unchanged + self.failed as u64
    }
}

impl CampaignReport {
    /// `state` is that at the end of the way through all scopes.
    pub(super) fn of(id: &str, state: CampaignState) -> Self {
        Self {
            id: id.to_owned(),
            done: state.done,
            unchanged: state.unchanged,
            total: total(&state, true),
            failures: state.failures,
        }
    }
}

fn total(state: &CampaignState, at_the_end: bool) -> u64 {
    let processed = state.done + state.unchanged + state.failures.len() as u64;
    if at_the_end {
        processed
    } else {
        state.total.max(processed)
    }
}
