//! The time that freshness is measured by, as a role, so that tests need not sleep.

use std::fmt;
use std::time::Instant;

/// A clock that only goes forward. Ages and intervals are measured by it, never dates.
///
/// `kms_testkit::ManualClock` is one that a test moves by hand.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now. Never earlier than what any thread was told before.
    fn now(&self) -> Instant;
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
}
