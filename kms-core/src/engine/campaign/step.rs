//! Taking a step: a batch and its progress, applied until it is known what became of it.

use std::sync::Arc;

use super::patience::Patience;
use super::turn::Turn;
use super::{Batch, Campaign};
use crate::cache::answer;
use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::repository::{Advance, CampaignState, CampaignStep, Hold, Outcome};

/// What became of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stepped {
    /// It was taken.
    Yes,
    /// It was not: another process has the campaign, or had it meanwhile.
    Lost,
}

impl Campaign<'_> {
    /// Applies a batch with its progress, and brings the state up to it. A step may be sent again after any failure:
    /// the cursor, or the failures that it is to remove, keep it from being taken twice.
    pub(super) async fn step(
        &self,
        turn: &Turn,
        state: &mut CampaignState,
        batch: Batch,
        advance: Advance,
    ) -> Result<Stepped> {
        let changes: Arc<[ChangeSet]> = batch.changes.into();
        let step = CampaignStep {
            campaign: self.id.clone(),
            lease: turn.lease.clone(),
            advance,
            failures: batch.failures,
            unchanged: batch.unchanged,
        };
        let mut patience = Patience::of(self.options.patience);
        loop {
            let error = match self.apply(&changes, &step).await {
                Ok(outcomes) => {
                    state.record(&changes, &outcomes, &step);
                    return Ok(Stepped::Yes);
                }
                Err(error) => error,
            };
            let kind = error.kind();
            patience.wait(error).await?;
            if !matches!(kind, ErrorKind::Conflict | ErrorKind::OutcomeUnknown) {
                // Nothing was written.
                continue;
            }
            let now = self.stored().await?;
            if was_taken(&now, &changes, &step) {
                *state = now;
                return Ok(Stepped::Yes);
            }
            let kept = self.persist(|| turn.hold(Hold::Keep)).await?;
            if !kept || now.cursor != state.cursor {
                return Ok(Stepped::Lost);
            }
        }
    }

    /// Applies in a task of its own, so that the caches are told also when the caller goes away in the middle.
    async fn apply(&self, changes: &Arc<[ChangeSet]>, step: &CampaignStep) -> Result<Vec<Outcome>> {
        let engine = Arc::clone(&self.kms.0);
        let (changes, step) = (Arc::clone(changes), step.clone());
        let (publisher, applied) = answer();
        self.kms.0.executor.spawn(async move {
            let call = engine.repository.apply_step(Arc::clone(&changes), step);
            let result = guarded("the repository panicked", call).await;
            for change in changes.iter() {
                engine.overtake(change);
            }
            publisher.publish(result);
        })?;
        applied.wait().await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::OutcomeUnknown)
                .with_detail("the runtime in which the batch was applied has ended"))
        })
    }
}

/// Whether the stored campaign shows that the step was taken.
fn was_taken(now: &CampaignState, changes: &[ChangeSet], step: &CampaignStep) -> bool {
    match &step.advance {
        Advance::To { to, .. } => now.cursor.as_ref() == Some(to),
        Advance::Finish { .. } => now.finish_time.is_some(),
        // A step that only wrote failures anew may as well be taken once more.
        Advance::Retry => step
            .scopes(changes)
            .any(|scope| now.failures.iter().all(|known| known.scope != *scope)),
    }
}
