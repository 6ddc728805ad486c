//! How named roots are kept, and what each may take.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// How an engine keeps the wrappers of named roots, how often it asks them whether they still open their keys, and
/// how much of it each of them may take. Every limit holds for each root by itself, so that none slows the others.
///
/// ```
/// use std::time::Duration;
/// use kms_core::NamedRootLimits;
///
/// let limits = NamedRootLimits::default().with_recheck(Duration::from_secs(60));
/// assert_eq!(limits.recheck(), Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedRootLimits {
    pub(crate) capacity: usize,
    pub(crate) keep: Duration,
    pub(crate) recheck: Duration,
    pub(crate) concurrency: usize,
    pub(crate) deadline: Duration,
}

impl Default for NamedRootLimits {
    /// 1,000 wrappers, each for 10 minutes; keys are opened anew after 5 minutes; 8 calls at once of at most 15
    /// seconds.
    fn default() -> Self {
        Self {
            capacity: 1_000,
            keep: Duration::from_secs(600),
            recheck: Duration::from_secs(300),
            concurrency: 8,
            deadline: Duration::from_secs(15),
        }
    }
}

impl NamedRootLimits {
    /// Wrappers that are kept, at most. Of more roots in use, some are resolved again and again.
    #[must_use]
    pub fn with_capacity(mut self, roots: usize) -> Self {
        self.capacity = roots;
        self
    }

    /// How long a wrapper is kept after it was resolved, in use or not. If it is needed after that, the resolver is asked
    /// again, so that this is also how late a changed URL is seen.
    #[must_use]
    pub fn with_keep(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// How long cached keys are used that a named root opened, before it has to open them again. A customer who
    /// disables the root key is obeyed at most this much later, by every process; it costs one call of the root for
    /// each process, scope in use and needed root key version in that time.
    #[must_use]
    pub fn with_recheck(mut self, time: Duration) -> Self {
        self.recheck = time;
        self
    }

    /// Calls to one root at once; further ones wait for their turn, which counts against the deadline.
    #[must_use]
    pub fn with_concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls;
        self
    }

    /// How long a call to a root may take, and how long resolving its name may.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long cached keys are used before their root has to open them again.
    #[must_use]
    pub fn recheck(&self) -> Duration {
        self.recheck
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = if self.capacity == 0 || self.concurrency == 0 {
            "the limits of named roots: capacity and concurrency are at least 1"
        } else if self.keep.is_zero() || self.recheck.is_zero() || self.deadline.is_zero() {
            "the limits of named roots: every time is more than zero"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidConfiguration).with_detail(wrong))
    }
}
