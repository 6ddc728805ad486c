//! What a thread does for a call, on the connection that it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::r2d2::R2D2Connection;
use kms_core::{Error, ErrorKind, Result};

use super::lease::Lease;
use super::limits::Deadlines;
use super::source::Opened;
use super::{Shared, check};
use crate::dialect::Dialect;
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

impl<C: Dialect> Session<C> {
    /// Runs the work. If the server has closed the connection and nothing was committed, it runs once more on a
    /// connection that answers. It does not begin, and commits nothing, after the call was abandoned.
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
        let terms = Terms {
            lock: shared.limits.lock,
            settings: shared.transaction.as_deref(),
            again: false,
            may_commit: &|| lease.commit(),
        };
        let by = deadlines.connection.into_std();
        let mut connection = shared.source.take(&mut self.kept, by, &shared.limits)?;
        if !lease.begin() {
            self.kept = connection.kept();
            return Err(abandoned());
        }
        let mut started = Instant::now();
        let mut result = work(&mut connection, terms);
        let again = |failure: &Failure| failure.lost_before_commit() || failure.is_unanswered();
        let mut unanswered = None;
        if result.as_ref().err().is_some_and(again) && lease.wanted() {
            // Diesel has noticed too, so that the application's pool drops it.
            drop(connection);
            unanswered = result.err().filter(Failure::is_unanswered);
            connection = match shared.source.take_answering(&shared.limits) {
                Ok(connection) => connection,
                Err(error) => return Err(unanswered.map_or(error, Failure::into_error)),
            };
            if !lease.begin() {
                self.kept = connection.kept();
                return Err(abandoned());
            }
            started = Instant::now();
            let again = unanswered.is_some();
            result = work(&mut connection, Terms { again, ..terms });
        }
        if !matches!(&result, Err(failure) if failure.is_lost()) {
            shared.silence.answered();
        }
        let elapsed = started.elapsed();
        let result = result.map_err(|failure| match unanswered {
            Some(first) => first.into_error(),
            None => shared.explain(&mut connection, failure, elapsed),
        });
        self.kept = connection.kept();
        result
    }
}

impl<C: Dialect> Shared<C> {
    fn explain(&self, connection: &mut C, failure: Failure, elapsed: Duration) -> Error {
        match &failure {
            Failure::Query(error) | Failure::Commit(error) if C::is_busy(error) => busy(failure),
            _ if failure.is_unclassified() => {
                if elapsed >= self.limits.lock.min(self.limits.statement) {
                    return busy(failure);
                }
                match connection.schema_versions() {
                    Ok(versions) => check(&versions)
                        .err()
                        .unwrap_or_else(|| failure.into_error()),
                    Err(_) => failure.into_error(),
                }
            }
            _ => failure.into_error(),
        }
    }
}

fn busy(failure: Failure) -> Error {
    let error = Error::new(ErrorKind::DatabaseBusy).with_detail("a lock was not granted in time");
    match failure {
        Failure::Query(source) | Failure::Commit(source) => error.with_source(source),
        _ => error,
    }
}

/// Nobody is there to see it.
fn abandoned() -> Error {
    Error::new(ErrorKind::DatabaseUnreachable).with_detail("the call was given up before it began")
}
