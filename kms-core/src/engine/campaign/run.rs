//! A run of a campaign: from the call to its outcome.

use super::ahead::Ahead;
use super::copies::Copies;
use super::pages::Source;
use super::step::Stepped;
use super::turn::Turn;
use super::{Batch, Campaign, CampaignOutcome, CampaignProgress, CampaignReport, Work, patience};
use crate::binding::Binding;
use crate::engine::Rewrap;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::{Advance, CampaignState, Hold, NewCampaign};

/// How often the scopes that failed are tried again before the call ends.
const RETRY_ROUNDS: usize = 3;

impl Campaign<'_> {
    pub(super) async fn run(
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
            self.breaker.forgive_named();
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
    pub(super) async fn stored(&self) -> Result<CampaignState> {
        let repository = &self.kms.0.repository;
        let found = self.persist(|| repository.campaign(&self.id)).await?;
        found.ok_or_else(|| {
            Error::new(ErrorKind::Conflict).with_detail("the campaign's row was deleted")
        })
    }

    pub(super) async fn persist<T, F: Future<Output = Result<T>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T> {
        patience::persist(self.options.patience, call).await
    }
}
