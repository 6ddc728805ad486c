//! Postgres: schema, statements in its own words, pool settings.

mod address;
mod builder;
mod changes;
mod deleting;
#[path = "key_tables.rs"]
mod key_tables;
mod reading;
pub(crate) mod schema;
mod set_wise;
mod snapshot;
mod writing;

pub use self::builder::{PostgresBuilder, PostgresRepository};

/// The connection that `key_tables.rs` is compiled for.
type Conn = diesel::PgConnection;
