//! What Postgres' error codes mean: the one place where a code becomes a kind of error.
//!
//! diesel tells a few codes apart by kinds of its own, and gives no access to the others: of those it has the message,
//! which is in the server's language, the hint, and the names of a table and a constraint. So the functions of our
//! schema that a change consists of (migrations 0114 and 0115) raise the codes below again, with the code in the hint.
//!
//! That is all of a change but the trial of foreign keys that are deferrable before a deletion, and the locks of
//! campaigns. For those, for what a campaign notes, and for reads, diesel's own kinds have to do: the rest stays
//! [`ErrorKind::Database`], with the server's message as its source, or is [`ErrorKind::DatabaseBusy`] if it took as long
//! as the limit of a lock or a statement.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as QueryError};
use kms_core::ErrorKind;

/// What the functions of the schema write before a code.
const HINT: &str = "SQLSTATE ";

/// The kind of an error whose code says more than that the database refused.
pub(crate) fn kind(error: &QueryError) -> Option<ErrorKind> {
    Some(match code(error)? {
        // A transaction can't stand beside another one; a deadlock.
        "40001" | "40P01" => ErrorKind::Conflict,
        // A lock that was not granted in time; a statement that was cancelled, at its timeout or by somebody.
        "55P03" | "57014" => ErrorKind::DatabaseBusy,
        "25006" => ErrorKind::DatabaseReadOnly,
        "53100" => ErrorKind::DatabaseFull,
        // Memory, connections, or another limit of the server's.
        code if code.starts_with("53") => ErrorKind::DatabaseBusy,
        // `kms_root_key` references no table of ours.
        "23503" if table(error) == Some("kms_root_key") => ErrorKind::MissingScopeRow,
        _ => return None,
    })
}

/// The server found that this transaction can't stand beside another one, or took it to break a deadlock.
pub(crate) fn is_conflict(error: &QueryError) -> bool {
    kind(error) == Some(ErrorKind::Conflict)
}

/// In a transaction that keeps one snapshot: only the whole of it can be run again.
pub(crate) fn is_serialization(error: &QueryError) -> bool {
    code(error) == Some("40001")
}

/// The code, where it is known.
fn code(error: &QueryError) -> Option<&str> {
    let (kind, information) = parts(error)?;
    match kind {
        DatabaseErrorKind::SerializationFailure => Some("40001"),
        DatabaseErrorKind::ReadOnlyTransaction => Some("25006"),
        DatabaseErrorKind::ForeignKeyViolation => Some("23503"),
        DatabaseErrorKind::Unknown => information.hint()?.strip_prefix(HINT),
        _ => None,
    }
}

/// Whether neither diesel nor a function of the schema tells what it was.
pub(crate) fn is_unknown(error: &QueryError) -> bool {
    matches!(parts(error), Some((DatabaseErrorKind::Unknown, _))) && code(error).is_none()
}

/// The table that the error is about: for a foreign key, the one that references.
pub(crate) fn table(error: &QueryError) -> Option<&str> {
    parts(error)?.1.table_name()
}

/// The constraint that the error is about.
pub(crate) fn constraint(error: &QueryError) -> Option<&str> {
    parts(error)?.1.constraint_name()
}

fn parts(error: &QueryError) -> Option<(&DatabaseErrorKind, &dyn DatabaseErrorInformation)> {
    match error {
        QueryError::DatabaseError(kind, information) => Some((kind, &**information)),
        QueryError::RollbackErrorOnCommit { commit_error, .. } => parts(commit_error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Information {
        hint: Option<&'static str>,
        table: Option<&'static str>,
    }

    impl DatabaseErrorInformation for Information {
        fn message(&self) -> &'static str {
            "SQLSTATE 40001"
        }
        fn details(&self) -> Option<&str> {
            Some("SQLSTATE 40001")
        }
        fn hint(&self) -> Option<&str> {
            self.hint
        }
        fn table_name(&self) -> Option<&str> {
            self.table
        }
        fn column_name(&self) -> Option<&str> {
            None
        }
        fn constraint_name(&self) -> Option<&str> {
            None
        }
        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    fn error(
        kind: DatabaseErrorKind,
        hint: Option<&'static str>,
        table: Option<&'static str>,
    ) -> QueryError {
        QueryError::DatabaseError(kind, Box::new(Information { hint, table }))
    }

    #[test]
    fn every_code_has_its_kind_wherever_diesel_keeps_it() {
        use DatabaseErrorKind as Diesel;
        let unknown = |hint| error(Diesel::Unknown, Some(hint), None);
        for (error, expected) in [
            (unknown("SQLSTATE 40001"), Some(ErrorKind::Conflict)),
            (unknown("SQLSTATE 40P01"), Some(ErrorKind::Conflict)),
            (unknown("SQLSTATE 55P03"), Some(ErrorKind::DatabaseBusy)),
            (unknown("SQLSTATE 57014"), Some(ErrorKind::DatabaseBusy)),
            (unknown("SQLSTATE 53100"), Some(ErrorKind::DatabaseFull)),
            (unknown("SQLSTATE 53200"), Some(ErrorKind::DatabaseBusy)),
            (unknown("SQLSTATE 25006"), Some(ErrorKind::DatabaseReadOnly)),
            (unknown("See server log for query details."), None),
            (error(Diesel::Unknown, None, None), None),
            (
                error(Diesel::SerializationFailure, None, None),
                Some(ErrorKind::Conflict),
            ),
            (
                error(Diesel::ReadOnlyTransaction, None, None),
                Some(ErrorKind::DatabaseReadOnly),
            ),
            (
                error(Diesel::ForeignKeyViolation, None, Some("kms_root_key")),
                Some(ErrorKind::MissingScopeRow),
            ),
            (
                error(Diesel::ForeignKeyViolation, None, Some("client")),
                None,
            ),
            (error(Diesel::ForeignKeyViolation, None, None), None),
        ] {
            assert_eq!(kind(&error), expected, "{error:?}");
        }
    }
}
