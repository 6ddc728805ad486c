//! Who has the thread of a call: the call, or nobody any more because the call was abandoned.

use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool::managed::Object;
use diesel::r2d2::R2D2Connection;

use super::worker::Workers;

/// Shared by the caller and the thread that works for it. Either the thread ends the lease, and is free for the next
/// call, or the caller abandons it, and the thread closes its connection when it comes back.
///
/// It is also where the two agree on what the caller is told: once it was told that nothing was written, the thread
/// neither begins nor commits any more.
pub(super) struct Lease<C: R2D2Connection + Send + 'static> {
    /// No foreign code runs while this is locked: what is taken out of it is dropped after the lock.
    state: Mutex<State<C>>,
}

struct State<C: R2D2Connection + Send + 'static> {
    /// `None` when the lease has ended or was abandoned.
    worker: Option<Object<Workers<C>>>,
    stage: Stage,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has no connection yet, and has sent nothing.
    Connecting,
    /// It works. Nothing was committed.
    Working,
    /// A commit was sent.
    Committing,
}

impl<C: R2D2Connection + Send + 'static> Lease<C> {
    pub(super) fn new(worker: Object<Workers<C>>) -> Self {
        Self {
            state: Mutex::new(State {
                worker: Some(worker),
                stage: Stage::Connecting,
            }),
        }
    }

    /// The thread has a connection. Returns whether the call still wants it.
    pub(super) fn begin(&self) -> bool {
        self.advance(Stage::Working)
    }

    /// The thread is about to commit. Returns whether it may.
    pub(super) fn commit(&self) -> bool {
        self.advance(Stage::Committing)
    }

    /// The thread is about to look for another connection. Returns whether the call still wants it.
    pub(super) fn wanted(&self) -> bool {
        self.lock().worker.is_some()
    }

    fn advance(&self, stage: Stage) -> bool {
        let mut state = self.lock();
        if state.stage != Stage::Committing {
            state.stage = stage;
        }
        state.worker.is_some()
    }

    /// The thread is done. Returns the worker, unless the call was abandoned: where it is dropped it goes back to
    /// the pool.
    pub(super) fn end(&self) -> Option<Object<Workers<C>>> {
        self.lock().worker.take()
    }

    /// Takes the thread's place in the pool from it, if the call has come no further than this stage. Returns the
    /// stage, or `None` if the thread is further, or done.
    pub(super) fn abandon(&self, furthest: Stage) -> Option<Stage> {
        let (worker, stage) = {
            let mut state = self.lock();
            if state.stage > furthest {
                return None;
            }
            (state.worker.take()?, state.stage)
        };
        if stage != Stage::Connecting {
            worker.leave();
        }
        // The place is free for a new one; without its sender the thread ends when it comes back.
        drop(Object::take(worker));
        Some(stage)
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
