//! How long and how often a wrapper of a service asks it.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};

use crate::error::{Error, ErrorKind, Result};

/// The bounds of one operation of a root wrapper whose key is in a service: so much time for each attempt, so
/// many attempts, and a deadline over all of them, pauses included.
///
/// Every wrapper of a service takes them in its builder. An attempt is repeated where the service could not be
/// reached, did not answer in time, or asked to slow down; between attempts lies a pause that doubles and is
/// drawn at random, so that a fleet does not knock in step (the
/// [pauses with jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) of AWS).
///
/// ```
/// use std::time::Duration;
/// use kms_core::CallLimits;
///
/// let limits = CallLimits::default()
///     .with_deadline(Duration::from_secs(5))
///     .with_attempts(2);
/// assert_eq!(limits.deadline(), Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    connect_timeout: Duration,
    attempt_timeout: Duration,
    attempts: u32,
    deadline: Duration,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Default for CallLimits {
    /// 2 s to connect, 4 s for each of at most 4 attempts, 10 s in all; pauses from 50 ms to 2 s.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(4),
            attempts: 4,
            deadline: Duration::from_secs(10),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
        }
    }
}

impl CallLimits {
    /// Time to open a connection.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Time for one attempt, connecting included.
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How many attempts at most; 1 repeats nothing.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Time for the whole operation: all attempts, the pauses, and logging in where that is needed.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The first pause between two attempts, and the longest.
    #[must_use]
    pub fn with_pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    /// Time to open a connection.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Time for one attempt.
    #[must_use]
    pub fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
    }

    /// How many attempts at most.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Time for the whole operation.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Checks that the bounds can be kept: for `build` of a wrapper.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfiguration`] for no attempt or a bound of zero.
    pub fn check(&self) -> Result<()> {
        let wrong = if self.attempts == 0 {
            "no attempts: give at least 1"
        } else if self.connect_timeout.is_zero()
            || self.attempt_timeout.is_zero()
            || self.deadline.is_zero()
        {
            "a timeout of zero"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidConfiguration).with_detail(wrong))
    }

    /// Runs the attempts of an operation within these bounds.
    ///
    /// # Errors
    ///
    /// That of the last attempt, or [`ErrorKind::TimedOut`] when the deadline is over, with the last attempt's
    /// error as its source.
    pub async fn run<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let last = Mutex::new(None);
        let attempts = (|| async {
            match tokio::time::timeout(self.attempt_timeout, attempt()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::new(ErrorKind::TimedOut).with_detail("one attempt")),
            }
        })
        .retry(self.pauses())
        .when(|error| {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            another_attempt_can_help(error)
        });
        match tokio::time::timeout(self.deadline, attempts).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let error = Error::new(ErrorKind::TimedOut).with_detail("the deadline is over");
                Err(
                    match last.into_inner().unwrap_or_else(PoisonError::into_inner) {
                        Some(cause) => error.with_source(cause),
                        None => error,
                    },
                )
            }
        }
    }

    fn pauses(&self) -> impl backon::BackoffBuilder {
        let repeats = usize::try_from(self.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(repeats)
            .build()
    }
}

/// Sealed and standby services come back too, but not within a deadline of seconds.
fn another_attempt_can_help(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::Throttled
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::error::Error as _;
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    /// With tokio's clock stopped, waiting costs no time.
    fn paused(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test);
    }

    async fn failing(limits: CallLimits, kind: ErrorKind) -> (Error, u32) {
        let attempts = Cell::new(0);
        let outcome: Result<()> = limits
            .run(|| async {
                attempts.set(attempts.get() + 1);
                Err(Error::new(kind))
            })
            .await;
        (outcome.unwrap_err(), attempts.get())
    }

    #[test]
    fn an_attempt_is_repeated_as_often_as_allowed_where_that_can_help() {
        paused(async {
            let limits = CallLimits::default().with_attempts(3);
            for kind in [
                ErrorKind::Unreachable,
                ErrorKind::TimedOut,
                ErrorKind::Throttled,
            ] {
                let (error, attempts) = failing(limits, kind).await;
                assert_eq!((error.kind(), attempts), (kind, 3));
            }
            let (_, attempts) = failing(limits.with_attempts(1), ErrorKind::Throttled).await;
            assert_eq!(attempts, 1);
        });
    }

    #[test]
    fn what_will_not_change_is_asked_once() {
        paused(async {
            for kind in [
                ErrorKind::Denied,
                ErrorKind::RootKeyDisabled,
                ErrorKind::ServiceSealed,
            ] {
                assert_eq!(failing(CallLimits::default(), kind).await.1, 1);
            }
        });
    }

    #[test]
    fn the_future_can_be_awaited_on_any_thread() {
        fn is_send(_: impl Future + Send) {}
        is_send(CallLimits::default().run(|| async { Ok(()) }));
    }

    #[test]
    fn an_attempt_that_hangs_is_given_up_and_repeated() {
        paused(async {
            let limits = CallLimits::default().with_attempts(2);
            let attempts = Cell::new(0);
            let outcome = limits
                .run(|| async {
                    attempts.set(attempts.get() + 1);
                    if attempts.get() == 1 {
                        pending::<()>().await;
                    }
                    Ok(attempts.get())
                })
                .await;
            assert_eq!(outcome.unwrap(), 2);
        });
    }

    #[test]
    fn the_deadline_is_over_all_attempts_and_keeps_the_last_error() {
        paused(async {
            let limits = CallLimits::default()
                .with_attempts(u32::MAX)
                .with_deadline(Duration::from_secs(7));
            let start = Instant::now();
            let (error, attempts) = failing(limits, ErrorKind::Throttled).await;
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(start.elapsed(), Duration::from_secs(7));
            assert!(attempts > 2);
            let cause = error.source().unwrap().downcast_ref::<Error>().unwrap();
            assert_eq!(cause.kind(), ErrorKind::Throttled);
        });
    }

    #[test]
    fn bounds_that_can_not_be_kept_are_refused() {
        let limits = CallLimits::default();
        limits.check().unwrap();
        for wrong in [
            limits.with_attempts(0),
            limits.with_deadline(Duration::ZERO),
            limits.with_attempt_timeout(Duration::ZERO),
            limits.with_connect_timeout(Duration::ZERO),
        ] {
            let error = wrong.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        }
    }
}
