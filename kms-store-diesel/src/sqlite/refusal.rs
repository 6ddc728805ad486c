//! What SQLite refused, by its result code.

use std::ffi::c_int;

use diesel::result::Error as QueryError;
use kms_core::ErrorKind;
use libsqlite3_sys as ffi;

/// The result codes that tell of the file, and not of the statement that met it.
const CONDITIONS: [(c_int, ErrorKind); 7] = [
    (ffi::SQLITE_BUSY, ErrorKind::DatabaseBusy),
    (ffi::SQLITE_LOCKED, ErrorKind::DatabaseBusy),
    (ffi::SQLITE_READONLY, ErrorKind::DatabaseReadOnly),
    (ffi::SQLITE_FULL, ErrorKind::DatabaseFull),
    (ffi::SQLITE_CORRUPT, ErrorKind::DatabaseDamaged),
    (ffi::SQLITE_NOTADB, ErrorKind::DatabaseDamaged),
    (ffi::SQLITE_CANTOPEN, ErrorKind::DatabaseUnreachable),
];

/// The messages of these codes where SQLite has one of its own for them.
const OWN_WORDS: [(&str, ErrorKind); 2] = [
    ("database schema is locked", ErrorKind::DatabaseBusy),
    ("malformed database schema", ErrorKind::DatabaseDamaged),
];

/// What the code of a failed statement says about the file; `None` if it says nothing.
///
/// Diesel keeps the message of a failure, and not its code. The message of a code is `sqlite3_errstr`'s, a constant of
/// the library; the library that is linked is asked for it, and the two are compared.
pub(super) fn condition(error: &QueryError) -> Option<ErrorKind> {
    let message = match error {
        QueryError::DatabaseError(_, information) => information.message(),
        QueryError::RollbackErrorOnCommit { commit_error, .. } => return condition(commit_error),
        _ => return None,
    };
    CONDITIONS
        .iter()
        .map(|(code, kind)| (ffi::code_to_str(*code), *kind))
        .chain(OWN_WORDS)
        // `database table is locked: …` goes on.
        .find_map(|(known, kind)| message.starts_with(known).then_some(kind))
}
