//! A clock that a test moves by hand.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kms_core::Clock;

/// A clock that stands still until a test moves it. A clone shows the same time.
///
/// ```
/// use std::time::Duration;
///
/// use kms_core::Clock;
/// use kms_testkit::ManualClock;
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now() - before, Duration::from_secs(2));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<Mutex<Duration>>,
}

impl ManualClock {
    /// A clock that shows a thousand seconds.
    #[must_use]
    pub fn new() -> Self {
        Self {
            now: Arc::new(Mutex::new(Duration::from_secs(1000))),
        }
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
