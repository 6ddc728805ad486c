//! SQLite: schema, statements in its own words, pool settings.

mod builder;
#[path = "campaign_tables.rs"]
mod campaign_tables;
mod changes;
mod deleting;
#[path = "key_tables.rs"]
mod key_tables;
mod location;
mod opening;
mod reading;
mod refusal;
mod renaming;
#[path = "root_check_tables.rs"]
mod root_check_tables;
mod rows;
pub(crate) mod schema;
mod snapshot;
mod writing;

use std::time::Duration;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::sql_types::{Nullable, Timestamp};

pub use self::builder::{SqliteBuilder, SqliteRepository};

use crate::blocking::RunQueryDsl;

/// The connection that `key_tables.rs`, `campaign_tables.rs` and `root_check_tables.rs` are compiled for.
type Conn = diesel::SqliteConnection;

/// The end of a lease that begins now, by the clock of this machine.
fn lease_end(length: Duration) -> SqlLiteral<Nullable<Timestamp>> {
    let seconds = length.as_secs_f64();
    sql(&format!(
        "strftime('%Y-%m-%d %H:%M:%f', 'now', '+{seconds:.3} seconds')"
    ))
}

/// Whether the lease of a campaign has ended. Both times are text of one format.
const LEASE_IS_OVER: &str = "kms_campaign.lease_end <= strftime('%Y-%m-%d %H:%M:%f', 'now')";
