//! The end of a wrapper: its threads close their sessions first.

use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How long is waited: a token may keep a thread for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits, when it is dropped, until the threads of the pool have ended, except for those that a token without an
/// answer keeps. It is dropped after the pool.
///
/// A process that exits while a thread calls a module has that module clean up under the hands of that thread, and may
/// end by a signal after it did all its work.
pub(crate) struct Departure {
    /// Gets nothing, and is at its end when the last thread is gone. In a mutex to be shared; never locked.
    all_ended: Mutex<Receiver<()>>,
}

impl Departure {
    pub(crate) fn new(all_ended: Receiver<()>) -> Self {
        Self {
            all_ended: Mutex::new(all_ended),
        }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        if let Ok(all_ended) = self.all_ended.get_mut() {
            let _ = all_ended.recv_timeout(PATIENCE);
        }
    }
}
