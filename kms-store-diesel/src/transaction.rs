//! Transactions: our own, and what a caller's must look like.

use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::TransactionManagerStatus;
use diesel::result::Error as QueryError;
use kms_core::{Error, ErrorKind};

use crate::dialect::Dialect;
use crate::failure::Failure;

/// Transactions and savepoints, as diesel counts them.
pub(crate) trait Transactions {
    /// Begins a savepoint, or the transaction if there is none.
    fn begin(&mut self) -> impl Future<Output = QueryResult<()>> + Send;

    /// Commits what was begun last.
    fn commit(&mut self) -> impl Future<Output = QueryResult<()>> + Send;

    /// Rolls back what was begun last.
    fn roll_back(&mut self) -> impl Future<Output = QueryResult<()>> + Send;

    fn status(&mut self) -> &mut TransactionManagerStatus;

    /// Lets time pass, as work on such a connection may.
    fn pause(pause: Duration) -> impl Future<Output = ()> + Send;
}

/// What a transaction of our own goes by.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// How long it waits for a lock.
    pub(crate) lock: Duration,
    /// Statements that set what holds until its end: where no session is ours to be set.
    pub(crate) settings: Option<&'a str>,
    /// Asked right before each commit. `false` if the caller was told meanwhile that nothing was written.
    pub(crate) may_commit: &'a (dyn Fn() -> bool + Sync),
}

/// Ends the savepoint or transaction that was begun last: commits it if the work in it succeeded, and rolls it back
/// otherwise.
pub(crate) async fn ended<C: Dialect, T, E: From<QueryError>>(
    connection: &mut C,
    result: Result<T, E>,
) -> Result<T, E> {
    match result {
        Ok(value) => {
            connection.commit().await?;
            Ok(value)
        }
        Err(error) => match connection.roll_back().await {
            // The first error tells more.
            Ok(()) | Err(QueryError::BrokenTransactionManager) => Err(error),
            Err(rolling_back) => Err(rolling_back.into()),
        },
    }
}

/// Ends a transaction of our own, which [`begin_writing`](crate::dialect::Writing::begin_writing) began: commits it if the
/// work in it succeeded, and rolls it back on every other way out. A failed commit is told from a failed statement.
pub(crate) async fn own_ended<C: Dialect, T>(
    connection: &mut C,
    terms: Terms<'_>,
    result: Result<T, Failure>,
) -> Result<T, Failure> {
    let failure = match result {
        Ok(value) if (terms.may_commit)() => {
            connection.commit().await.map_err(Failure::Commit)?;
            return Ok(value);
        }
        Ok(_) => Error::new(ErrorKind::DatabaseUnreachable)
            .with_detail("the call had no time left for its commit")
            .into(),
        Err(failure) => failure,
    };
    // If this fails too the connection is broken, and the first error tells more.
    let _ = connection.roll_back().await;
    Err(failure)
}

/// Refuses a connection that is in no transaction: what is applied on it would commit at once, without
/// the rows of the caller's that it belongs to.
pub(crate) fn require_transaction<C: Dialect>(connection: &mut C) -> Result<(), Error> {
    let depth = connection
        .status()
        .transaction_depth()
        .map_err(crate::failure::query_error)?;
    match depth {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Database)
            .with_detail("begin a transaction with diesel first, and apply the changes inside it")
            .with_source(QueryError::NotInTransaction)),
    }
}

/// A connection in the middle of a change. Left there, because the change's future was dropped or panicked, it counts
/// as broken: nothing can be committed on it any more, neither what was written of the change nor the rows of the
/// caller's beside it, and pools drop it.
pub(crate) struct Whole<'c, C: Dialect>(Option<&'c mut C>);

impl<'c, C: Dialect> Whole<'c, C> {
    pub(crate) fn begun(connection: &'c mut C) -> Self {
        Self(Some(connection))
    }

    pub(crate) fn connection(&mut self) -> &mut C {
        self.0.as_mut().expect("it has one until it is done")
    }

    pub(crate) fn done(mut self) {
        self.0 = None;
    }
}

impl<C: Dialect> Drop for Whole<'_, C> {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.status().set_in_error();
        }
    }
}
