//! Parameters that wrappers of services share.

use std::str::FromStr;
use std::time::Duration;

use kms_core::{CallLimits, Result};

use super::address::{Address, misconfigured};

impl Address {
    /// Takes a parameter that is one of these words.
    pub(super) fn take_word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(
                    misconfigured(format!("must be one of {}", known.join(", ")))
                        .with_context("parameter", name),
                )
            }
        }
    }

    /// Takes `attempts`, `attempt_timeout_ms`, `connect_timeout_ms` and `deadline_ms`.
    pub(super) fn take_limits(&mut self) -> Result<CallLimits> {
        let mut limits = CallLimits::default();
        if let Some(attempts) = self.take_number::<u32>("attempts")? {
            limits = limits.with_attempts(attempts);
        }
        if let Some(timeout) = self.take_number("attempt_timeout_ms")? {
            limits = limits.with_attempt_timeout(Duration::from_millis(timeout));
        }
        if let Some(timeout) = self.take_number("connect_timeout_ms")? {
            limits = limits.with_connect_timeout(Duration::from_millis(timeout));
        }
        if let Some(deadline) = self.take_number("deadline_ms")? {
            limits = limits.with_deadline(Duration::from_millis(deadline));
        }
        Ok(limits)
    }

    /// Takes a parameter that is a number.
    pub(super) fn take_number<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>> {
        let number = self.take(name).map(|value| value.parse());
        number.transpose().map_err(|_| {
            misconfigured("not a whole number in its range").with_context("parameter", name)
        })
    }
}
