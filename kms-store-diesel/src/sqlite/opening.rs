//! How a new connection is set.

use std::time::Duration;

use diesel::QueryResult;
use diesel::SqliteConnection;
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use kms_core::{Error, ErrorKind, Result};
use tracing::debug;

use super::refusal::condition;

/// How long the switch to the write-ahead log waits for those who read the file just now.
const SWITCHING: Duration = Duration::from_millis(100);

/// Opens a connection to the file of this URI, and sets it. `shown` names the file in errors.
pub(super) fn open(uri: &str, shown: &str, patience: Duration) -> Result<SqliteConnection> {
    let failed = |kind, reason: &dyn std::fmt::Display| {
        Error::new(kind).with_detail(format!("{reason}: {shown}"))
    };
    let mut connection = SqliteConnection::establish(uri)
        .map_err(|error| failed(ErrorKind::DatabaseUnreachable, &error))?;
    match prepare(&mut connection, patience) {
        Ok(()) => Ok(connection),
        Err(error) => {
            let kind = match condition(&error) {
                // What can't be opened without writing can't be read.
                None | Some(ErrorKind::DatabaseReadOnly) => ErrorKind::DatabaseUnreachable,
                Some(kind) => kind,
            };
            Err(failed(kind, &error).with_source(error))
        }
    }
}

/// Sets what every statement relies on, and writes nothing to a file that is as it should be.
///
/// The write-ahead log is wished for, not needed. A file that can't be switched to it, because it is written to all the
/// time or can't be written to at all, is used as it is, and the next connection tries again.
pub(super) fn prepare(connection: &mut SqliteConnection, patience: Duration) -> QueryResult<()> {
    wait_for(connection, patience)?;
    // In the log `extra` is the same as `full`. Without it `full` lets a power failure take back the last commit.
    connection.batch_execute("pragma foreign_keys = on; pragma synchronous = extra")?;
    let mode: String = sql::<Text>("pragma journal_mode").get_result(connection)?;
    if mode == "wal" {
        return Ok(());
    }
    wait_for(connection, patience.min(SWITCHING))?;
    if let Err(error) = connection.batch_execute("pragma journal_mode = wal") {
        debug!(%error, mode, "the file was not switched to the write-ahead log");
    }
    wait_for(connection, patience)
}

fn wait_for(connection: &mut SqliteConnection, patience: Duration) -> QueryResult<()> {
    let milliseconds = patience.as_millis().clamp(1, i32::MAX as u128);
    connection.batch_execute(&format!("pragma busy_timeout = {milliseconds}"))
}
