//! What a thread does for a call, on the connection that it has.

use std::sync::Arc;
use std::time::Instant;

use diesel::r2d2::R2D2Connection;
use kms_core::{Error, ErrorKind, Result};

use super::Shared;
use super::lease::Lease;
use super::limits::Deadlines;
use super::source::{Opened, Taken};
use crate::blocking::{Blocking, now};
use crate::explaining::explain;
use crate::failure::Failure;
use crate::transaction::Terms;

/// A thread's connection, while it has one.
pub(super) struct Session<C: R2D2Connection + Send + 'static> {
    shared: Arc<Shared<C>>,
    kept: Option<Opened<C>>,
}

impl<C: R2D2Connection + Send + 'static> Session<C> {
    pub(super) fn new(shared: Arc<Shared<C>>) -> Self {
        Self { shared, kept: None }
    }
}

impl<C: Blocking> Session<C> {
    /// Runs the work. If the server has closed the connection, or another database is in the place of the one that it
    /// was to, and nothing was committed, it runs once more on a connection that answers; if it accepts no writes, on
    /// one to a server that does, where there is one. It does not begin, and commits nothing, after the call was
    /// abandoned.
    ///
    /// Work that may have been committed, and can be repeated, runs once more too. If that does not succeed it says
    /// nothing about the first time, whose outcome stays unknown.
    pub(super) fn perform<T>(
        &mut self,
        lease: &Lease<C>,
        deadlines: Deadlines,
        work: impl Fn(&mut C, Terms<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let (limits, generation) = (&shared.limits, &shared.generation);
        let may_commit = || lease.commit();
        let terms = |again, site| Terms {
            lock: limits.lock,
            settings: shared.transaction.as_deref(),
            again,
            may_commit: &may_commit,
            site,
        };
        let by = deadlines.connection.into_std();
        let source = &shared.source;
        let mut connection = source.take(&mut self.kept, by, limits, generation)?;
        if !lease.begin() {
            self.kept = connection.kept();
            return Err(abandoned());
        }
        let mut started = Instant::now();
        let site = source.site(&connection);
        let mut result = work(&mut connection, terms(false, site));
        let mut unanswered = None;
        if let Err(failure) = result {
            let closed = failure.lost_before_commit() || failure.is_unanswered();
            if (closed || failure.is_read_only()) && lease.wanted() {
                if closed {
                    // Diesel has noticed too, so that the application's pool drops it.
                    drop(connection);
                    unanswered = Some(failure).filter(Failure::is_unanswered);
                    connection = match source.take_answering(limits, generation) {
                        Ok(connection) => connection,
                        Err(error) => return Err(unanswered.map_or(error, Failure::into_error)),
                    };
                } else {
                    connection = match source.elsewhere(connection, limits, generation) {
                        Ok(another) => another,
                        Err(same) => {
                            shared.silence.answered();
                            self.kept = same.and_then(Taken::kept);
                            return Err(failure.into_error());
                        }
                    };
                }
                if !lease.begin() {
                    self.kept = connection.kept();
                    return Err(abandoned());
                }
                started = Instant::now();
                let site = source.site(&connection);
                result = work(&mut connection, terms(unanswered.is_some(), site));
            } else {
                result = Err(failure);
            }
        }
        if !matches!(&result, Err(failure) if failure.is_lost()) {
            shared.silence.answered();
        }
        let elapsed = started.elapsed();
        let result = result.map_err(|failure| match unanswered {
            Some(first) => first.into_error(),
            None => now(explain(&mut *connection, failure, elapsed, &shared.limits)),
        });
        self.kept = connection.kept();
        result
    }
}

/// Nobody is there to see it.
fn abandoned() -> Error {
    Error::new(ErrorKind::DatabaseUnreachable).with_detail("the call was given up before it began")
}
