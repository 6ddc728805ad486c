//! Postgres: schema, statements in its own words, pool settings.

#[cfg(feature = "postgres")]
mod address;
#[cfg(feature = "diesel-async")]
mod asynchronous;
#[cfg(feature = "postgres")]
mod blocking;
#[cfg(feature = "postgres")]
mod builder;
mod changes;
mod functions;
#[cfg(feature = "postgres")]
mod libpq;
mod locking;
#[cfg(feature = "postgres")]
mod opening;
pub(crate) mod schema;
mod snapshot;

use std::time::Duration;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::sql_types::{Nullable, Timestamptz};

#[cfg(feature = "postgres")]
pub use self::builder::{PostgresBuilder, PostgresRepository};

/// Whether the server lets a session write. Of a standby it is always on.
const ACCEPTS_WRITES: &str = "current_setting('transaction_read_only') = 'off'";

/// The end of a lease that begins now, by the server's clock.
fn lease_end(length: Duration) -> SqlLiteral<Nullable<Timestamptz>> {
    let milliseconds = length.as_millis();
    sql(&format!(
        "clock_timestamp() + interval '{milliseconds} milliseconds'"
    ))
}

/// Whether the lease of a campaign has ended.
const LEASE_IS_OVER: &str = "kms_campaign.lease_end <= clock_timestamp()";
