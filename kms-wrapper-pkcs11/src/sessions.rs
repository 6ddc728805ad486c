//! Threads that each have one session, as the objects of a pool: calls of PKCS#11 block, and may hang.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use deadpool::managed::{Manager, Metrics, Pool, RecycleError, RecycleResult};
use kms_core::{CallLimits, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::departure::Departure;
use crate::target::Target;
use crate::token::Opened;

/// The name of each thread.
const NAME: &str = "kms-pkcs11";

/// What a thread is to do for one call.
type Job = Box<dyn FnOnce(&Target, &mut Option<Opened>) + Send>;

/// The sessions of one wrapper.
pub(crate) struct Sessions {
    pool: Pool<Threads>,
    limits: CallLimits,
    /// After the pool: it waits for the pool's threads.
    _departure: Departure,
}

impl Sessions {
    /// At most `count` of them; each begins with the first call that finds the others busy.
    pub(crate) fn new(target: Arc<Target>, count: usize, limits: CallLimits) -> Result<Self> {
        let (running, all_ended) = mpsc::channel();
        let pool = Pool::builder(Threads { target, running })
            .max_size(count)
            .build()
            .map_err(|cause| Error::new(ErrorKind::Internal).with_source(cause))?;
        Ok(Self {
            pool,
            limits,
            _departure: Departure::new(all_ended),
        })
    }

    pub(crate) fn limits(&self) -> &CallLimits {
        &self.limits
    }

    /// Does something on the token, within the limits.
    ///
    /// The deadline is this side's: a thread in which the token hangs is left alone, and is not used again before it
    /// is back. Threads that hang count, so that there are never more than the pool allows.
    pub(crate) async fn call<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: Fn(&Opened) -> Result<T> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let attempt = || async {
            let thread = self
                .pool
                .get()
                .await
                .map_err(|cause| Error::new(ErrorKind::Internal).with_source(cause))?;
            let (answer, answered) = oneshot::channel();
            let work = Arc::clone(&work);
            let jobs = thread.jobs.clone();
            let job: Job = Box::new(move |target, opened| {
                let outcome = attempt_in(target, opened, &*work);
                // First, so that whoever gets the answer finds the thread free.
                drop(thread);
                let _ = answer.send(outcome);
            });
            let ended = |_| Error::new(ErrorKind::Internal).with_detail("a thread ended early");
            jobs.send(job).map_err(|_| ended(()))?;
            answered.await.map_err(|_| ended(()))?
        };
        self.limits.run(attempt).await
    }
}

/// Works in the thread's session, or in a new one where that was lost: logged out or closed by somebody, its token
/// removed.
fn attempt_in<T>(
    target: &Target,
    opened: &mut Option<Opened>,
    work: impl Fn(&Opened) -> Result<T>,
) -> Result<T> {
    if let Some(before) = opened.take() {
        let outcome = work(&before);
        if is_well_after(&outcome) {
            *opened = Some(before);
            return outcome;
        }
    }
    let new = Opened::open(target)?;
    let outcome = work(&new);
    if is_well_after(&outcome) {
        *opened = Some(new);
    }
    outcome
}

/// Whether it says nothing against the session.
fn is_well_after<T>(outcome: &Result<T>) -> bool {
    use ErrorKind::{AuthenticationFailed, ForeignRootKey, InvalidBlob};
    match outcome {
        Ok(_) => true,
        Err(error) => matches!(
            error.kind(),
            AuthenticationFailed | ForeignRootKey | InvalidBlob
        ),
    }
}

/// A thread, for as long as this is not dropped. It opens its session when it is first needed.
struct Thread {
    jobs: SyncSender<Job>,
    handle: std::thread::JoinHandle<()>,
}

struct Threads {
    target: Arc<Target>,
    /// Each thread has a copy until it has closed its session.
    running: mpsc::Sender<()>,
}

impl Manager for Threads {
    type Type = Thread;
    type Error = io::Error;

    async fn create(&self) -> io::Result<Thread> {
        let (jobs, next) = mpsc::sync_channel(1);
        let (target, running) = (Arc::clone(&self.target), self.running.clone());
        let handle = std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || {
                serve(&target, &next);
                drop(running);
            })?;
        Ok(Thread { jobs, handle })
    }

    async fn recycle(&self, thread: &mut Thread, _: &Metrics) -> RecycleResult<io::Error> {
        if thread.handle.is_finished() {
            return Err(RecycleError::message("it panicked"));
        }
        Ok(())
    }
}

fn serve(target: &Target, jobs: &Receiver<Job>) {
    let mut opened = None;
    while let Ok(job) = jobs.recv() {
        job(target, &mut opened);
    }
}
