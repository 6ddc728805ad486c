//! Postgres: schema, statements in its own words, pool settings.

mod address;
mod builder;
#[path = "campaign_tables.rs"]
mod campaign_tables;
mod changes;
mod deleting;
mod functions;
#[path = "key_tables.rs"]
mod key_tables;
mod libpq;
mod opening;
mod reading;
mod renaming;
#[path = "root_check_tables.rs"]
mod root_check_tables;
pub(crate) mod schema;
mod snapshot;
mod writing;

use std::time::Duration;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::sql_types::{Nullable, Timestamptz};

pub use self::builder::{PostgresBuilder, PostgresRepository};

/// The connection that `key_tables.rs`, `campaign_tables.rs` and `root_check_tables.rs` are compiled for.
type Conn = diesel::PgConnection;

/// The end of a lease that begins now, by the server's clock.
fn lease_end(length: Duration) -> SqlLiteral<Nullable<Timestamptz>> {
    let milliseconds = length.as_millis();
    sql(&format!(
        "clock_timestamp() + interval '{milliseconds} milliseconds'"
    ))
}

/// Whether the lease of a campaign has ended.
const LEASE_IS_OVER: &str = "kms_campaign.lease_end <= clock_timestamp()";
