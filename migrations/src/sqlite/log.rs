//! Switches a file to the write-ahead log.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::sqlite::SqliteConnection;

use super::{WAIT, in_transaction, waiting};
use crate::error::Result;

/// SQLite does not wait for somebody who is writing, whatever the connection's
/// `busy_timeout`: it is asked again after this.
const PAUSE: Duration = Duration::from_millis(5);

/// Switches the file to the write-ahead log, as the engine would with its first
/// connection, which needs a moment in which nobody else uses it. Returns the
/// mode that the file is in then; `None` inside a transaction, where it can't be
/// changed.
pub(super) fn switch_to_log(conn: &mut SqliteConnection) -> Result<Option<String>> {
    if in_transaction(conn)? {
        return Ok(None);
    }
    waiting(conn, |conn| {
        let deadline = Instant::now() + Duration::from_millis(u64::from(WAIT.unsigned_abs()));
        loop {
            match mode(conn, "pragma journal_mode = wal") {
                Ok(mode) => return Ok(Some(mode)),
                Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(_) => return Ok(Some(mode(conn, "pragma journal_mode")?)),
            }
        }
    })
}

fn mode(conn: &mut SqliteConnection, pragma: &str) -> QueryResult<String> {
    let row = diesel::sql_query(pragma).get_result::<Mode>(conn)?;
    Ok(row.journal_mode)
}

#[derive(QueryableByName)]
struct Mode {
    #[diesel(sql_type = Text)]
    journal_mode: String,
}

#[cfg(test)]
mod tests {
    use diesel::connection::{InstrumentationEvent, SimpleConnection as _};

    use super::*;

    #[test]
    fn a_writer_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.sqlite3");
        let connect = || SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        let mut writer = connect();
        writer
            .batch_execute("create table t (x); begin immediate; insert into t values (1)")
            .unwrap();
        let mut conn = connect();
        let mut attempts = 0;
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event
                && query.to_string().contains("journal_mode = wal")
            {
                attempts += 1;
                if attempts == 3 {
                    writer.batch_execute("commit").unwrap();
                }
            }
        });
        assert_eq!(switch_to_log(&mut conn).unwrap().as_deref(), Some("wal"));
    }
}
