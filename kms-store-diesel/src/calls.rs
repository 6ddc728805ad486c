//! How the calls of a repository reach a connection: on a thread of the connection's own for those of diesel
//! (`connections.rs`), in tasks for those of diesel-async (`tasks.rs`).

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use kms_core::Result;

use crate::failure::Failure;
use crate::transaction::Terms;

/// A connection that a repository can have many of.
pub trait Pooled: Sized {
    /// The connections of a repository.
    type Calls: Clone + fmt::Debug + Send + Sync;

    /// The same connections, with another limit for all of a call.
    fn with_call_limit(calls: Self::Calls, limit: Duration) -> Self::Calls;
}

/// What a call does with a connection, by what it was given.
pub(crate) type Work<C, D, T> = for<'c> fn(&'c D, &'c mut C, Terms<'c>) -> Running<'c, T>;

pub(crate) type Running<'c, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'c>>;

/// Runs calls on connections.
pub(crate) trait Calls<C> {
    /// How often the connections were found to be to the wrong server.
    fn server_changes(&self) -> u64;

    /// Runs the work on a connection, and once more on another one if the server had closed that and nothing can have
    /// been committed. Waits for it until the call's deadline.
    fn run<D: Send + Sync + 'static, T: Send + 'static>(
        &self,
        operation: &'static str,
        given: D,
        work: Work<C, D, T>,
    ) -> impl Future<Output = Result<T>> + Send;
}
