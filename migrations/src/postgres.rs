//! The migrations for Postgres.
//!
//! Everything here works in `current_schema()`: the first schema of the
//! connection's `search_path` that exists. Two schemas of one database can each
//! hold their own kms tables.
//!
//! # Several processes
//!
//! [`run`] and [`adopt`] are one transaction each, which first takes an
//! advisory lock that ends with it (`pg_advisory_xact_lock`): whatever happens
//! to the process, no lock stays behind, and a connection pooler that hands out
//! a connection per transaction doesn't tear lock and work apart. Either all
//! pending migrations are applied or none. Inside a transaction of the
//! caller's they use a savepoint, and the lock lasts until that ends.

mod adopt;
mod introspection;
mod repair;
mod verify;

use diesel::connection::TransactionManager;
use diesel::migration::MigrationSource;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
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
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("postgres");

/// Runs what is pending of our migrations, and says what that was.
///
/// Safe to call from several processes at once.
///
/// # Errors
///
/// [`ErrorKind::NotAdopted`] where Go kms made the tables (call [`adopt`]),
/// [`ErrorKind::Database`] for all else; nothing is changed then.
pub fn run(conn: &mut PgConnection) -> Result<Vec<MigrationName>> {
    locked(conn, |conn| {
        refuse_unadopted(conn)?;
        bookkeeping::run_pending(conn, &MIGRATIONS)
    })
}

/// Runs what is pending of a source, as [`run`] does of ours: for the
/// application's migrations together with ours, [`Combined`].
///
/// Where all pending migrations run in a transaction (diesel's default), they
/// share one. Where one says `run_in_transaction = false`, each has its own,
/// and what ran before a failure stays; the lock is then the session's, which
/// a transaction pooler doesn't support: connect to the server itself.
///
/// # Errors
///
/// As [`run`], [`ErrorKind::DuplicateMigration`], and [`ErrorKind::LockLost`]
/// where a transaction pooler was in between, after the migrations ran.
pub fn run_with(
    conn: &mut PgConnection,
    source: &impl MigrationSource<Pg>,
) -> Result<Vec<MigrationName>> {
    let together = locked(conn, |conn| {
        if !bookkeeping::all_transactional(conn, source)? {
            return Ok(None);
        }
        refuse_unadopted(conn)?;
        bookkeeping::run_pending(conn, source).map(Some)
    })?;
    match together {
        Some(ran) => Ok(ran),
        None => locked_by_session(conn, |conn| {
            refuse_unadopted(conn)?;
            bookkeeping::run_pending(conn, source)
        }),
    }
}

/// How far the database is. Only reads.
///
/// # Errors
///
/// [`ErrorKind::Database`].
pub fn status(conn: &mut PgConnection) -> Result<Status> {
    let recorded = if table_exists(conn, "__diesel_schema_migrations")? {
        texts(
            conn,
            "select version::text as text from __diesel_schema_migrations",
        )?
    } else {
        Vec::new()
    };
    let mut status = bookkeeping::status::<Pg>(&MIGRATIONS, &recorded)?;
    status.schema_version = version_in(conn, "kms_schema_version")?;
    status.extension_version = version_in(conn, "kms_extension_version")?;
    Ok(status)
}

impl<A: MigrationSource<Pg>> MigrationSource<Pg> for Combined<A> {
    fn migrations(
        &self,
    ) -> diesel::migration::Result<Vec<Box<dyn diesel::migration::Migration<Pg>>>> {
        self.with(&MIGRATIONS)
    }
}

/// An arbitrary number that no one else uses: "kms-migr" in ASCII.
const LOCK: i64 = 0x6b6d_732d_6d69_6772;

/// Runs `work` in a transaction that holds the lock.
fn locked<T>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T>,
) -> Result<T> {
    let work = |conn: &mut PgConnection| {
        lock(conn, "select pg_advisory_xact_lock($1)")?;
        work(conn)
    };
    let in_transaction =
        <PgConnection as Connection>::TransactionManager::transaction_manager_status_mut(conn)
            .transaction_depth()?
            .is_some();
    if in_transaction {
        conn.transaction(work)
    } else {
        // Read committed, whatever the database's default: what others
        // applied while we waited for the lock has to be seen.
        conn.build_transaction()
            .read_committed()
            .read_write()
            .run(work)
    }
}

/// Runs `work` outside of a transaction, while the session holds the lock.
fn locked_by_session<T>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T>,
) -> Result<T> {
    struct Session<'a> {
        conn: &'a mut PgConnection,
        locked: bool,
    }

    impl Drop for Session<'_> {
        fn drop(&mut self) {
            if self.locked {
                // What is on its way up already says more.
                let _ = unlock(self.conn);
            }
        }
    }

    lock(conn, "select pg_advisory_lock($1)")?;
    let mut session = Session { conn, locked: true };
    let done = work(session.conn)?;
    session.locked = false;
    // Of a session of one's own it always is.
    if unlock(session.conn)? {
        Ok(done)
    } else {
        Err(ErrorKind::LockLost.into())
    }
}

/// Gives the session's lock back. `false` if it was not this session's.
fn unlock(conn: &mut PgConnection) -> Result<bool> {
    let released = diesel::sql_query("select pg_advisory_unlock($1)::text as text")
        .bind::<BigInt, _>(LOCK)
        .get_result::<TextRow>(conn)?;
    Ok(released.text == "true")
}

fn lock(conn: &mut PgConnection, statement: &str) -> QueryResult<usize> {
    diesel::sql_query(statement)
        .bind::<BigInt, _>(LOCK)
        .execute(conn)
}

fn refuse_unadopted(conn: &mut PgConnection) -> Result<()> {
    let untouched = matches!(
        bookkeeping::bookkeeping(conn, &MIGRATIONS)?,
        Bookkeeping::Untouched
    );
    if untouched && !shared_tables(conn)?.is_empty() {
        return Err(ErrorKind::NotAdopted.into());
    }
    Ok(())
}

/// Those of the shared tables that are in the current schema.
fn shared_tables(conn: &mut PgConnection) -> Result<Vec<String>> {
    let mut tables = texts(
        conn,
        "select relname::text as text from pg_class \
         where relnamespace = quote_ident(current_schema())::regnamespace and relkind in ('r', 'p')",
    )?;
    tables.retain(|table| SHARED_TABLES.contains(&table.as_str()));
    Ok(tables)
}

fn table_exists(conn: &mut PgConnection, table: &str) -> Result<bool> {
    let found = diesel::sql_query(
        "select relname::text as text from pg_class \
         where relnamespace = quote_ident(current_schema())::regnamespace and relkind in ('r', 'p') \
           and relname = $1",
    )
    .bind::<Text, _>(table)
    .load::<TextRow>(conn)?;
    Ok(!found.is_empty())
}

fn version_in(conn: &mut PgConnection, table: &str) -> Result<Option<String>> {
    if !table_exists(conn, table)? {
        return Ok(None);
    }
    let mut versions = texts(conn, &format!("select version as text from {table}"))?;
    Ok(versions.pop())
}

fn texts(conn: &mut PgConnection, query: &str) -> Result<Vec<String>> {
    let rows = diesel::sql_query(query).load::<TextRow>(conn)?;
    Ok(rows.into_iter().map(|row| row.text).collect())
}

fn number(conn: &mut PgConnection, query: &str) -> Result<i64> {
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
