//! Transactions: our own, and what a caller's must look like.

use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, TransactionManager as _};
use diesel::result::Error as QueryError;
use kms_core::{Error, ErrorKind};

use crate::connections::Site;
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
    /// What the connection is to.
    pub(crate) site: Site<'a>,
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
    let worked = work(connection).and_then(|value| {
        terms.site.check().map_err(Failure::Displaced)?;
        Ok(value)
    });
    let failure = match worked {
        Ok(value) if (terms.may_commit)() => {
            AnsiTransactionManager::commit_transaction(connection).map_err(Failure::Commit)?;
            // Or it was committed to a file that nobody opens any more, unless that one was copied after the commit.
            terms.site.check().map_err(displaced)?;
            return Ok(value);
        }
        Ok(_) => no_time_left(),
        Err(failure) => failure,
    };
    // If this fails too the connection is broken, and the first error tells more.
    let _ = AnsiTransactionManager::rollback_transaction(connection);
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

#[cfg(all(test, feature = "sqlite", unix))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use diesel::connection::SimpleConnection as _;
    use diesel::prelude::*;
    use diesel::sqlite::SqliteConnection;

    use super::*;
    use crate::connections::Place;

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
        in_own_transaction(&mut connection, terms, |connection| {
            connection.batch_execute("insert into change values (1)")?;
            if during_work {
                remove();
            }
            Ok(())
        })
        .unwrap_err()
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
