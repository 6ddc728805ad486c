//! Trying again while the database is away.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{Error, ErrorKind, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long one call is tried again and again. It begins with the first failure.
#[derive(Debug)]
pub(super) struct Patience {
    length: Duration,
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(super) fn of(length: Duration) -> Self {
        Self {
            length,
            since: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Waits a little, each time longer.
    ///
    /// # Errors
    ///
    /// The given one, if it does not pass or the patience is at its end.
    pub(super) async fn wait(&mut self, error: Error) -> Result<()> {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if !passes(&error) || waited >= self.length {
            return Err(error);
        }
        tracing::info!(
            kind = error.kind().name(),
            "a campaign waits for the database"
        );
        sleep(self.pause.min(self.length - waited)).await;
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        Ok(())
    }
}

/// Makes a call that may be repeated, until it succeeds or the patience is at its end.
pub(super) async fn persist<T, F: Future<Output = Result<T>>>(
    length: Duration,
    call: impl Fn() -> F,
) -> Result<T> {
    let mut patience = Patience::of(length);
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => patience.wait(error).await?,
        }
    }
}

/// Whether the same call may succeed later. An answer that was lost is no reason against it here: what a campaign asks
/// of the repository may be asked twice.
fn passes(error: &Error) -> bool {
    error.is_retryable() || error.kind() == ErrorKind::OutcomeUnknown
}
