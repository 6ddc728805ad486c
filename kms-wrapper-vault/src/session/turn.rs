//! Whose turn it is to get or renew the token.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout_at};

/// One at a time; but not even one, if that one has stopped moving.
///
/// Who holds the turn may be in a runtime that stands still, between two `block_on` say. It then holds on for
/// longer than any attempt lasts, and the others go ahead without waiting for it.
#[derive(Debug)]
pub(super) struct Turn {
    lock: tokio::sync::Mutex<()>,
    taken: Mutex<Instant>,
    patience: Duration,
}

/// Held for as long as the turn lasts. Empty for one who went ahead.
pub(super) type Held<'a> = Option<MutexGuard<'a, ()>>;

impl Turn {
    /// `patience` is the longest that a turn lasts while its holder moves.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            lock: tokio::sync::Mutex::new(()),
            taken: Mutex::new(Instant::now()),
            patience,
        }
    }

    /// Waits for the turn.
    pub(super) async fn wait(&self) -> Held<'_> {
        if let Ok(guard) = self.lock.try_lock() {
            return self.begin(guard);
        }
        let guard = timeout_at(self.latest(), self.lock.lock()).await.ok()?;
        self.begin(guard)
    }

    /// The turn, if it can be had now; `None` if somebody is at it.
    pub(super) fn now(&self) -> Option<Held<'_>> {
        match self.lock.try_lock() {
            Ok(guard) => Some(self.begin(guard)),
            Err(_) if Instant::now() >= self.latest() => Some(None),
            Err(_) => None,
        }
    }

    fn begin<'a>(&self, guard: MutexGuard<'a, ()>) -> Held<'a> {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Some(guard)
    }

    fn latest(&self) -> Instant {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) + self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_stands_still_is_not_waited_for_longer_than_a_turn_lasts() {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(async {
                let turn = Turn::new(Duration::from_secs(4));
                let stuck = turn.wait().await;
                assert!(stuck.is_some());
                assert!(turn.now().is_none());
                let start = Instant::now();
                assert!(turn.wait().await.is_none(), "it went ahead");
                assert_eq!(start.elapsed().as_secs(), 4);
                assert!(turn.now().is_some_and(|held| held.is_none()));
                drop(stuck);
                assert!(turn.wait().await.is_some());
            });
    }
}
