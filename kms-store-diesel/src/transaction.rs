//! Transactions: our own, and what a caller's must look like.

use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, TransactionManager as _};
use diesel::result::Error as QueryError;
use kms_core::{Error, ErrorKind};

use crate::dialect::Dialect;
use crate::failure::Failure;

/// What a transaction of our own goes by.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// How long it waits for a lock.
    pub(crate) lock: Duration,
    /// Statements that set what holds until its end: where no session is ours to be set.
    pub(crate) settings: Option<&'a str>,
    /// Whether the same was sent before, and got no answer.
    pub(crate) again: bool,
    /// Asked right before each commit. `false` if the caller was told meanwhile that nothing was written.
    pub(crate) may_commit: &'a dyn Fn() -> bool,
}

/// Runs the work in a transaction of our own, committed if it succeeds and rolled back on every other
/// way out. A failed commit is told from a failed statement.
pub(crate) fn in_own_transaction<C: Dialect, T>(
    connection: &mut C,
    terms: Terms<'_>,
    work: impl FnOnce(&mut C) -> Result<T, Failure>,
) -> Result<T, Failure> {
    connection.begin_writing(terms.settings)?;
    let failure = match work(connection) {
        Ok(value) if (terms.may_commit)() => {
            AnsiTransactionManager::commit_transaction(connection).map_err(Failure::Commit)?;
            return Ok(value);
        }
        Ok(_) => no_time_left(),
        Err(failure) => failure,
    };
    // If this fails too the connection is broken, and the first error tells more.
    let _ = AnsiTransactionManager::rollback_transaction(connection);
    Err(failure)
}

/// The caller was told already that nothing was written.
pub(crate) fn no_time_left() -> Failure {
    Error::new(ErrorKind::DatabaseUnreachable)
        .with_detail("the call had no time left for its commit")
        .into()
}

/// Refuses a connection that is in no transaction: what is applied on it would commit at once, without
/// the rows of the caller's that it belongs to.
pub(crate) fn require_transaction<C: Dialect>(connection: &mut C) -> Result<(), Error> {
    let depth = AnsiTransactionManager::transaction_manager_status_mut(connection)
        .transaction_depth()
        .map_err(crate::failure::query_error)?;
    match depth {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Database)
            .with_detail("begin a transaction with diesel first, and apply the changes inside it")
            .with_source(QueryError::NotInTransaction)),
    }
}
