//! Campaigns: a cursor that moves together with the changes it stands for.

use std::collections::hash_map::Entry;
use std::time::SystemTime;

use tokio::time::Instant;

use super::state::State;
use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::{
    Advance, CampaignState, CampaignStep, CampaignSummary, Hold, Lease, NewCampaign, Outcome,
};

/// A row of the table of campaigns.
#[derive(Debug)]
pub(super) struct Campaign {
    state: CampaignState,
    /// By tokio's clock, so that tests can move it.
    lease_end: Instant,
    create_time: SystemTime,
    update_time: SystemTime,
}

impl Campaign {
    fn new(new: &NewCampaign) -> Self {
        let now = SystemTime::now();
        Self {
            state: CampaignState {
                kind: new.kind.to_owned(),
                parameters: new.parameters.clone(),
                cursor: None,
                done: 0,
                unchanged: 0,
                total: new.total,
                finish_time: None,
                holder: None,
                failures: Vec::new(),
            },
            lease_end: Instant::now(),
            create_time: now,
            update_time: now,
        }
    }

    fn hold(&mut self, lease: &Lease, hold: Hold) -> bool {
        let ours = self.state.holder.as_ref() == Some(&lease.holder);
        let free = self.state.holder.is_none() || self.lease_end <= Instant::now();
        let held = ours || (hold == Hold::Take && free);
        if held {
            self.state.holder = Some(lease.holder.clone());
            self.lease_end = Instant::now() + lease.length;
            self.update_time = SystemTime::now();
        }
        held
    }

    /// Why a step can't be taken, if so.
    fn refusal(&self, changes: &[ChangeSet], step: &CampaignStep) -> Option<&'static str> {
        let Self { state, .. } = self;
        if state.holder.as_ref() != Some(&step.lease.holder) {
            return Some("another process carries on the campaign");
        }
        let in_place = match &step.advance {
            Advance::To { from, .. } => state.finish_time.is_none() && state.cursor == *from,
            Advance::Finish { from } => {
                state.finish_time.is_none() && state.cursor == *from && state.failures.is_empty()
            }
            Advance::Retry => step
                .scopes(changes)
                .all(|scope| state.failures.iter().any(|known| known.scope == *scope)),
        };
        (!in_place).then_some("the campaign is not where the step expects it")
    }

    fn summary(&self, id: &str) -> CampaignSummary {
        let Self { state, .. } = self;
        CampaignSummary {
            done: state.done,
            unchanged: state.unchanged,
            failed: state.failures.len() as u64,
            create_time: self.create_time,
            update_time: self.update_time,
            finish_time: state.finish_time,
            ..CampaignSummary::new(
                id.to_owned(),
                state.kind.clone(),
                state.parameters.clone(),
                state.total,
            )
        }
    }
}

impl State {
    pub(super) fn start_campaign(&mut self, new: &NewCampaign, lease: &Lease) -> CampaignState {
        let campaign = match self.campaigns.entry(new.id.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let campaign = place.insert(Campaign::new(new));
                campaign.hold(lease, Hold::Take);
                campaign
            }
        };
        campaign.state.clone()
    }

    pub(super) fn campaign(&self, id: &str) -> Option<CampaignState> {
        self.campaigns.get(id).map(|known| known.state.clone())
    }

    pub(super) fn campaigns(&self) -> Vec<CampaignSummary> {
        let mut campaigns: Vec<_> = self
            .campaigns
            .iter()
            .map(|(id, campaign)| campaign.summary(id))
            .collect();
        campaigns.sort_by(|a, b| (a.create_time, &a.id).cmp(&(b.create_time, &b.id)));
        campaigns
    }

    pub(super) fn hold_campaign(&mut self, id: &str, lease: &Lease, hold: Hold) -> bool {
        self.campaigns
            .get_mut(id)
            .is_some_and(|campaign| campaign.hold(lease, hold))
    }

    pub(super) fn release_campaign(&mut self, id: &str, holder: &str) {
        if let Some(campaign) = self.campaigns.get_mut(id)
            && campaign.state.holder.as_deref() == Some(holder)
        {
            campaign.state.holder = None;
        }
    }

    pub(super) fn apply_step(
        &mut self,
        changes: &[ChangeSet],
        step: &CampaignStep,
    ) -> Result<Vec<Outcome>> {
        let Some(mut campaign) = self.campaigns.remove(&step.campaign) else {
            return Err(refused(step, "there is no such campaign"));
        };
        let outcomes = match campaign.refusal(changes, step) {
            Some(detail) => Err(refused(step, detail)),
            None => {
                campaign.hold(&step.lease, Hold::Keep);
                let outcomes = self.apply(changes);
                campaign.state.record(changes, &outcomes, step);
                Ok(outcomes)
            }
        };
        self.campaigns.insert(step.campaign.clone(), campaign);
        outcomes
    }
}

fn refused(step: &CampaignStep, detail: &'static str) -> Error {
    Error::new(ErrorKind::Conflict)
        .with_detail(detail)
        .with_context("campaign", &step.campaign)
}
