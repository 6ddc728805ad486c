//! Transactions: our own, and what a caller's must look like.

use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::TransactionManagerStatus;
use diesel::result::Error as QueryError;
use kms_core::{Error, ErrorKind};

use crate::connections::Site;
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
    /// Whether the same was sent before, and got no answer.
    pub(crate) again: bool,
    /// Asked right before each commit. `false` if the caller was told meanwhile that nothing was written.
    pub(crate) may_commit: &'a (dyn Fn() -> bool + Sync),
    /// What the connection is to.
    pub(crate) site: Site<'a>,
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
    let worked = result.and_then(|value| {
        terms.site.check().map_err(Failure::Displaced)?;
        Ok(value)
    });
    let failure = match worked {
        Ok(value) if (terms.may_commit)() => {
            connection.commit().await.map_err(Failure::Commit)?;
            // Or it was committed to a file that nobody opens any more, unless that one was copied after the commit.
            terms.site.check().map_err(displaced)?;
            return Ok(value);
        }
        Ok(_) => no_time_left(),
        Err(failure) => failure,
    };
    // If this fails too the connection is broken, and the first error tells more.
    let _ = connection.roll_back().await;
    Err(failure)
}

fn displaced(error: Error) -> Error {
    Error::new(ErrorKind::OutcomeUnknown)
        .with_detail("the database was removed or replaced during the commit")
        .with_source(error)
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

#[cfg(all(test, feature = "sqlite", unix))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use diesel::connection::SimpleConnection as _;
    use diesel::prelude::*;
    use diesel::sqlite::SqliteConnection;

    use super::*;
    use crate::blocking::now;
    use crate::connections::Place;
    use crate::dialect::Writing as _;

    /// What becomes of a change if its file is removed by the work, or after that, before the commit.
    fn removed(during_work: bool) -> Failure {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sqlite3");
        let place = Place::new(path.clone());
        fs::write(&path, "").unwrap();
        let (mut connection, site) = place
            .site_of(|| Ok(SqliteConnection::establish(path.to_str().unwrap()).unwrap()))
            .unwrap();
        connection
            .batch_execute("pragma journal_mode = wal; create table change (id integer)")
            .unwrap();
        let remove = || fs::remove_file(&path).unwrap();
        let may_commit = || {
            assert!(!during_work, "it is not asked for");
            remove();
            true
        };
        let terms = Terms {
            lock: Duration::from_secs(1),
            settings: None,
            again: false,
            may_commit: &may_commit,
            site,
        };
        now(connection.begin_writing(terms.settings)).unwrap();
        connection
            .batch_execute("insert into change values (1)")
            .unwrap();
        if during_work {
            remove();
        }
        now(own_ended(&mut connection, terms, Ok(()))).unwrap_err()
    }

    #[test]
    fn a_change_whose_file_is_gone_before_the_commit_is_not_committed_and_can_be_tried_again() {
        let failure = removed(true);
        assert!(failure.lost_before_commit());
        let error = failure.into_error();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
    }

    #[test]
    fn a_commit_to_a_file_that_is_gone_is_not_acknowledged() {
        let failure = removed(false);
        assert!(!failure.lost_before_commit());
        let error = failure.into_error();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    }
}
