//! Campaigns: a cursor that moves together with the changes it stands for.

use super::state::State;
use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::{
    Advance, CampaignFailure, CampaignState, CampaignStep, NewCampaign, Outcome,
};
use crate::scope::ScopeId;

impl State {
    pub(super) fn start_campaign(&mut self, new: &NewCampaign) -> CampaignState {
        self.campaigns
            .entry(new.id.clone())
            .or_insert_with(|| CampaignState {
                kind: new.kind.to_owned(),
                parameters: new.parameters.clone(),
                cursor: None,
                done: 0,
                finished: false,
                failures: Vec::new(),
            })
            .clone()
    }

    pub(super) fn apply_step(
        &mut self,
        changes: &[ChangeSet],
        step: &CampaignStep,
    ) -> Result<Vec<Outcome>> {
        let Some(mut campaign) = self.campaigns.remove(&step.campaign) else {
            return Err(elsewhere(step, "there is no such campaign"));
        };
        let outcomes = if in_place(&campaign, changes, step) {
            let outcomes: Vec<_> = changes.iter().map(|change| self.apply(change)).collect();
            record(&mut campaign, changes, &outcomes, step);
            Ok(outcomes)
        } else {
            Err(elsewhere(
                step,
                "another process carries on the same campaign",
            ))
        };
        self.campaigns.insert(step.campaign.clone(), campaign);
        outcomes
    }
}

/// Whether the campaign is where the step expects it.
fn in_place(campaign: &CampaignState, changes: &[ChangeSet], step: &CampaignStep) -> bool {
    match &step.advance {
        Advance::To { from, .. } | Advance::Finish { from } => {
            !campaign.finished && campaign.cursor == *from
        }
        Advance::Retry => scopes_of(changes, step)
            .all(|scope| campaign.failures.iter().any(|known| known.scope == *scope)),
    }
}

fn scopes_of<'a>(
    changes: &'a [ChangeSet],
    step: &'a CampaignStep,
) -> impl Iterator<Item = &'a ScopeId> {
    let changed = changes.iter().map(|change| &change.scope);
    let failed = step.failures.iter().map(|failure| &failure.scope);
    changed.chain(failed).chain(&step.settled)
}

fn record(
    campaign: &mut CampaignState,
    changes: &[ChangeSet],
    outcomes: &[Outcome],
    step: &CampaignStep,
) {
    campaign
        .failures
        .retain(|known| scopes_of(changes, step).all(|scope| known.scope != *scope));
    for (change, outcome) in changes.iter().zip(outcomes) {
        match outcome {
            Ok(_) => campaign.done += 1,
            Err(error) => campaign.failures.push(CampaignFailure {
                scope: change.scope.clone(),
                kind: error.kind().name().to_owned(),
                message: error.to_string(),
            }),
        }
    }
    campaign.failures.extend(step.failures.iter().cloned());
    match &step.advance {
        Advance::To { to, .. } => campaign.cursor = Some(to.clone()),
        Advance::Finish { .. } => campaign.finished = true,
        Advance::Retry => {}
    }
}

fn elsewhere(step: &CampaignStep, detail: &'static str) -> Error {
    Error::new(ErrorKind::Conflict)
        .with_detail(detail)
        .with_context("campaign", &step.campaign)
}
