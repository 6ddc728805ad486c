//! A batch of a campaign: its changes and its progress in one transaction.

use std::time::Duration;

use kms_core::{
    Advance, Applied, CampaignFailure, CampaignStep, ChangeSet, Error, ErrorKind, Hold, Outcome,
};

use super::apply;
use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::transaction::ended;

/// Moves the cursor, applies, and records. Runs inside a transaction that is rolled back if this fails.
///
/// The campaign's row is locked first. No other change touches it, so that this adds nothing to the
/// order of locks.
pub(crate) async fn apply_step<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
    step: &CampaignStep,
    wait: Option<Duration>,
) -> Result<Vec<Outcome>, Failure> {
    advance(connection, changes, step).await?;
    let outcomes = if changes.is_empty() {
        Vec::new()
    } else {
        // In a savepoint: when all are refused the counter of changes must not move, but the failures
        // are to be kept.
        connection.begin().await?;
        let applied = apply(connection, changes, wait).await;
        match ended(connection, applied).await {
            Ok(Applied { outcomes, .. }) | Err(Failure::NoneApplied(Applied { outcomes, .. })) => {
                outcomes
            }
            Err(failure) => return Err(failure),
        }
    };
    record(connection, changes, &outcomes, step).await?;
    Ok(outcomes)
}

async fn advance<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
    step: &CampaignStep,
) -> Result<(), Failure> {
    let campaign = &step.campaign;
    connection.lock_campaign(campaign).await?;
    let detail = if connection
        .hold_campaign(campaign, &step.lease, Hold::Keep)
        .await?
    {
        let in_place = match &step.advance {
            Advance::To { from, to } => connection.move_cursor(campaign, from.as_ref(), to).await?,
            Advance::Finish { from } => {
                connection.failed_scopes(campaign).await?.is_empty()
                    && connection.finish_campaign(campaign, from.as_ref()).await?
            }
            Advance::Retry => {
                let failed = connection.failed_scopes(campaign).await?;
                scopes(changes, step)
                    .iter()
                    .all(|scope| failed.contains(*scope))
            }
        };
        if in_place {
            return Ok(());
        }
        "the campaign is not where the step expects it"
    } else if connection.campaign(campaign).await?.is_none() {
        "there is no such campaign"
    } else {
        "another process carries on the campaign"
    };
    Err(Failure::Ready(
        Error::new(ErrorKind::Conflict)
            .with_detail(detail)
            .with_context("campaign", campaign),
    ))
}

async fn record<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
    outcomes: &[Outcome],
    step: &CampaignStep,
) -> Result<(), Failure> {
    connection
        .remove_failures(&step.campaign, &scopes(changes, step))
        .await?;
    let mut failures = step.failures.clone();
    for (change, outcome) in changes.iter().zip(outcomes) {
        if let Err(error) = outcome {
            let failure = CampaignFailure::of(change.scope.clone(), error);
            failures.push(failure);
        }
    }
    if !failures.is_empty() {
        connection
            .insert_failures(&step.campaign, &failures)
            .await?;
    }
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let unchanged = step.unchanged.len();
    if done > 0 || unchanged > 0 {
        connection
            .add_counts(&step.campaign, done as u64, unchanged as u64)
            .await?;
    }
    Ok(())
}

/// Every scope that the step has an answer for.
fn scopes<'a>(changes: &[&'a ChangeSet], step: &'a CampaignStep) -> Vec<&'a str> {
    let changed = changes.iter().map(|change| &change.scope);
    let failed = step.failures.iter().map(|failure| &failure.scope);
    changed
        .chain(failed)
        .chain(&step.unchanged)
        .map(kms_core::ScopeId::as_str)
        .collect()
}
