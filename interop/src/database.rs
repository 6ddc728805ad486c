//! A database of its own for each group of checks, as both sides address it.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::{Connection as _, *};
use diesel::sql_types::{BigInt, Text};
use kms_kit::migrations::{self, Adoption, Catalogue};
use kms_kit::{PostgresRepository, Repository, SqliteRepository};

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

/// A connection of ours, beside the engine.
pub(crate) enum Connection {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
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
        let separator = if database.address.contains('?') {
            '&'
        } else {
            '?'
        };
        let address = format!(
            "{}{separator}options=-c%20search_path%3D{schema}",
            database.address
        );
        database.go_address.clone_from(&address);
        database.address = address;
        Ok(database)
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn go_address(&self) -> &str {
        &self.go_address
    }

    pub(crate) fn connect(&self) -> Result<Connection> {
        Connection::to(self.dialect, &self.address)
    }

    pub(crate) fn repository(&self) -> Result<Arc<dyn Repository>> {
        repository(self.dialect, &self.address)
    }

    /// Runs our migrations.
    pub(crate) fn migrate(&self) -> Result<()> {
        match self.connect()? {
            Connection::Postgres(mut connection) => migrations::postgres::run(&mut connection)?,
            Connection::Sqlite(mut connection) => migrations::sqlite::run(&mut connection)?,
        };
        Ok(())
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

    /// Everything in it: the definitions of the kms tables, and all rows of the keys.
    pub(crate) fn contents(&self) -> Result<(Catalogue, Vec<String>)> {
        let mut connection = self.connect()?;
        let catalogue = match &mut connection {
            Connection::Postgres(connection) => migrations::postgres::catalogue(connection)?,
            Connection::Sqlite(connection) => migrations::sqlite::catalogue(connection)?,
        };
        let mut rows = Vec::new();
        for table in connection.texts(match self.dialect {
            Dialect::Postgres => {
                "select tablename::text as t from pg_tables where schemaname = current_schema() order by 1"
            }
            Dialect::Sqlite => "select name as t from sqlite_master where type = 'table' order by 1",
        })? {
            rows.extend(connection.rows_of(&table)?);
        }
        Ok((catalogue, rows))
    }
}

/// A repository at this address.
pub(crate) fn repository(dialect: Dialect, address: &str) -> Result<Arc<dyn Repository>> {
    Ok(match dialect {
        Dialect::Postgres => Arc::new(PostgresRepository::builder(address).pool_size(4).build()?),
        Dialect::Sqlite => Arc::new(SqliteRepository::builder(address).pool_size(4).build()?),
    })
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    t: String,
}

impl Connection {
    pub(crate) fn to(dialect: Dialect, address: &str) -> Result<Self> {
        Ok(match dialect {
            Dialect::Postgres => Self::Postgres(PgConnection::establish(address)?),
            Dialect::Sqlite => {
                let mut connection = SqliteConnection::establish(address)?;
                connection
                    .batch_execute("pragma busy_timeout = 10000; pragma foreign_keys = on")?;
                Self::Sqlite(connection)
            }
        })
    }

    pub(crate) fn execute(&mut self, sql: &str) -> Result<()> {
        match self {
            Self::Postgres(connection) => connection.batch_execute(sql),
            Self::Sqlite(connection) => connection.batch_execute(sql),
        }
        .with_context(|| sql.to_owned())
    }

    /// A number in a column named `n`.
    pub(crate) fn count(&mut self, sql: &str) -> Result<i64> {
        let query = diesel::sql_query(sql);
        let found: Counted = match self {
            Self::Postgres(connection) => query.get_result(connection),
            Self::Sqlite(connection) => query.get_result(connection),
        }
        .with_context(|| sql.to_owned())?;
        Ok(found.n)
    }

    /// Texts in a column named `t`.
    pub(crate) fn texts(&mut self, sql: &str) -> Result<Vec<String>> {
        let query = diesel::sql_query(sql);
        let found: Vec<Named> = match self {
            Self::Postgres(connection) => query.get_results(connection),
            Self::Sqlite(connection) => query.get_results(connection),
        }
        .with_context(|| sql.to_owned())?;
        Ok(found.into_iter().map(|row| row.t).collect())
    }

    /// Every row of a table as text, in an order.
    fn rows_of(&mut self, table: &str) -> Result<Vec<String>> {
        let query = match self {
            Self::Postgres(_) => {
                format!("select \"{table}\"::text as t from \"{table}\" order by 1")
            }
            Self::Sqlite(_) => {
                let columns = self.texts(&format!(
                    "select group_concat('coalesce(quote(\"' || name || '\"), '''')', ' || '','' || ') as t
                     from pragma_table_info('{table}')"
                ))?;
                format!(
                    "select {} as t from \"{table}\" order by 1",
                    columns.concat()
                )
            }
        };
        let rows = self.texts(&query)?;
        Ok(rows
            .into_iter()
            .map(|row| format!("{table}: {row}"))
            .collect())
    }
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
