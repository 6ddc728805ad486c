//! Puts back what a migrated database has lost.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::SqliteConnection;

use super::verify::expected;
use super::{MIGRATIONS, catalogue, locked, number, shared_tables, status};
use crate::bookkeeping;
use crate::error::Result;
use crate::report::Repair;

/// Puts back the rows of the tables with one row, and our triggers and indexes where they are missing or differ: Go's
/// migration 07, run after the database was adopted, replaces one of them. Runs what is pending of our migrations
/// first. Rows of keys are left alone. One transaction: all of it or nothing.
///
/// The collection version begins anew at a random number, so that every process reads its keys again.
///
/// # Errors
///
/// As [`adopt`](super::adopt()) for a database that is not ours yet; [`ErrorKind::WrongVersion`](crate::ErrorKind::WrongVersion)
/// where a later release has migrated it; [`ErrorKind::Locked`](crate::ErrorKind::Locked),
/// [`ErrorKind::Database`](crate::ErrorKind::Database). Nothing is changed then.
pub fn repair(conn: &mut SqliteConnection) -> Result<Repair> {
    locked(conn, |conn| {
        let kept = bookkeeping::bookkeeping(conn, &MIGRATIONS)?;
        bookkeeping::refuse_repair(kept, !shared_tables(conn)?.is_empty())?;
        bookkeeping::refuse_later(&status(conn)?)?;
        let mut repair = Repair {
            ran: bookkeeping::run_pending(conn, &MIGRATIONS)?,
            ..Repair::default()
        };
        let expected = expected();
        for lost in expected.lost_statements(&catalogue(conn)?) {
            conn.batch_execute(&format!(
                "drop {} if exists {}; {};",
                lost.kind, lost.name, lost.statement
            ))?;
            repair.objects.push(lost.object.to_owned());
        }
        for (table, value) in bookkeeping::ONE_ROW_TABLES {
            if number(conn, &format!("select count(*) as rows from {table}"))? == 0 {
                let value = value.unwrap_or("1 + abs(random() / 4)");
                conn.batch_execute(&format!("insert into {table} (version) values ({value})"))?;
                repair.rows.push(format!("row in {table}"));
            }
        }
        Ok(repair)
    })
}

/// Gives key versions other numbers, all of them or none, and moves the collection version. For numbers that
/// `Kms::prove_numbers` has proven, after a restore that numbered rows anew.
///
/// # Errors
///
/// [`ErrorKind::Locked`](crate::ErrorKind::Locked), [`ErrorKind::Database`](crate::ErrorKind::Database), as where a version
/// is not there, or another version of the key has that number. Nothing is changed then.
pub fn renumber(conn: &mut SqliteConnection, numbers: &[(&str, i64)]) -> Result<()> {
    locked(conn, |conn| {
        conn.batch_execute("update kms_collection_version set version = version + 1")?;
        // Out of the way first: two versions may have each other's number.
        let steps = ["version = version + 1000000000000 + 0 * ?2", "version = ?2"];
        for step in steps {
            for (id, number) in numbers {
                let mut rows = 0;
                for table in ["kms_root_key_version", "kms_data_key_version"] {
                    rows += diesel::sql_query(format!(
                        "update {table} set {step} where private_id = ?1"
                    ))
                    .bind::<Text, _>(id)
                    .bind::<BigInt, _>(number)
                    .execute(conn)?;
                }
                bookkeeping::expect_one(rows)?;
            }
        }
        Ok(())
    })
}
