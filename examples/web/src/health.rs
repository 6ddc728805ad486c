//! Whether the service can do its work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kms_kit::{Result, Wrapper};
use tokio::sync::Mutex;

/// How long an answer of the root wrapper counts. Health is asked every few seconds, and each probe of the root
/// costs two calls that somebody pays for.
const PROBE_EVERY: Duration = Duration::from_secs(30);

/// How long a failure counts: recovery shows sooner.
const PROBE_AGAIN: Duration = Duration::from_secs(2);

/// The root wrapper's health, asked at most so often.
pub(crate) struct Health {
    root: Arc<dyn Wrapper>,
    last: Mutex<Option<(Instant, Result<()>)>>,
}

impl Health {
    pub(crate) fn new(root: Arc<dyn Wrapper>) -> Self {
        Self {
            root,
            last: Mutex::new(None),
        }
    }

    /// Whether the root wrapper encrypts and decrypts. Tenants whose keys are cached are served either way.
    pub(crate) async fn root(&self) -> Result<()> {
        // Held during the probe: whoever asks meanwhile waits for it instead of starting another.
        let mut last = self.last.lock().await;
        if let Some((asked, answer)) = &*last {
            let counts = if answer.is_ok() {
                PROBE_EVERY
            } else {
                PROBE_AGAIN
            };
            if asked.elapsed() < counts {
                return answer.clone();
            }
        }
        let answer = self.root.preflight().await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
