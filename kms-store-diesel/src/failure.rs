//! What goes wrong between the database and the core's error type.

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use kms_core::{Applied, Error, ErrorKind, SCHEMA_VERSION};

use crate::sqlstate;

/// Why a transaction, or a single query, came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A statement failed, and nothing was committed.
    Query(QueryError),
    /// The commit failed.
    Commit(QueryError),
    /// Another database is in the place of the one that the connection is to. Nothing was committed.
    Displaced(Error),
    /// The connection was lost while a statement was under way that is a transaction of its own, and that may be sent
    /// again.
    Unanswered(QueryError),
    /// All change sets were refused, so that the transaction is to be rolled back.
    NoneApplied(Applied),
    /// An error that is ready to be handed out.
    Ready(Error),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ready(error)
    }
}

impl Failure {
    /// Whether the connection is gone, or of no use, and nothing was committed on it: trying once more is safe.
    pub(crate) fn lost_before_commit(&self) -> bool {
        matches!(self, Self::Query(error) if is_lost(error)) || matches!(self, Self::Displaced(_))
    }

    /// Whether it may have been committed, and may run again.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unanswered(_))
    }

    /// Whether the connection is gone.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Query(error) | Self::Commit(error) | Self::Unanswered(error) if is_lost(error))
    }

    /// Whether the server accepts no writes. Then nothing was committed.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Query(error) if sqlstate::kind(error) == Some(ErrorKind::DatabaseReadOnly))
    }

    /// Whether the server found that this transaction can't stand beside another one; nothing was written.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Query(error) | Self::Commit(error) if sqlstate::is_conflict(error))
    }

    /// Whether a statement failed with an error that says nothing to diesel: a table may be missing.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Query(error) if sqlstate::is_unknown(error))
    }

    /// Whether the commit was refused with an error that says nothing to diesel. Nothing was committed.
    pub(crate) fn is_unknown_refusal_to_commit(&self) -> bool {
        matches!(self, Self::Commit(error) if sqlstate::is_unknown(error))
    }

    /// The error to hand out, in a transaction of our own.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Query(error) => query_error(error),
            Self::Commit(error) | Self::Unanswered(error) => commit_error(error),
            Self::NoneApplied(applied) => applied
                .outcomes
                .into_iter()
                .find_map(Result::err)
                .unwrap_or_else(|| Error::new(ErrorKind::Internal)),
            Self::Displaced(error) | Self::Ready(error) => error,
        }
    }
}

/// The error for a failed statement.
pub(crate) fn query_error(error: QueryError) -> Error {
    if is_lost(&error) {
        return Error::new(ErrorKind::DatabaseUnreachable)
            .with_detail("the connection was closed")
            .with_source(error);
    }
    if lacks_row(&error) {
        return Error::new(ErrorKind::SchemaVersion)
            .with_detail(REPAIR)
            .with_context("expected", SCHEMA_VERSION)
            .with_context("found", "none")
            .with_source(error);
    }
    let kind = sqlstate::kind(&error).unwrap_or(ErrorKind::Database);
    let mut refused = Error::new(kind);
    if let Some(detail) = detail(kind) {
        refused = refused.with_detail(detail);
    }
    if let Some(table) = sqlstate::table(&error) {
        refused = refused.with_context("table", table);
    }
    if kind == ErrorKind::MissingScopeRow
        && let Some(constraint) = sqlstate::constraint(&error)
    {
        refused = refused.with_context("constraint", constraint);
    }
    refused.with_source(error)
}

fn detail(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Conflict => Some(
            "the server ended the transaction, which could not stand beside another one or was in a deadlock with it",
        ),
        ErrorKind::DatabaseBusy => {
            Some("a lock was not granted in time, or the server cancelled the statement")
        }
        _ => None,
    }
}

/// What to do where a table with one row has none.
pub(crate) const REPAIR: &str =
    "where a table with one row has none, `repair` of kms-migrations puts it back";

/// Whether a table with one row has none: the collection version was not found, or the schema refused keys that nobody
/// could read. SQLite has no name for what refused, but the message of the trigger is ours.
fn lacks_row(error: &QueryError) -> bool {
    const NAME: &str = "kms_one_row_tables";
    match error {
        QueryError::NotFound => true,
        QueryError::DatabaseError(_, information) => {
            information.constraint_name() == Some(NAME) || information.message().starts_with(NAME)
        }
        _ => false,
    }
}

fn commit_error(error: QueryError) -> Error {
    match &error {
        // Whether the server had read the command can't be known from here.
        lost if is_lost(lost) => Error::new(ErrorKind::OutcomeUnknown).with_source(error),
        QueryError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)
            if sqlstate::kind(&error).is_none() =>
        {
            in_use(error)
        }
        _ => query_error(error),
    }
}

/// The error of a foreign key that a deletion would break, naming the table that uses the row.
pub(crate) fn in_use(error: QueryError) -> Error {
    let refused = Error::new(ErrorKind::InUse);
    match sqlstate::table(&error) {
        Some(table) => refused.with_context("table", table),
        None => refused,
    }
    .with_source(error)
}

pub(crate) fn is_lost(error: &QueryError) -> bool {
    match error {
        QueryError::DatabaseError(
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
            _,
        )
        | QueryError::BrokenTransactionManager => true,
        QueryError::RollbackErrorOnCommit { commit_error, .. } => is_lost(commit_error),
        _ => false,
    }
}

/// Whether the whole transaction suffers from this error, not only the statement that met it.
pub(crate) fn ends_transaction(error: &QueryError) -> bool {
    is_lost(error)
        || matches!(
            sqlstate::kind(error),
            Some(
                ErrorKind::Conflict
                    | ErrorKind::DatabaseBusy
                    | ErrorKind::DatabaseReadOnly
                    | ErrorKind::DatabaseFull
            )
        )
}
