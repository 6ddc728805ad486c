//! Takes over a database that Go kms made.

use diesel::sqlite::SqliteConnection;

use super::log::switch_to_log;
use super::verify::expected;
use super::{MIGRATIONS, catalogue, locked, number, shared_tables, texts};
use crate::bookkeeping::{self, Bookkeeping, Candidate, SHARED_TABLES};
use crate::catalogue::Catalogue;
use crate::error::{ErrorKind, Result};
use crate::report::Adoption;

/// The shared migration that replaces Go's triggers. They number a version
/// wrongly when the client names one, let a client's own `create_time` stand,
/// write local time into `update_time`, and may lack the change that Go kms made without changing
/// its version.
const REPLACING: [&str; 1] = ["_shared_triggers"];

/// The triggers that Go's migrations make. A database without one of them has
/// rows that nothing numbered or dated, or that somebody changed: whoever took
/// it away has to say why before anything is built on it.
const TRIGGERS: [(&str, &[&str]); 6] = [
    (
        "kms_schema_version",
        &[
            "kms_immutable_columns_kms_schema_version",
            "update_time_column_kms_version",
        ],
    ),
    (
        "kms_root_key",
        &[
            "kms_default_create_time_column_kms_root_key",
            "kms_immutable_columns_kms_root_key",
        ],
    ),
    (
        "kms_root_key_version",
        &[
            "kms_default_create_time_column_kms_root_key_version",
            "kms_immutable_columns_kms_root_key_version",
            "version_column_kms_root_key_version",
        ],
    ),
    (
        "kms_data_key",
        &[
            "kms_default_create_time_column_kms_data_key",
            "kms_immutable_columns_kms_data_key",
        ],
    ),
    (
        "kms_data_key_version",
        &[
            "kms_default_create_time_column_kms_data_key_version",
            "kms_immutable_columns_kms_data_key_version",
            "version_column_kms_data_key_version",
        ],
    ),
    (
        "kms_collection_version",
        &[
            "kms_immutable_columns_kms_collection_version",
            "update_time_column_kms_collection_version",
        ],
    ),
];

/// What our own part adds to the shared tables.
const OWN: [&str; 1] = ["index kms_data_key_version.kms_data_key_version_root_key_version_id_ix"];

/// Takes over a database whose tables Go kms made, at the version
/// [`SCHEMA_VERSION`](crate::SCHEMA_VERSION): marks the shared migrations as
/// applied, replaces Go's triggers by ours of the same names, and runs our own
/// part. One transaction: all of it or nothing. No table is rebuilt, and a Go
/// service keeps working.
///
/// Then it switches the file to the write-ahead log, which takes a moment in
/// which nobody else uses the file. If there is none within ten seconds the file
/// stays as it is ([`Adoption::journal_mode`] says so), and the engine's
/// connections use it so.
///
/// On a database that is ours already, it runs what is pending. Safe to call
/// from several processes at once.
///
/// # Errors
///
/// Nothing is changed with any of them: [`ErrorKind::NotMigrated`],
/// [`ErrorKind::WrongVersion`], [`ErrorKind::HalfMigrated`],
/// [`ErrorKind::NotAdoptable`], [`ErrorKind::Locked`],
/// [`ErrorKind::Database`].
pub fn adopt(conn: &mut SqliteConnection) -> Result<Adoption> {
    let mut adoption = locked(conn, |conn| {
        match bookkeeping::bookkeeping(conn, &MIGRATIONS)? {
            Bookkeeping::Ours => {
                return Ok(Adoption {
                    already_adopted: true,
                    ran: bookkeeping::run_pending(conn, &MIGRATIONS)?,
                    ..Adoption::default()
                });
            }
            Bookkeeping::Incomplete(missing) => {
                return Err(ErrorKind::HalfMigrated { missing }.into());
            }
            Bookkeeping::Untouched => {}
        }
        bookkeeping::check_candidate(&candidate(conn)?)?;
        let before = catalogue(conn)?;
        check_objects(&before)?;

        let mut adoption = bookkeeping::adopt_shared(conn, &MIGRATIONS, &REPLACING)?;
        adoption
            .ran
            .extend(bookkeeping::run_pending(conn, &MIGRATIONS)?);
        adoption.mended = before
            .compare(&catalogue(conn)?)
            .differing
            .into_iter()
            .map(|difference| difference.object)
            .collect();
        Ok(adoption)
    })?;
    adoption.journal_mode = switch_to_log(conn)?;
    Ok(adoption)
}

fn candidate(conn: &mut SqliteConnection) -> Result<Candidate> {
    let tables = shared_tables(conn)?;
    let has = |table: &str| tables.iter().any(|found| found == table);
    let schema_versions = if has("kms_schema_version") {
        texts(conn, "select version as text from kms_schema_version")?
    } else {
        Vec::new()
    };
    let collection_versions = if has("kms_collection_version") {
        number(conn, "select count(*) as rows from kms_collection_version")?
    } else {
        0
    };
    Ok(Candidate {
        tables,
        schema_versions,
        collection_versions,
    })
}

/// The shared tables' triggers, constraints and columns must be there, and our
/// own objects must not.
fn check_objects(found: &Catalogue) -> Result<()> {
    let expected = expected();
    let mut missing = bookkeeping::missing_triggers(found, &TRIGGERS);
    let mut reasons = Vec::new();
    for (name, _) in expected.iter() {
        let Some((table, _)) = name
            .strip_prefix("column ")
            .and_then(|path| path.split_once('.'))
        else {
            continue;
        };
        match (SHARED_TABLES.contains(&table), found.definition(name)) {
            (true, None) => missing.push(name.to_owned()),
            (false, Some(_)) => reasons.push(format!(
                "{name} is there already, but diesel's bookkeeping has no record of it"
            )),
            _ => {}
        }
    }
    // A constraint can't outlive its column: that one is the reason then.
    if missing.is_empty() {
        missing = bookkeeping::missing_constraints(found, &expected, &OWN);
    }
    if !missing.is_empty() {
        return Err(ErrorKind::HalfMigrated { missing }.into());
    }
    if !reasons.is_empty() {
        return Err(ErrorKind::NotAdoptable { reasons }.into());
    }
    Ok(())
}
