//! Keeps the keys of `kms-core` in Postgres or SQLite, with diesel.
//!
//! | to | use |
//! |---|---|
//! | give the engine its storage | [`DieselRepository`], as `PostgresRepository`, `AsyncPostgresRepository` or `SqliteRepository` |
//! | read or change keys inside a transaction of the application's | [`KeyConnection`], or `AsyncKeyConnection` on diesel-async |
//! | make the tables | the crate `kms-migrations` |
//!
//! # In a transaction of the application's
//!
//! The engine prepares a change, with all its calls to the root wrapper, while no transaction is open.
//! [`KeyConnection::apply_changes`] then applies it beside the application's own rows, on the connection
//! that it has already: no second one is taken, so that as many transactions as a pool has connections
//! can use keys at one time.
//!
//! # diesel or diesel-async
//!
//! Take what the rest of the application takes: the rules, statements and errors are the same, because the code is.
//! Both may be used on one database. In code of your own that has no transactions beside the keys, take
//! `PostgresRepository`: it has a pool and settings of its own, and takes every address that libpq takes.
//!
//! | | `PostgresRepository` | `AsyncPostgresRepository` |
//! |---|---|---|
//! | goes by | libpq, and a thread for each connection | tokio-postgres, and a task for each call |
//! | pool | of its own, or r2d2 of the application's | deadpool of the application's |
//! | TLS | libpq's | what the pool's `custom_setup` connects with |
//! | a call past its deadline | its thread waits on; too many of them, and further calls fail at once | its connection is closed |
//! | a server that refuses to let the process in | told at once, with the server's answer | `DatabaseUnreachable`, with the server's answer as the source |
//!
//! # What is waited for, and how long
//!
//! | for | bound | then |
//! |---|---|---|
//! | a connection | `connection_timeout` | `DatabaseBusy`, or `DatabaseUnreachable` if none could be made (at once, if it was refused) |
//! | a lock | `lock_timeout` (Postgres), `busy_timeout` (SQLite) | `DatabaseBusy` |
//! | a statement | `statement_timeout` (Postgres) | `DatabaseBusy` |
//! | all of a call | `call_timeout` | `DatabaseUnreachable`, or `OutcomeUnknown` if its commit was sent |
//! | a key version that a transaction of the application holds | not waited for; asked a few times within a quarter of a second | `InUse` |
//!
//! On diesel each connection has a thread of its own, whose calls run there one after the other. Calls that wait for a
//! connection wait as tasks, so that there are as many threads as connections. A thread, and its connection, ends after
//! ten idle minutes.
//!
//! The last bound is kept on our side, and does not depend on the server, the pool, or the threads of the runtime. A
//! call that comes to it is abandoned: its connection is not used again, and its place in the pool is free for a new
//! one. Its thread goes on waiting until the database, or the operating system, ends that. If as many calls as the pool
//! has connections were abandoned, further calls fail at once, except for one a second at most, until the database has
//! answered one.
//!
//! # How the databases differ
//!
//! | | Postgres | SQLite |
//! |---|---|---|
//! | writers | side by side, but for those that move the collection version | one at a time |
//! | a load of many scopes | one statement | one read transaction |
//! | a creation of one scope's keys | one statement | one transaction |
//! | any other change | two statements, or three for a batch, in one transaction | statements row by row, in one transaction |
//! | proof that a version is unused | every foreign key is checked on trial | every referencing table is looked into |
//! | a lost answer to a commit | `OutcomeUnknown`, which the engine resolves | only if the file is replaced during it |
//! | what refuses is told by | its code | its code's message: diesel keeps no code |
//!
//! # Features
//!
//! None is on by default, and each works alone.
//!
//! | feature | brings | needs to build |
//! |---|---|---|
//! | `postgres` | `PostgresRepository` | the system's libpq |
//! | `postgres-bundled` | the same, with libpq built along | a C compiler and the system's OpenSSL with its headers |
//! | `diesel-async` | `AsyncPostgresRepository`, `AsyncKeyConnection` | nothing: no libpq |
//! | `sqlite` | `SqliteRepository`, with SQLite built along | a C compiler |

// `key_tables.rs` is compiled against the `schema.rs` of each database: diesel's statements can't be
// generic over tables.
#![allow(clippy::duplicate_mod)]
// Without a database the crate compiles, and offers nothing; with diesel-async alone, nothing that blocks.
#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    allow(dead_code, unreachable_pub, unused_imports)
)]

mod apply;
mod blocking;
mod calls;
mod changes_row;
mod connection;
mod connections;
mod dialect;
mod explaining;
mod failure;
#[cfg(any(feature = "diesel-async", feature = "postgres"))]
mod postgres;
mod records;
mod repository;
mod snapshot_row;
#[cfg(feature = "sqlite")]
mod sqlite;
mod sqlstate;
mod stored_time;
#[cfg(feature = "diesel-async")]
mod tasks;
mod transaction;
mod whole;

#[cfg(feature = "diesel-async")]
pub use connection::AsyncKeyConnection;
pub use connection::KeyConnection;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresBuilder, PostgresRepository};
pub use repository::DieselRepository;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteBuilder, SqliteRepository};
#[cfg(feature = "diesel-async")]
pub use tasks::AsyncPostgresRepository;
