//! How many calls a database that gives no answers may keep hanging.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kms_core::{Error, ErrorKind, Result};

use super::pace::Pace;

/// Each abandoned call keeps a thread and a connection until the database lets go of it. This many for each
/// connection of the pool may hang while other calls are answered.
const HANGING_PER_CONNECTION: usize = 8;

/// Counts the calls that got no answer in time, and keeps further ones from hanging as well.
#[derive(Debug)]
pub(super) struct Silence {
    /// Connections of the pool.
    size: usize,
    /// Calls abandoned since the database last answered one.
    unanswered: AtomicUsize,
    /// Abandoned calls whose threads have not come back.
    hanging: AtomicUsize,
    /// Of the calls that are let through to see whether the database answers again.
    probes: Pace,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As any other.
    Usual,
    /// As the one that finds out whether the database answers again.
    Probe,
}

impl Silence {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size: size.max(1),
            unanswered: AtomicUsize::new(0),
            hanging: AtomicUsize::new(0),
            probes: Pace::default(),
        }
    }

    /// Refuses the call if as many as the pool has connections got no answer, but for one now and then.
    pub(super) fn admit(&self) -> Result<Admission> {
        let unanswered = self.unanswered.load(Ordering::Relaxed);
        let hanging = self.hanging.load(Ordering::Relaxed);
        if unanswered < self.size && hanging < self.size.saturating_mul(HANGING_PER_CONNECTION) {
            return Ok(Admission::Usual);
        }
        if self.may_probe(hanging) {
            return Ok(Admission::Probe);
        }
        Err(Error::new(ErrorKind::DatabaseUnreachable).with_detail(format!(
            "{} calls got no answer; further ones fail at once, except for one a second at most, until one is \
             answered",
            unanswered.max(hanging)
        )))
    }

    /// Once a second. Less often while more and more hang, each of which keeps a thread.
    fn may_probe(&self, hanging: usize) -> bool {
        let seconds = u64::try_from(hanging / self.size).unwrap_or(u64::MAX);
        let pause = Duration::from_secs(seconds.clamp(1, 30));
        self.probes.due(pause)
    }

    /// A call was abandoned.
    pub(super) fn abandoned(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        self.hanging.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread of an abandoned call came back.
    pub(super) fn came_back(&self) {
        self.hanging.fetch_sub(1, Ordering::Relaxed);
    }

    /// The database answered.
    pub(super) fn answered(&self) {
        // Read first: threads that only read share the memory.
        if self.unanswered.load(Ordering::Relaxed) != 0 {
            self.unanswered.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_calls_as_connections_may_hang_and_then_one_is_let_through_until_one_is_answered() {
        let silence = Silence::new(2);
        silence.abandoned();
        assert_eq!(silence.admit().unwrap(), Admission::Usual);
        silence.abandoned();
        assert_eq!(silence.admit().unwrap(), Admission::Probe);
        let error = silence.admit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
        assert!(error.to_string().contains("2 calls"), "{error}");
        silence.answered();
        assert_eq!(silence.admit().unwrap(), Admission::Usual);
    }

    #[test]
    fn calls_that_hang_among_answered_ones_are_bounded_too() {
        let silence = Silence::new(1);
        for _ in 0..HANGING_PER_CONNECTION {
            assert_eq!(silence.admit().unwrap(), Admission::Usual);
            silence.abandoned();
            silence.answered();
        }
        assert_eq!(silence.admit().unwrap(), Admission::Probe);
        silence.admit().unwrap_err();
        silence.came_back();
        assert_eq!(silence.admit().unwrap(), Admission::Usual);
    }
}
