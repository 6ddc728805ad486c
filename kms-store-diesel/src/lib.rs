//! Keeps the keys of `kms-core` in Postgres or SQLite, with diesel.

// `key_tables.rs` is compiled against the `schema.rs` of each database: diesel's statements can't be
// generic over tables.
#![allow(clippy::duplicate_mod)]
// Without a database the crate compiles, and offers nothing.
#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports)
)]

mod apply;
mod connection;
mod connections;
mod dialect;
mod failure;
#[cfg(feature = "postgres")]
mod postgres;
mod records;
mod repository;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stored_time;
mod transaction;
mod writes;

pub use connection::KeyConnection;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresBuilder, PostgresRepository};
pub use repository::DieselRepository;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteBuilder, SqliteRepository};
