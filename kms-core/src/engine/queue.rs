//! Changes of one scope in this process, one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turns, OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use super::Executor;
use crate::error::Result;
use crate::scope::ScopeId;

/// A change that waited so long goes on without its turn: the one before it may belong to a caller that stands still,
/// or to a root wrapper that does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who changes a scope. Two changes that are prepared at once would be in conflict, so that all but one of them call the
/// root wrapper in vain. Other processes are not held up by this, and neither are changes that the application applies.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<HashMap<ScopeId, Arc<Turns<()>>>>);

/// The place of a change in its scope's queue, until it is dropped.
pub(super) struct Place {
    queues: Arc<Queues>,
    scope: ScopeId,
    turns: Arc<Turns<()>>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Queues {
    /// Waits until the changes of this scope that came before are over, or for as long as the patience lasts. Returns
    /// no place if the runtime in which it waited has ended.
    pub(super) async fn turn(
        self: &Arc<Self>,
        scope: &ScopeId,
        executor: &Executor,
    ) -> Result<Option<Place>> {
        let turns = Arc::clone(self.lock().entry(scope.clone()).or_default());
        let mut place = Place {
            queues: Arc::clone(self),
            scope: scope.clone(),
            turn: Arc::clone(&turns).try_lock_owned().ok(),
            turns,
        };
        if place.turn.is_some() {
            return Ok(Some(place));
        }
        let (sender, receiver) = oneshot::channel();
        // The caller's runtime may have no timers, or be none.
        executor.spawn(async move {
            let turn = Arc::clone(&place.turns).lock_owned();
            place.turn = timeout(PATIENCE, turn).await.ok();
            let _ = sender.send(place);
        })?;
        Ok(receiver.await.ok())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ScopeId, Arc<Turns<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.turn.take());
        let mut queues = self.queues.lock();
        // The map's and this one: nobody else is in the queue, and nobody can join it now.
        if Arc::strong_count(&self.turns) == 2 {
            queues.remove(&self.scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_nobody_is_in_takes_no_memory_and_a_turn_that_does_not_end_is_not_waited_for()
     {
        let (queues, executor) = (Arc::<Queues>::default(), Executor::default());
        let scope = ScopeId::from_stored("o_1");
        let turn = async || queues.turn(&scope, &executor).await.unwrap().unwrap();
        let first = turn().await;
        assert!(first.turn.is_some());
        let second = turn().await;
        assert!(second.turn.is_none(), "the first has not ended");
        drop(first);
        let third = turn().await;
        assert!(third.turn.is_some());
        drop((second, third));
        assert!(queues.lock().is_empty());
    }
}
