//! Threads that each have one connection, as the objects of a pool.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use diesel::r2d2::R2D2Connection;

use super::Shared;
use super::session::Session;

/// The name of each thread.
const NAME: &str = "kms-connection";

/// What a thread is to do for one call.
pub(super) type Job<C> = Box<dyn FnOnce(&mut Session<C>, &Claim) + Send>;

/// A thread, for as long as this is not dropped. It opens its connection when it is first needed.
pub(super) struct Worker<C: R2D2Connection + Send + 'static> {
    pub(super) jobs: SyncSender<Job<C>>,
    claim: Arc<Claim>,
    running: Arc<Running>,
}

impl<C: R2D2Connection + Send + 'static> Worker<C> {
    /// Nobody waits for the end of this thread any more.
    pub(super) fn leave(&self) {
        self.running.end();
    }
}

/// Makes the threads of one pool.
pub(super) struct Workers<C: R2D2Connection + Send + 'static> {
    pub(super) shared: Arc<Shared<C>>,
    /// How long a thread, and its connection, waits for the next call before it ends.
    pub(super) idle: Duration,
    /// Each thread has a copy until it has closed its connection, or hangs.
    pub(super) running: mpsc::Sender<()>,
}

impl<C: R2D2Connection + Send + 'static> Manager for Workers<C> {
    type Type = Worker<C>;
    type Error = io::Error;

    async fn create(&self) -> io::Result<Worker<C>> {
        let (jobs, next) = mpsc::sync_channel(1);
        let claim = Arc::new(Claim(AtomicU8::new(TAKEN)));
        let running = Arc::new(Running(Mutex::new(Some(self.running.clone()))));
        let (shared, idle) = (Arc::clone(&self.shared), self.idle);
        let (its_claim, its_end) = (Arc::clone(&claim), Arc::clone(&running));
        std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || {
                serve(shared, &next, &its_claim, idle);
                its_end.end();
            })?;
        Ok(Worker {
            jobs,
            claim,
            running,
        })
    }

    async fn recycle(&self, worker: &mut Worker<C>, _: &Metrics) -> RecycleResult<io::Error> {
        if worker.claim.take() {
            Ok(())
        } else {
            Err(RecycleError::message("it ended while nobody needed it"))
        }
    }
}

fn serve<C: R2D2Connection + Send + 'static>(
    shared: Arc<Shared<C>>,
    jobs: &Receiver<Job<C>>,
    claim: &Claim,
    idle: Duration,
) {
    let mut session = Session::new(shared);
    loop {
        match jobs.recv_timeout(idle) {
            Ok(job) => job(&mut session, claim),
            // If a call has just taken it, its job is on the way.
            Err(RecvTimeoutError::Timeout) if !claim.end() => {}
            Err(_) => break,
        }
    }
}

/// That a thread is to be waited for. No foreign code runs while this is locked.
struct Running(Mutex<Option<mpsc::Sender<()>>>);

impl Running {
    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Who decides about a thread: a call that has taken it, or itself, which may end while it is free.
pub(super) struct Claim(AtomicU8);

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const ENDED: u8 = 2;

impl Claim {
    /// A call takes the thread. Returns `false` if it has ended.
    fn take(&self) -> bool {
        self.change(FREE, TAKEN) != ENDED
    }

    /// The call is over.
    pub(super) fn free(&self) {
        self.change(TAKEN, FREE);
    }

    /// The thread wants to end. Returns `false` if a call has taken it.
    fn end(&self) -> bool {
        self.change(FREE, ENDED) == FREE
    }

    fn change(&self, from: u8, to: u8) -> u8 {
        match self
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(found) | Err(found) => found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_ends_only_while_no_call_has_taken_it() {
        let claim = Claim(AtomicU8::new(TAKEN));
        assert!(!claim.end());
        claim.free();
        assert!(claim.take());
        assert!(!claim.end());
        claim.free();
        assert!(claim.end());
        assert!(!claim.take());
    }
}
