//! The threads on which a pool opens connections.

use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use scheduled_thread_pool::ScheduledThreadPool;

/// As many as `r2d2` has by default: so many connections are opened at one time.
const COUNT: usize = 3;

/// They belong to one pool, and are waited for when they are dropped, after it.
///
/// Where a connection is given back before the one is open that was to be opened instead, nobody waits for that
/// one. A process that exits just then has OpenSSL, which libpq connects by, clean up under the hands of such a
/// thread, and may end by a signal after it did all its work (<https://github.com/openssl/openssl/issues/6214>).
pub(super) struct Threads {
    pool: Arc<ScheduledThreadPool>,
    patience: Duration,
}

impl Threads {
    /// `patience`: how long is waited for them. The server may keep one waiting for much longer.
    pub(super) fn new(patience: Duration) -> Self {
        let pool = ScheduledThreadPool::builder()
            .num_threads(COUNT)
            .thread_name_pattern("kms-connecting-{}")
            .build();
        Self {
            pool: Arc::new(pool),
            patience,
        }
    }

    pub(super) fn pool(&self) -> Arc<ScheduledThreadPool> {
        Arc::clone(&self.pool)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A thread comes here when it has nothing else to do, and stays until all have come.
        let all = Arc::new(Barrier::new(COUNT));
        let (idle, until_idle) = mpsc::channel::<()>();
        for _ in 0..COUNT {
            let (all, idle) = (Arc::clone(&all), idle.clone());
            self.pool.execute(move || {
                all.wait();
                drop(idle);
            });
        }
        drop(idle);
        // Nothing is sent: it ends when the last of them is there, or when it has taken too long.
        let _ = until_idle.recv_timeout(self.patience);
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}
