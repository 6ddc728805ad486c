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
    /// Asked right before each commit. `false` if the caller was told meanwhile that nothing was written.
    pub(crate) may_commit: &'a dyn Fn() -> bool,
}

/// Runs the work in a transaction of our own, committed if it succeeds and rolled back on every other
/// way out. A failed commit is told from a failed statement.
///
/// What is deferred to the commit may be refused there with an error that can't be told from others. Nothing was
/// committed then, and the work runs once more, with those checks in a statement that tells.
pub(crate) fn in_own_transaction<C: Dialect, T>(
    connection: &mut C,
    terms: Terms<'_>,
    work: impl Fn(&mut C) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match attempt(connection, terms, &work) {
        Err(failure) if failure.is_unknown_refusal_to_commit() => {
            attempt(connection, terms, |connection| {
                let value = work(connection)?;
                connection.check_deferred()?;
                Ok(value)
            })
        }
        other => other,
    }
}

fn attempt<C: Dialect, T>(
    connection: &mut C,
    terms: Terms<'_>,
    work: impl Fn(&mut C) -> Result<T, Failure>,
) -> Result<T, Failure> {
    connection.begin_writing(terms.settings)?;
    let failure = match work(connection) {
        Ok(value) if (terms.may_commit)() => {
            match AnsiTransactionManager::commit_transaction(connection) {
                Ok(()) => return Ok(value),
                Err(error) => return Err(Failure::Commit(error)),
            }
        }
        Ok(_) => Error::new(ErrorKind::DatabaseUnreachable)
            .with_detail("the call had no time left for its commit")
            .into(),
        Err(failure) => failure,
    };
    // If this fails too the connection is broken, and the first error tells more.
    let _ = AnsiTransactionManager::rollback_transaction(connection);
    Err(failure)
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
