//! How long things may take.

use std::time::Duration;

use kms_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

/// Longer limits are cut to this, so that a moment plus a limit is always a moment.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Waiting for a connection.
    pub(crate) connection: Duration,
    /// Waiting for a lock.
    pub(crate) lock: Duration,
    /// One statement.
    pub(crate) statement: Duration,
    /// All of a call, if it was set.
    pub(crate) call: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connection: Duration::from_secs(5),
            lock: Duration::from_secs(5),
            statement: Duration::from_secs(30),
            call: None,
        }
    }
}

impl Limits {
    /// Refuses a limit of zero: nothing would succeed.
    pub(crate) fn check(&self, operation: &'static str) -> Result<()> {
        let call = self.call.unwrap_or(LONGEST);
        if [self.connection, self.lock, self.statement, call].contains(&Duration::ZERO) {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_operation(operation)
                .with_detail("the timeouts must be more than zero"));
        }
        Ok(())
    }

    pub(crate) fn connection(&self) -> Duration {
        self.connection.min(LONGEST)
    }

    /// All of a call. Unless it was set it leaves room for the other limits, whose errors say more: a connection,
    /// the longest statement, and the three places where a change waits for a lock (the collection version, the
    /// root keys, the place of a new root key).
    pub(crate) fn call(&self) -> Duration {
        let others = self
            .connection
            .saturating_add(self.statement)
            .saturating_add(self.lock.saturating_mul(3));
        self.call.unwrap_or(others).min(LONGEST)
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        let now = Instant::now();
        let call = self.call();
        Deadlines {
            connection: now + self.connection().min(call),
            call: now + call,
        }
    }
}

/// Until when a call waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// For its connection.
    pub(crate) connection: Instant,
    /// For its answer.
    pub(crate) call: Instant,
}
