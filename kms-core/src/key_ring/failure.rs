//! A key version that did not open, and when it is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cache::Moment;
use crate::error::Error;

/// The first pause after a passing failure, and after another one. Somebody may be about to mend it, and the root
/// wrapper's service may charge for each call.
const PASSING: Duration = Duration::from_secs(1);
const LASTING: Duration = Duration::from_secs(5);

/// Each further pause is twice as long, up to this.
const LONGEST: Duration = Duration::from_secs(300);

/// Why a key version did not open. Shared by all versions that failed for this one reason.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    /// When it may be tried again.
    retry: Moment,
    /// The pause before that.
    pause: Duration,
    /// Whether anybody asked for a key since it failed: only then it is tried again.
    wanted: AtomicBool,
}

impl Failure {
    /// It failed now; and before, if there was a failure before.
    pub(crate) fn new(error: Error, before: Option<&Self>, now: Moment) -> Arc<Self> {
        let first = if error.is_retryable() {
            PASSING
        } else {
            LASTING
        };
        let pause = before.map_or(first, |before| (before.pause * 2).clamp(first, LONGEST));
        Arc::new(Self {
            error,
            retry: now.saturating_add(pause),
            pause,
            wanted: AtomicBool::new(false),
        })
    }

    pub(crate) fn error(&self) -> &Error {
        &self.error
    }

    /// The error for somebody who needs the key now.
    pub(crate) fn wanted(&self) -> Error {
        self.wanted.store(true, Ordering::Relaxed);
        self.error.clone()
    }

    /// Whether the key is to be tried again: somebody needs it, and the pause is over.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.wanted.load(Ordering::Relaxed) && now >= self.retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn pauses_grow_from_seconds_to_minutes_and_nobody_is_asked_for_what_nobody_needs() {
        let error = || Error::new(ErrorKind::Unreachable);
        let mut now = Moment::ZERO;
        let mut failure = Failure::new(error(), None, now);
        let mut pauses = Vec::new();
        for _ in 0..11 {
            assert!(!failure.is_due(Moment::MAX), "nobody needs it");
            failure.wanted();
            while !failure.is_due(now) {
                now += Duration::from_secs(1);
            }
            pauses.push(failure.pause.as_secs());
            failure = Failure::new(error(), Some(&failure), now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let lasting = Failure::new(Error::new(ErrorKind::Denied), None, now);
        assert_eq!(lasting.pause, LASTING);
    }
}
