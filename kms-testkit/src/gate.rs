//! Stopping a call where a test wants it.

use std::sync::Arc;

use tokio::sync::watch;

/// A point at which calls stop until the test lets them go on. A clone is the same gate.
///
/// Used with [`Fault::PauseBefore`](crate::Fault::PauseBefore) and
/// [`Fault::PauseAfter`](crate::Fault::PauseAfter); a gate that is never opened is a call that hangs.
///
/// ```
/// use kms_testkit::Gate;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let gate = Gate::new();
/// let call = tokio::spawn({
///     let gate = gate.clone();
///     async move { gate.pass().await }
/// });
/// gate.reached().await;
/// assert!(!call.is_finished());
/// gate.open();
/// call.await.unwrap();
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Gate {
    arrivals: Arc<watch::Sender<u64>>,
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self {
            arrivals: Arc::new(watch::Sender::new(0)),
            open: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Waits until a call has arrived here.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until this many calls have arrived here, since the gate was made.
    pub async fn reached_by(&self, calls: u64) {
        let mut arrivals = self.arrivals.subscribe();
        // The sender is borrowed from this very gate.
        let _ = arrivals.wait_for(|arrived| *arrived >= calls).await;
    }

    /// How many calls have arrived here.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        *self.arrivals.borrow()
    }

    /// Lets all calls go on, those that wait here and those to come.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Arrives, and waits until the gate is open.
    pub async fn pass(&self) {
        let mut open = self.open.subscribe();
        self.arrivals.send_modify(|arrived| *arrived += 1);
        let _ = open.wait_for(|open| *open).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
