//! One call, on its thread.

use std::sync::Arc;

use deadpool::managed::Object;
use diesel::r2d2::R2D2Connection;
use kms_core::Result;
use tokio::sync::oneshot;

use super::Shared;
use super::lease::Lease;
use super::limits::Deadlines;
use super::worker::{Claim, Job};
use crate::blocking::Blocking;
use crate::failure::Failure;
use crate::transaction::Terms;

/// What the thread does for one call.
pub(super) fn job<C: Blocking, T: Send + 'static>(
    lease: Arc<Lease<C>>,
    shared: Arc<Shared<C>>,
    deadlines: Deadlines,
    work: impl Fn(&mut C, Terms<'_>) -> Result<T, Failure> + Send + 'static,
    reply: oneshot::Sender<Result<T>>,
) -> Job<C> {
    Box::new(move |session, claim| {
        let turn = Turn {
            lease: &lease,
            shared: &shared,
            claim,
        };
        let result = session.perform(&lease, deadlines, work);
        // First the thread is free: the caller may make its next call at once.
        drop(turn);
        let _ = reply.send(result);
    })
}

/// A call on its thread. At its end, also if the work panics, the thread is free, or nobody's.
struct Turn<'a, C: R2D2Connection + Send + 'static> {
    lease: &'a Lease<C>,
    shared: &'a Shared<C>,
    claim: &'a Claim,
}

impl<C: R2D2Connection + Send + 'static> Drop for Turn<'_, C> {
    fn drop(&mut self) {
        self.claim.free();
        match self.lease.end() {
            Some(worker) if std::thread::panicking() => drop(Object::take(worker)),
            Some(worker) => drop(worker),
            None => self.shared.silence.came_back(),
        }
    }
}
