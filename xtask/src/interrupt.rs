//! Ctrl-C and the other requests to stop (SIGTERM, SIGHUP).
//!
//! The handler stops the commands that are running; the main thread then sees it end, finds
//! [`requested`] set, and goes back through its callers, so that servers are stopped by `Drop` as
//! on every other way out.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static ABANDONED: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Installs the handler.
pub(crate) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        // Asked a second time: whatever it is, it did not listen.
        let signal = if REQUESTED.swap(true, Ordering::SeqCst) {
            Signal::SIGKILL
        } else {
            Signal::SIGTERM
        };
        signal_running(signal);
    })
    .context("cannot install the handler for Ctrl-C")
}

/// Whether somebody has asked this program to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Whether what is going on in other threads is of no use any more.
pub(crate) fn leaving() -> bool {
    requested() || ABANDONED.load(Ordering::SeqCst)
}

/// Lets other threads know that this program is about to end.
pub(crate) fn abandon() {
    ABANDONED.store(true, Ordering::SeqCst);
}

/// Fails if somebody has asked this program to stop.
pub(crate) fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// While this lives, a request to stop ends the process group `group`.
pub(crate) struct Stoppable(Pid);

impl Stoppable {
    pub(crate) fn new(group: Pid) -> Self {
        lock().push(group);
        // The request may have come between the start of the process and the line above.
        if requested() {
            signal_running(Signal::SIGTERM);
        }
        Self(group)
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        lock().retain(|group| *group != self.0);
    }
}

fn signal_running(signal: Signal) {
    for group in lock().iter() {
        // It may just have ended: then there is nothing to stop.
        let _ = killpg(*group, signal);
    }
}

fn lock() -> std::sync::MutexGuard<'static, Vec<Pid>> {
    RUNNING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
