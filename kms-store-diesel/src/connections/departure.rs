//! The end of a repository: its threads close their connections first.

use std::fmt;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Waits, when it is dropped, until the threads of the pool have ended, except for those that a database without an
/// answer keeps. It is dropped after the pool.
///
/// A process that exits while a thread opens or closes a connection has OpenSSL, which libpq connects by, clean up
/// under the hands of that thread, and may end by a signal after it did all its work
/// (<https://github.com/openssl/openssl/issues/6214>).
pub(super) struct Departure {
    /// Gets nothing, and is at its end when the last thread is gone. In a mutex to be shared; never locked.
    all_ended: Mutex<Receiver<()>>,
    patience: Duration,
}

impl Departure {
    /// `patience`: how long is waited for them. The server may keep one waiting for much longer.
    pub(super) fn new(all_ended: Receiver<()>, patience: Duration) -> Self {
        Self {
            all_ended: Mutex::new(all_ended),
            patience,
        }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        if let Ok(all_ended) = self.all_ended.get_mut() {
            let _ = all_ended.recv_timeout(self.patience);
        }
    }
}

impl fmt::Debug for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure").finish_non_exhaustive()
    }
}
