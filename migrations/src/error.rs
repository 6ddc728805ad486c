//! What can go wrong while migrating, as kinds that a caller can match.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error while running, verifying or adopting.
///
/// Match on [`kind`](Error::kind); what the database said is the
/// [`source`](StdError::source).
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What went wrong. Its `Display` says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database could not be reached, or refused a statement. Nothing was
    /// changed.
    #[error("the database refused a statement: see the source; nothing was changed")]
    Database,

    /// Someone else kept the database locked for longer than this waits.
    /// Nothing was changed; trying again can help.
    #[error("the database is locked by another process: try again when it has finished")]
    Locked,

    /// The lock was not this session's when it was to be given back: a pooler
    /// gave each transaction another session. The migrations ran, but nothing
    /// kept other processes from running them too; and the lock stays until the
    /// pooler closes the session that has it.
    #[error(
        "the migrations ran, but a connection pooler gave their lock to another session, \
         where it stays until that is closed: connect to the server itself"
    )]
    LockLost,

    /// There is no kms table in the schema.
    #[error("the database has no kms tables: run the migrations")]
    NotMigrated,

    /// The kms tables are there, but diesel's bookkeeping has no record of our
    /// migrations: Go kms made them.
    #[error("the kms tables were not made by these migrations: adopt the database instead")]
    NotAdopted,

    /// The shared tables are at a version other than the one that this crate
    /// knows.
    #[error(
        "the kms tables are at version {found}, expected {expected}: bring them there \
         with the migrations that made them, or use the release that fits"
    )]
    WrongVersion {
        /// The version that this crate works with.
        expected: String,
        /// The version that the database says it has.
        found: String,
    },

    /// Some of the tables, columns, triggers, constraints or migrations are there
    /// and some are not.
    #[error(
        "the kms tables are incomplete, there is no {}: finish the migrations that made them",
        missing.join(", ")
    )]
    HalfMigrated {
        /// What is not there, by name.
        missing: Vec<String>,
    },

    /// The tables are there and differ from what can be adopted.
    #[error("the kms tables can't be adopted: {}", reasons.join("; "))]
    NotAdoptable {
        /// Each reason, naming the table and column.
        reasons: Vec<String>,
    },

    /// The kms tables are not in the schema in which new tables would be made.
    #[error(
        "the kms tables are in schema {found}, but new tables would go to {current}: \
         set search_path to {found}"
    )]
    OtherSchema {
        /// Where the tables are.
        found: String,
        /// What `current_schema()` says.
        current: String,
    },

    /// The application has a migration with the version of one of ours.
    #[error("migration version {version} is there twice: give the application's another one")]
    DuplicateMigration {
        /// The version of both.
        version: String,
    },
}

impl Error {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether the same call can succeed later, with nothing else changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind == ErrorKind::Locked
    }

    pub(crate) fn from_migration(source: Box<dyn StdError + Send + Sync>) -> Self {
        match source.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(source) => Self {
                kind: if is_sqlite_lock(source.as_ref()) {
                    ErrorKind::Locked
                } else {
                    ErrorKind::Database
                },
                source: Some(source),
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(formatter)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<diesel::result::Error> for Error {
    fn from(source: diesel::result::Error) -> Self {
        Self::from_migration(Box::new(source))
    }
}

/// Diesel has no kind of its own for it. SQLite's messages are not translated,
/// so the text is as good as a code.
fn is_sqlite_lock(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let message = error.to_string();
        if message.ends_with("database is locked") || message.ends_with("table is locked") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_ours_keeps_its_kind_on_its_way_through_diesel() {
        let boxed: Box<dyn StdError + Send + Sync> = Box::new(Error::from(ErrorKind::NotMigrated));
        assert_eq!(Error::from_migration(boxed).kind(), &ErrorKind::NotMigrated);
    }

    #[test]
    fn what_the_database_said_is_the_source() {
        let error = Error::from(diesel::result::Error::NotFound);
        assert_eq!(error.kind(), &ErrorKind::Database);
        assert!(error.source().is_some());
        assert!(!error.is_retryable());
    }
}
