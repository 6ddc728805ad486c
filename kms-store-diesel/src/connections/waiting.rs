//! The caller's side of a call: it waits for the answer, but not past the deadline.

use std::sync::Arc;

use diesel::r2d2::R2D2Connection;
use kms_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::timeout_at;

use super::Shared;
use super::lease::{Lease, Stage};
use super::limits::{Deadlines, Limits};
use super::source::Source;

/// A call that a thread works on.
pub(super) struct Waiting<C: R2D2Connection + Send + 'static, T> {
    pub(super) shared: Arc<Shared<C>>,
    pub(super) lease: Arc<Lease<C>>,
    pub(super) answer: Receiver<Result<T>>,
    pub(super) limits: Limits,
    pub(super) deadlines: Deadlines,
}

impl<C: R2D2Connection + Send + 'static, T: Send + 'static> Waiting<C, T> {
    /// Waits for the answer, or abandons the call at its deadline. If the caller goes away the work goes on, and a
    /// task takes the caller's place. (With the runtime gone as well there is nobody to end the wait: then a thread
    /// that hangs keeps its place in the pool until it comes back.)
    pub(super) async fn answer(self) -> Result<T> {
        let mut attended = Attended(Some(self));
        let result = match &mut attended.0 {
            Some(waiting) => waiting.settle().await,
            None => Err(ended_early(None)),
        };
        attended.0 = None;
        result
    }

    async fn settle(&mut self) -> Result<T> {
        // The application's pool bounds the wait for its connections itself.
        if let Source::Own(_) = self.shared.source {
            if let Ok(answer) = timeout_at(self.deadlines.connection, &mut self.answer).await {
                return received(answer);
            }
            if self.abandon(Stage::Connecting).is_some() {
                return Err(self.no_connection());
            }
        }
        if let Ok(answer) = timeout_at(self.deadlines.call, &mut self.answer).await {
            return received(answer);
        }
        match self.abandon(Stage::Committing) {
            Some(Stage::Connecting) => Err(self.no_connection()),
            Some(Stage::Working) => {
                Err(Error::new(ErrorKind::DatabaseUnreachable).with_detail(self.no_answer()))
            }
            Some(Stage::Committing) => {
                Err(Error::new(ErrorKind::OutcomeUnknown).with_detail(self.no_answer()))
            }
            // It ended in this moment.
            None => received((&mut self.answer).await),
        }
    }

    fn abandon(&self, furthest: Stage) -> Option<Stage> {
        let stage = self.lease.abandon(furthest)?;
        self.shared.silence.abandoned();
        Some(stage)
    }

    fn no_connection(&self) -> Error {
        let limit = self.limits.connection().min(self.limits.call());
        Error::new(ErrorKind::DatabaseUnreachable)
            .with_detail(format!("no connection within {limit:?}"))
    }

    fn no_answer(&self) -> String {
        format!(
            "the database did not answer within {:?}",
            self.limits.call()
        )
    }
}

fn received<T>(answer: Result<Result<T>, RecvError>) -> Result<T> {
    answer.unwrap_or_else(|source| Err(ended_early(Some(source))))
}

fn ended_early(source: Option<RecvError>) -> Error {
    let error =
        Error::new(ErrorKind::Internal).with_detail("the thread of the database call ended early");
    match source {
        Some(source) => error.with_source(source),
        None => error,
    }
}

/// A call whose caller may go away.
struct Attended<C: R2D2Connection + Send + 'static, T: Send + 'static>(Option<Waiting<C, T>>);

impl<C: R2D2Connection + Send + 'static, T: Send + 'static> Drop for Attended<C, T> {
    fn drop(&mut self) {
        if let Some(mut waiting) = self.0.take()
            && waiting.lease.wanted()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { drop(waiting.settle().await) });
        }
    }
}
