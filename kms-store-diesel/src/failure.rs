//! What goes wrong between the database and the core's error type.

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use kms_core::{Applied, Error, ErrorKind, SCHEMA_VERSION};

/// Why a transaction, or a single query, came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A statement failed, and nothing was committed.
    Query(QueryError),
    /// The commit failed.
    Commit(QueryError),
    /// The server took this transaction to break a deadlock.
    #[cfg_attr(
        not(any(feature = "diesel-async", feature = "postgres")),
        allow(dead_code, reason = "SQLite has one writer")
    )]
    Deadlock,
    /// Another database is in the place of the one that the connection is to. Nothing was committed.
    Displaced(Error),
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

    /// Whether the connection is gone.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Query(error) | Self::Commit(error) if is_lost(error))
    }

    /// Whether the server accepts no writes. Then nothing was committed.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Query(error) if is_read_only(error))
    }

    /// Whether the server found that this transaction can't stand beside another one; nothing was written.
    pub(crate) fn is_serialization(&self) -> bool {
        match self {
            Self::Deadlock => true,
            Self::Query(error) | Self::Commit(error) => is_serialization(error),
            Self::NoneApplied(_) | Self::Displaced(_) | Self::Ready(_) => false,
        }
    }

    /// Whether the database gave an error that says nothing to diesel: a table may be missing.
    pub(crate) fn is_unclassified(&self) -> bool {
        matches!(
            self,
            Self::Query(QueryError::DatabaseError(DatabaseErrorKind::Unknown, _))
        )
    }

    /// The error to hand out, in a transaction of our own.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Query(error) => query_error(error),
            Self::Commit(error) => commit_error(error),
            Self::Deadlock => conflict("the server ended the transaction to break a deadlock"),
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
    if is_serialization(&error) {
        return conflict("the server could not put it in order with another transaction")
            .with_source(error);
    }
    if lacks_row(&error) {
        return Error::new(ErrorKind::SchemaVersion)
            .with_detail(REPAIR)
            .with_context("expected", SCHEMA_VERSION)
            .with_context("found", "none")
            .with_source(error);
    }
    if is_read_only(&error) {
        return Error::new(ErrorKind::DatabaseReadOnly).with_source(error);
    }
    let refused = Error::new(ErrorKind::Database);
    match table_of(&error) {
        Some(table) => refused.with_context("table", table),
        None => refused,
    }
    .with_source(error)
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
        QueryError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => in_use(error),
        _ => query_error(error),
    }
}

/// The error of a foreign key that a deletion would break, naming the table that uses the row.
pub(crate) fn in_use(error: QueryError) -> Error {
    let refused = Error::new(ErrorKind::InUse);
    match table_of(&error) {
        Some(table) => refused.with_context("table", table),
        None => refused,
    }
    .with_source(error)
}

fn conflict(detail: &'static str) -> Error {
    Error::new(ErrorKind::Conflict).with_detail(detail)
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

pub(crate) fn is_serialization(error: &QueryError) -> bool {
    match error {
        QueryError::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => true,
        QueryError::RollbackErrorOnCommit { commit_error, .. } => is_serialization(commit_error),
        _ => false,
    }
}

/// Whether the server accepts no writes (SQLSTATE 25006).
pub(crate) fn is_read_only(error: &QueryError) -> bool {
    matches!(
        error,
        QueryError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)
    )
}

/// Whether the whole transaction suffers from this error, not only the statement that met it.
pub(crate) fn ends_transaction(error: &QueryError) -> bool {
    is_lost(error) || is_serialization(error) || is_read_only(error)
}

fn table_of(error: &QueryError) -> Option<String> {
    match error {
        QueryError::DatabaseError(_, information) => information.table_name().map(str::to_owned),
        _ => None,
    }
}
