//! SQLite: schema, statements in its own words, pool settings.

mod builder;
mod changes;
mod deleting;
#[path = "key_tables.rs"]
mod key_tables;
mod location;
mod reading;
mod rows;
pub(crate) mod schema;
mod snapshot;
mod writing;

pub use self::builder::{SqliteBuilder, SqliteRepository};

/// The connection that `key_tables.rs` is compiled for.
type Conn = diesel::SqliteConnection;
