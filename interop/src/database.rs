//! A database of its own for each group of checks, as both sides address it.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::{Connection as _, *};
use kms_kit::migrations::{self, Adoption};
use kms_kit::{PostgresRepository, Repository, SqliteRepository};

use crate::connection::Connection;

/// The server on which databases are made.
const SERVER: &str = "KMS_TEST_POSTGRES_URL";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// Dropped with the value.
pub(crate) struct Database {
    dialect: Dialect,
    address: String,
    go_address: String,
    made: Made,
}

enum Made {
    /// Removed when it is dropped.
    Folder(#[allow(dead_code, reason = "kept for its drop")] tempfile::TempDir),
    Postgres {
        server: String,
        name: String,
    },
}

impl Dialect {
    /// Those that there are. Without a Postgres server half of this is left out, loudly.
    pub(crate) fn available() -> Vec<Self> {
        match kms_testkit::service::variable("postgres", SERVER) {
            Some(_) => vec![Self::Postgres, Self::Sqlite],
            None => vec![Self::Sqlite],
        }
    }

    /// Go's name for it.
    pub(crate) fn go(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "Postgres",
            Self::Sqlite => "SQLite",
        })
    }
}

impl Database {
    /// An empty one.
    pub(crate) fn new(dialect: Dialect) -> Result<Self> {
        match dialect {
            Dialect::Postgres => Self::postgres(),
            Dialect::Sqlite => Self::sqlite(),
        }
    }

    fn sqlite() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("keys.sqlite3");
        let path = path.to_str().context("a path in UTF-8")?;
        Ok(Self {
            dialect: Dialect::Sqlite,
            address: path.to_owned(),
            // Go turns foreign keys on in one connection of its pool only; the address does so in each.
            go_address: format!("file:{path}?_foreign_keys=1&_busy_timeout=10000"),
            made: Made::Folder(folder),
        })
    }

    fn postgres() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = env::var(SERVER).context(SERVER)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kms_interop_{}_{number}", std::process::id());
        PgConnection::establish(&server)?.batch_execute(&format!("create database {name}"))?;
        let address = with_database(&server, &name);
        Ok(Self {
            dialect: Dialect::Postgres,
            go_address: address.clone(),
            address,
            made: Made::Postgres { server, name },
        })
    }

    /// A Postgres database in which both sides use a schema of another name.
    pub(crate) fn in_schema(schema: &str) -> Result<Self> {
        let mut database = Self::postgres()?;
        database
            .connect()?
            .execute(&format!("create schema {schema}"))?;
        let address = with_parameter(
            &database.address,
            &format!("options=-c%20search_path%3D{schema}"),
        );
        database.go_address.clone_from(&address);
        database.address = address;
        Ok(database)
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn go_address(&self) -> &str {
        &self.go_address
    }

    /// With a name for the sessions, by which they can be found on the server.
    pub(crate) fn address_named(&self, name: &str) -> String {
        with_parameter(&self.address, &format!("application_name={name}"))
    }

    /// How many the server has ended here.
    pub(crate) fn deadlocks(&self) -> Result<i64> {
        self.connect()?
            .count("select deadlocks as n from pg_stat_database where datname = current_database()")
    }

    pub(crate) fn connect(&self) -> Result<Connection> {
        Connection::to(self.dialect, &self.address)
    }

    pub(crate) fn repository(&self) -> Result<Arc<dyn Repository>> {
        repository(self.dialect, &self.address)
    }

    /// Runs our migrations.
    pub(crate) fn run(&self) -> migrations::Result<()> {
        match self.connect() {
            Ok(Connection::Postgres(mut connection)) => migrations::postgres::run(&mut connection),
            Ok(Connection::Sqlite(mut connection)) => migrations::sqlite::run(&mut connection),
            Err(_) => Err(migrations::ErrorKind::Database.into()),
        }
        .map(drop)
    }

    /// Takes over what Go's migrations made.
    pub(crate) fn adopt(&self) -> migrations::Result<Adoption> {
        match self.connect() {
            Ok(Connection::Postgres(mut connection)) => {
                migrations::postgres::adopt(&mut connection)
            }
            Ok(Connection::Sqlite(mut connection)) => migrations::sqlite::adopt(&mut connection),
            Err(_) => Err(migrations::ErrorKind::Database.into()),
        }
    }

    /// What `verify` finds.
    pub(crate) fn verify(&self) -> Result<migrations::Report> {
        Ok(match self.connect()? {
            Connection::Postgres(mut connection) => migrations::postgres::verify(&mut connection)?,
            Connection::Sqlite(mut connection) => migrations::sqlite::verify(&mut connection)?,
        })
    }
}

/// A repository at this address.
pub(crate) fn repository(dialect: Dialect, address: &str) -> Result<Arc<dyn Repository>> {
    Ok(match dialect {
        Dialect::Postgres => Arc::new(PostgresRepository::builder(address).pool_size(4).build()?),
        Dialect::Sqlite => Arc::new(SqliteRepository::builder(address).pool_size(4).build()?),
    })
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Made::Postgres { server, name } = &self.made
            && let Ok(mut connection) = PgConnection::establish(server)
        {
            // Best effort: pools may be closing still.
            let _ = connection.batch_execute(&format!("drop database {name} with (force)"));
        }
    }
}

fn with_parameter(url: &str, parameter: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameter}")
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> String {
    let (head, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = head.split_once("://").unwrap_or(("postgres", head));
    let host = rest.split('/').next().unwrap_or_default();
    let separator = if query.is_empty() { "" } else { "?" };
    format!("{scheme}://{host}/{name}{separator}{query}")
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_database_of_its_own_is_on_the_same_server_with_the_same_options() {
        let url = "postgres://u:p@127.0.0.1:5432/postgres?sslmode=disable";
        assert_eq!(
            with_database(url, "x"),
            "postgres://u:p@127.0.0.1:5432/x?sslmode=disable"
        );
        assert_eq!(
            with_database("postgres://localhost", "x"),
            "postgres://localhost/x"
        );
    }
}
