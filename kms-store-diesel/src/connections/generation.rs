//! Which connections may be to the wrong server: those that were opened before that was last found out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::pace::Pace;

/// The number of the connections that are opened now.
#[derive(Debug, Default)]
pub(super) struct Generation {
    current: AtomicU64,
    /// How many connections of the application's pool may still be of an earlier one.
    suspects: AtomicU64,
    looks: Pace,
}

impl Generation {
    pub(super) fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// A connection of this generation is to the wrong server, and so may be all others, of which the application's pool
    /// has this many. The first of them that is found out begins the next generation.
    pub(super) fn end(&self, found: u64, pooled: u64) {
        if self.current() == found {
            // First: who sees the next generation sees these.
            self.suspects.store(pooled, Ordering::Release);
            let (order, failed) = (Ordering::AcqRel, Ordering::Acquire);
            let _ = self
                .current
                .compare_exchange(found, found + 1, order, failed);
        }
    }

    /// Whether it is time to look through the application's pool for one that is in order: once a second.
    pub(super) fn may_look(&self) -> bool {
        self.looks.due(Duration::from_secs(1))
    }

    /// Whether a connection of the application's that does not accept writes is to be closed for that. No more are than
    /// there were when the generation ended: if new ones are like this, that is where the pool's address leads now.
    pub(super) fn may_close(&self) -> bool {
        let one_less = |count: u64| count.checked_sub(1);
        let (order, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        self.suspects.fetch_update(order, fetch, one_less).is_ok()
    }
}
