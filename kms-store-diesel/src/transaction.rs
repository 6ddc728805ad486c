//! Transactions: our own, and what a caller's must look like.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, TransactionManager as _};
use diesel::result::Error as QueryError;
use kms_core::{Error, ErrorKind};

use crate::dialect::Dialect;
use crate::failure::Failure;

/// What a transaction of our own goes by.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// How long it waits for a lock.
    pub(crate) lock: Duration,
    /// Statements that set what holds until its end: where no session is ours to be set.
    pub(crate) settings: Option<Arc<str>>,
}

/// Runs the work in a transaction of our own, committed if it succeeds and rolled back on every other
/// way out. A failed commit is told from a failed statement.
pub(crate) fn in_own_transaction<C: Dialect, T>(
    connection: &mut C,
    terms: &Terms,
    work: impl FnOnce(&mut C) -> Result<T, Failure>,
) -> Result<T, Failure> {
    connection.begin_writing(terms.settings.as_deref())?;
    match work(connection) {
        Ok(value) => {
            AnsiTransactionManager::commit_transaction(connection).map_err(Failure::Commit)?;
            Ok(value)
        }
        Err(failure) => {
            // If this fails too the connection is broken, and the first error tells more.
            let _ = AnsiTransactionManager::rollback_transaction(connection);
            Err(failure)
        }
    }
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
