//! Keeps the keys of `kms-core` in Postgres or SQLite, with diesel.

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
