//! The locks and atomics of the cache and its loads: those of the standard library.
//!
//! In the model they are shuttle's instead. shuttle runs the threads of a test one step at a time, in an order that it
//! chooses, so that many orders are tried. `cargo xtask test model` runs the models: unit tests in modules named
//! `model`, built with `--cfg shuttle`, because shuttle's locks work only under its scheduler. What a user builds knows
//! nothing of it: shuttle is a dependency of these tests alone.
//!
//! shuttle takes every atomic operation for one of sequential consistency: it finds a wrong order of steps, but not a
//! wrong [`Ordering`](std::sync::atomic::Ordering).

#[cfg(not(all(test, shuttle)))]
pub(crate) use plain::*;

#[cfg(all(test, shuttle))]
pub(crate) use modelled::*;

#[cfg(not(all(test, shuttle)))]
mod plain {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread::available_parallelism;

    /// The number of this thread, if it is one of a model.
    #[inline(always)]
    pub(crate) const fn number_in_model() -> Option<usize> {
        None
    }

    /// Spawns the work if that is the model's to do. Gives it back if not.
    #[inline(always)]
    pub(crate) fn spawn_in_model<F>(work: F) -> Option<F> {
        Some(work)
    }
}

#[cfg(all(test, shuttle))]
mod modelled {
    use std::num::NonZeroUsize;

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};

    /// The same on every machine.
    pub(crate) fn available_parallelism() -> std::io::Result<NonZeroUsize> {
        Ok(NonZeroUsize::MIN)
    }

    /// The number of this thread: the same in each run of the same schedule.
    pub(crate) fn number_in_model() -> Option<usize> {
        Some(shuttle::current::me().into())
    }

    /// Spawns the work in a thread of the model.
    pub(crate) fn spawn_in_model<F: Future<Output = ()> + Send + 'static>(work: F) -> Option<F> {
        shuttle::thread::spawn(|| shuttle::future::block_on(work));
        None
    }
}
