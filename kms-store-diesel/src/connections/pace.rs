//! What is done once in a while at most.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When something was last done.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// No foreign code runs while this is locked.
    last: Mutex<Option<Instant>>,
}

impl Pace {
    /// Whether it was last done as long ago as this, or never. Then it counts as done now.
    pub(super) fn due(&self, pause: Duration) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= pause);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
