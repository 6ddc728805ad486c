//! Where the engine gets its time from.

use std::fmt;
use std::time::Instant;

/// A monotonic clock, by which freshness is measured. Tests inject their own.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present moment; never earlier than one given before.
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
