//! Where work runs that must not depend on whoever began it.

use std::fmt;
use std::sync::OnceLock;
use std::thread;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};

use crate::error::{Error, ErrorKind, Result};
use crate::sync::spawn_in_model;

/// Loads and changes run as tasks: a caller that goes away takes nothing along, and callers in other runtimes can wait
/// for the same load.
///
/// They run in the runtime that the builder was given; else in the caller's, if that has threads of its own; else in
/// a small runtime of this crate's. A current-thread runtime makes progress only while somebody blocks on it, so that
/// a load begun in it would hang those who wait elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Executor {
    pub(crate) chosen: Option<Handle>,
}

impl Executor {
    /// Runs the work to its end. If the runtime ends before, the work is dropped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let Some(work) = spawn_in_model(work) else {
            return Ok(());
        };
        let handle = match &self.chosen {
            Some(handle) => handle.clone(),
            None => match Handle::try_current() {
                Ok(handle) if handle.runtime_flavor() != RuntimeFlavor::CurrentThread => handle,
                _ => own_runtime()?,
            },
        };
        drop(handle.spawn(work));
        Ok(())
    }

    /// As [`spawn`](Self::spawn), in the runtime that never ends.
    pub(crate) fn spawn_for_good(work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let Some(work) = spawn_in_model(work) else {
            return Ok(());
        };
        drop(own_runtime()?.spawn(work));
        Ok(())
    }
}

/// A runtime on one thread, begun when it is first needed, which lives as long as the process.
fn own_runtime() -> Result<Handle> {
    static OWN: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = OWN.get() {
        return Ok(handle.clone());
    }
    let failed = |source: std::io::Error| {
        Error::new(ErrorKind::Internal)
            .with_detail("the thread for loading keys can't be started")
            .with_source(source)
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let handle = runtime.handle().clone();
    // Whoever comes second drops a runtime in which nothing was begun.
    let first = OWN.get_or_init(|| handle.clone()).id() == handle.id();
    if first {
        thread::Builder::new()
            .name("kms-loading".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .map_err(failed)?;
    } else {
        runtime.shutdown_background();
    }
    OWN.get().cloned().ok_or_else(|| ErrorKind::Internal.into())
}

/// Shown where a runtime ended under a load.
pub(crate) struct Ended;

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the runtime in which keys were loaded has ended")
    }
}
