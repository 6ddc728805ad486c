//! The time that freshness is measured by, as a role, so that tests need not sleep.

use std::fmt;
use std::time::Duration;

/// A clock that only goes forward. Ages and intervals are measured by it, never dates.
///
/// Freshness is a promise about real time, so time counts while the machine is suspended: a key that was revoked
/// during the night must not count as fresh in the morning.
///
/// `kms_testkit::ManualClock` is one that a test moves by hand.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time since a moment that stays the same as long as the process runs. Never less than what any thread was
    /// told before.
    fn now(&self) -> Duration;
}

/// The system's clock.
///
/// | system | which one | counts suspension |
/// |---|---|---|
/// | Linux, Android | `CLOCK_BOOTTIME` | yes |
/// | macOS, iOS | `CLOCK_MONOTONIC` | yes |
/// | others | [`std::time::Instant`] | as it does there; on Windows, yes |
///
/// A virtual machine that its host pauses or restores from a snapshot may not notice, whatever the clock: call
/// [`Kms::announce_restore`](crate::Kms::announce_restore) or start the process anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};

        #[cfg(not(target_vendor = "apple"))]
        const COUNTS_SUSPENSION: ClockId = ClockId::Boottime;
        #[cfg(target_vendor = "apple")]
        const COUNTS_SUSPENSION: ClockId = ClockId::Monotonic;

        let now = clock_gettime(COUNTS_SUSPENSION);
        // Neither part is ever negative.
        Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        )
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        use std::sync::LazyLock;
        use std::time::Instant;

        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_never_goes_back() {
        let first = SystemClock.now();
        let deadline = first + Duration::from_secs(10);
        let mut last = first;
        while last <= first {
            let now = SystemClock.now();
            assert!(now >= last && now < deadline);
            last = now;
        }
    }

    /// The clock that Linux documents to count suspension, `clock_gettime(2)`.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_clock_counts_the_time_that_the_machine_was_suspended() {
        use rustix::time::{ClockId, clock_gettime};

        let before = SystemClock.now();
        let counted = clock_gettime(ClockId::Boottime);
        let after = SystemClock.now();
        let seconds = u64::try_from(counted.tv_sec).expect("it is not negative");
        assert!(before.as_secs() <= seconds && seconds <= after.as_secs());
    }
}
