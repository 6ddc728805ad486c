//! The migrations for SQLite.
//!
//! # Several processes
//!
//! [`run`] and [`adopt`] are one transaction each, begun `immediate`: the first
//! process gets SQLite's write lock, and the others wait for it as long as the
//! connection's `busy_timeout` says, but at least ten seconds. Either all
//! pending migrations are applied or none. Inside a transaction of the caller's
//! they use a savepoint; begin that one `immediate`.

mod adopt;
mod introspection;
mod log;
mod repair;
mod verify;

use diesel::connection::TransactionManager;
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::sqlite::{Sqlite, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use crate::bookkeeping::{self, Bookkeeping, SHARED_TABLES};
use crate::combined::Combined;
use crate::error::{ErrorKind, Result};
use crate::report::{MigrationName, Status};

pub use adopt::adopt;
pub use introspection::catalogue;
pub use repair::{renumber, repair};
pub use verify::verify;

/// Our migrations, shared part and own part.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("sqlite");

/// Runs what is pending of our migrations, and says what that was.
///
/// Safe to call from several processes at once.
///
/// # Errors
///
/// [`ErrorKind::NotAdopted`] where Go kms made the tables (call [`adopt`]),
/// [`ErrorKind::Locked`] where another process kept the database locked for
/// too long, [`ErrorKind::Database`] for all else; nothing is changed then.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
///
/// let mut conn = SqliteConnection::establish(":memory:")?;
/// let ran = kms_migrations::sqlite::run(&mut conn)?;
/// assert!(!ran.is_empty());
/// assert!(kms_migrations::sqlite::verify(&mut conn)?.is_ok());
/// assert!(kms_migrations::sqlite::status(&mut conn)?.is_current());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run(conn: &mut SqliteConnection) -> Result<Vec<MigrationName>> {
    locked(conn, |conn| {
        refuse_unadopted(conn)?;
        bookkeeping::run_pending(conn, &MIGRATIONS)
    })
}

/// Runs what is pending of a source, as [`run`] does of ours: for the
/// application's migrations together with ours, [`Combined`].
///
/// Where all pending migrations run in a transaction (diesel's default), they
/// share one. Where one says `run_in_transaction = false`, each has its own and
/// there is no lock around them: see to it that one process runs them.
///
/// # Errors
///
/// As [`run`], and [`ErrorKind::DuplicateMigration`].
pub fn run_with(
    conn: &mut SqliteConnection,
    source: &impl MigrationSource<Sqlite>,
) -> Result<Vec<MigrationName>> {
    let together = locked(conn, |conn| {
        refuse_unadopted(conn)?;
        if bookkeeping::all_transactional(conn, source)? {
            bookkeeping::run_pending(conn, source).map(Some)
        } else {
            Ok(None)
        }
    })?;
    match together {
        Some(ran) => Ok(ran),
        None => waiting(conn, |conn| bookkeeping::run_pending(conn, source)),
    }
}

/// How far the database is. Only reads.
///
/// # Errors
///
/// [`ErrorKind::Database`].
pub fn status(conn: &mut SqliteConnection) -> Result<Status> {
    let recorded = if table_exists(conn, "__diesel_schema_migrations")? {
        texts(
            conn,
            "select version as text from __diesel_schema_migrations",
        )?
    } else {
        Vec::new()
    };
    let mut status = bookkeeping::status::<Sqlite>(&MIGRATIONS, &recorded)?;
    status.schema_version = version_in(conn, "kms_schema_version")?;
    status.extension_version = version_in(conn, "kms_extension_version")?;
    Ok(status)
}

impl<A: MigrationSource<Sqlite>> MigrationSource<Sqlite> for Combined<A> {
    fn migrations(
        &self,
    ) -> diesel::migration::Result<Vec<Box<dyn diesel::migration::Migration<Sqlite>>>> {
        self.with(&MIGRATIONS)
    }
}

/// How long to wait for another process, in milliseconds, where the connection
/// itself would wait for less.
const WAIT: i32 = 10_000;

/// Runs `work` in a transaction that holds SQLite's write lock.
fn locked<T>(
    conn: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T>,
) -> Result<T> {
    if in_transaction(conn)? {
        conn.transaction(work)
    } else {
        waiting(conn, |conn| conn.immediate_transaction(work))
    }
}

fn in_transaction(conn: &mut SqliteConnection) -> Result<bool> {
    let status =
        <SqliteConnection as Connection>::TransactionManager::transaction_manager_status_mut(conn);
    Ok(status.transaction_depth()?.is_some())
}

/// Runs `work` with a busy timeout of at least [`WAIT`].
fn waiting<T>(
    conn: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T>,
) -> Result<T> {
    // As a statement of its own: a select from `pragma_busy_timeout` reads the
    // schema, which may be locked already.
    let before = diesel::sql_query("pragma busy_timeout")
        .get_result::<Timeout>(conn)?
        .timeout;
    if before >= WAIT {
        return work(conn);
    }
    set_busy_timeout(conn, WAIT)?;
    let result = work(conn);
    let restored = set_busy_timeout(conn, before);
    let value = result?;
    restored?;
    Ok(value)
}

fn set_busy_timeout(conn: &mut SqliteConnection, milliseconds: i32) -> QueryResult<()> {
    use diesel::connection::SimpleConnection;
    conn.batch_execute(&format!("pragma busy_timeout = {milliseconds}"))
}

fn refuse_unadopted(conn: &mut SqliteConnection) -> Result<()> {
    let untouched = matches!(
        bookkeeping::bookkeeping(conn, &MIGRATIONS)?,
        Bookkeeping::Untouched
    );
    if untouched && !shared_tables(conn)?.is_empty() {
        return Err(ErrorKind::NotAdopted.into());
    }
    Ok(())
}

/// Those of the shared tables that are there.
fn shared_tables(conn: &mut SqliteConnection) -> Result<Vec<String>> {
    let mut tables = texts(
        conn,
        "select name as text from sqlite_schema where type = 'table'",
    )?;
    tables.retain(|table| SHARED_TABLES.contains(&table.as_str()));
    Ok(tables)
}

fn table_exists(conn: &mut SqliteConnection, table: &str) -> Result<bool> {
    let found = diesel::sql_query(
        "select name as text from sqlite_schema where type = 'table' and name = ?",
    )
    .bind::<Text, _>(table)
    .load::<TextRow>(conn)?;
    Ok(!found.is_empty())
}

fn version_in(conn: &mut SqliteConnection, table: &str) -> Result<Option<String>> {
    if !table_exists(conn, table)? {
        return Ok(None);
    }
    let mut versions = texts(conn, &format!("select version as text from {table}"))?;
    Ok(versions.pop())
}

fn texts(conn: &mut SqliteConnection, query: &str) -> Result<Vec<String>> {
    let rows = diesel::sql_query(query).load::<TextRow>(conn)?;
    Ok(rows.into_iter().map(|row| row.text).collect())
}

fn number(conn: &mut SqliteConnection, query: &str) -> Result<i64> {
    let row = diesel::sql_query(query).get_result::<NumberRow>(conn)?;
    Ok(row.rows)
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Text)]
    text: String,
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

#[derive(QueryableByName)]
struct Timeout {
    #[diesel(sql_type = Integer)]
    timeout: i32,
}
