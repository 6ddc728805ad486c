//! Where a SQLite database is, as SQLite itself is told.

use std::fmt::Write as _;

use kms_core::{Error, ErrorKind, Result};

/// The URI under which SQLite opens a file that is there. Takes a path, `file:…` or `sqlite://…`.
pub(super) fn uri(location: &str) -> Result<String> {
    if location.contains('\0') {
        return Err(refused("the path holds a NUL character"));
    }
    let (path, query) = match location
        .strip_prefix("sqlite://")
        .or_else(|| location.strip_prefix("file:"))
    {
        // In a URI `%` escapes already, and `?` begins the parameters.
        Some(rest) => match rest.split_once('?') {
            Some((path, query)) => (path.to_owned(), query),
            None => (rest.to_owned(), ""),
        },
        None => (escaped(location), ""),
    };
    if path.is_empty()
        || path == ":memory:"
        || location == ":memory:"
        || query.split('&').any(|part| part == "mode=memory")
    {
        return Err(refused(
            "the database has to be a file: one in memory belongs to one connection, or is locked as \
             a whole, and is gone with the process; for tests there is MemoryRepository",
        ));
    }
    let mut uri = format!("file:{path}?");
    let mut mode_given = false;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        mode_given |= part.starts_with("mode=");
        uri.push_str(part);
        uri.push('&');
    }
    if mode_given {
        uri.pop();
    } else {
        // A file that is not there is an error, and not a new database without tables.
        uri.push_str("mode=rw");
    }
    Ok(uri)
}

/// Escapes what has a meaning in a URI, and what is no ASCII, byte by byte.
fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    // `//host/…` would be read as a host.
    if escaped.starts_with("//") {
        escaped.insert_str(0, "//");
    }
    escaped
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration)
        .with_operation("SqliteRepository::builder")
        .with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_uris_become_uris_that_create_nothing() {
        for (given, expected) in [
            ("app.sqlite3", "file:app.sqlite3?mode=rw"),
            ("/var/a b?c%.db", "file:/var/a%20b%3Fc%25.db?mode=rw"),
            ("sqlite:///var/app.db", "file:/var/app.db?mode=rw"),
            ("sqlite://app.db", "file:app.db?mode=rw"),
            (
                "file:app.db?cache=private",
                "file:app.db?cache=private&mode=rw",
            ),
            ("file:app.db?mode=ro", "file:app.db?mode=ro"),
            ("//a", "file:////a?mode=rw"),
        ] {
            assert_eq!(uri(given).unwrap(), expected, "{given}");
        }
    }

    #[test]
    fn a_database_in_memory_is_refused() {
        for bad in [
            "",
            ":memory:",
            "sqlite://:memory:",
            "file::memory:?cache=shared",
            "file:x?mode=memory",
            "a\0",
        ] {
            assert_eq!(
                uri(bad).unwrap_err().kind(),
                ErrorKind::InvalidConfiguration,
                "{bad:?}"
            );
        }
    }
}
