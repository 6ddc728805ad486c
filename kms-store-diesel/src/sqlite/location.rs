//! Where a SQLite database is, as SQLite itself is told.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::PathBuf;

use kms_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;

/// A file that is there.
#[derive(Debug)]
pub(super) struct Location {
    /// As SQLite opens it.
    pub(super) uri: String,
    /// As the operating system knows it. Absolute, as in the URI: the process may go to another folder.
    pub(super) path: PathBuf,
}

impl Location {
    /// Takes a path, `file:…` or `sqlite://…`.
    pub(super) fn parse(location: &str) -> Result<Self> {
        if location.contains('\0') {
            return Err(refused("the path holds a NUL character"));
        }
        let (path, query) = match location
            .strip_prefix("sqlite://")
            .or_else(|| location.strip_prefix("file:"))
        {
            Some(rest) => of_uri(rest)?,
            None => (Cow::Borrowed(location), ""),
        };
        if path.is_empty()
            || path == ":memory:"
            || query.split('&').any(|part| part == "mode=memory")
        {
            return Err(refused(
                "the database has to be a file: one in memory belongs to one connection, or is locked as \
                 a whole, and is gone with the process; for tests there is MemoryRepository",
            ));
        }
        let path = std::path::absolute(&*path).map_err(|source| {
            refused("the path is relative, and the folder that the process is in is not known")
                .with_source(source)
        })?;
        let mut uri = format!("file:{}?", escaped(path.as_os_str().as_encoded_bytes()));
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
        Ok(Self { uri, path })
    }
}

/// The path and the parameters of a URI, as SQLite reads it: `?` begins the parameters, `#` what is left out, and `%`
/// escapes.
fn of_uri(rest: &str) -> Result<(Cow<'_, str>, &str)> {
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = match path.strip_prefix("//") {
        Some(rest) => match rest.find('/').map(|end| rest.split_at(end)) {
            Some(("" | "localhost", path)) => path,
            _ => {
                return Err(refused(
                    "a URI names another host; there is none but localhost",
                ));
            }
        },
        None => path,
    };
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|source| refused("the path is not UTF-8").with_source(source))?;
    if path.contains('\0') {
        return Err(refused("the path holds a NUL character"));
    }
    Ok((path, query))
}

/// Escapes what has a meaning in a URI, and what is no ASCII, byte by byte.
fn escaped(path: &[u8]) -> String {
    let mut escaped = String::with_capacity(path.len());
    for &byte in path {
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
        let here = std::env::current_dir().unwrap();
        let uri_of_here = format!("file:{}", escaped(here.as_os_str().as_encoded_bytes()));
        let there = |path: &str| (path.to_owned(), format!("file:{path}"));
        let here = |path: &str| {
            let path = format!("/{path}");
            (
                format!("{}{path}", here.display()),
                uri_of_here.clone() + &path,
            )
        };
        for (given, (path, uri), query) in [
            ("app.sqlite3", here("app.sqlite3"), "mode=rw"),
            (
                "/var/a b?c%.db",
                (
                    "/var/a b?c%.db".to_owned(),
                    "file:/var/a%20b%3Fc%25.db".to_owned(),
                ),
                "mode=rw",
            ),
            ("sqlite:///var/app.db", there("/var/app.db"), "mode=rw"),
            ("sqlite://app.db", here("app.db"), "mode=rw"),
            (
                "file:app.db?cache=private",
                here("app.db"),
                "cache=private&mode=rw",
            ),
            ("file:app.db?mode=ro", here("app.db"), "mode=ro"),
            ("file:app.db?mode=ro#part", here("app.db"), "mode=ro"),
            (
                "//a",
                ("//a".to_owned(), "file:////a".to_owned()),
                "mode=rw",
            ),
            ("file:///var/a", there("/var/a"), "mode=rw"),
            ("file://localhost/var/a", there("/var/a"), "mode=rw"),
            (
                "file:/var/a%20b%3f",
                ("/var/a b?".to_owned(), "file:/var/a%20b%3F".to_owned()),
                "mode=rw",
            ),
        ] {
            let location = Location::parse(given).unwrap();
            assert_eq!(location.uri, format!("{uri}?{query}"), "{given}");
            assert_eq!(location.path, PathBuf::from(path), "{given}");
        }
    }

    #[test]
    fn a_database_in_memory_or_elsewhere_is_refused() {
        for bad in [
            "",
            ":memory:",
            "sqlite://:memory:",
            "file::memory:?cache=shared",
            "file:x?mode=memory",
            "a\0",
            "file:/a%00",
            "file:/%ff",
            "file://elsewhere/a",
        ] {
            assert_eq!(
                Location::parse(bad).unwrap_err().kind(),
                ErrorKind::InvalidConfiguration,
                "{bad:?}"
            );
        }
    }
}
