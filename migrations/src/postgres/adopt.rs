//! Takes over a database that Go kms made.

use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::verify::expected;
use super::{MIGRATIONS, catalogue, locked, number, shared_tables, texts};
use crate::bookkeeping::{self, Bookkeeping, Candidate, SHARED_TABLES};
use crate::catalogue::Catalogue;
use crate::error::{ErrorKind, Result};
use crate::report::Adoption;

/// Shared migrations that replace what is there: functions that depend on the
/// session's `search_path`, and a trigger that Go kms changed without changing
/// its version.
const REPLACING: [&str; 2] = ["_shared_trigger_functions", "_shared_key_triggers"];

/// The triggers that Go's migrations make. A database without one of them has
/// rows that nothing numbered or dated, or that somebody changed: whoever took
/// it away has to say why before anything is built on it.
const TRIGGERS: [(&str, &[&str]); 6] = [
    (
        "kms_schema_version",
        &[
            "kms_default_create_time_column",
            "kms_immutable_columns",
            "kms_update_time_column",
        ],
    ),
    (
        "kms_root_key",
        &["kms_default_create_time_column", "kms_immutable_columns"],
    ),
    (
        "kms_root_key_version",
        &[
            "kms_default_create_time_column",
            "kms_immutable_columns",
            "kms_version_column",
        ],
    ),
    (
        "kms_data_key",
        &["kms_default_create_time_column", "kms_immutable_columns"],
    ),
    (
        "kms_data_key_version",
        &[
            "kms_default_create_time_column",
            "kms_immutable_columns",
            "kms_version_column",
        ],
    ),
    (
        "kms_collection_version",
        &["kms_immutable_columns", "kms_update_time_column"],
    ),
];

/// What our own part adds to the shared tables.
const OWN: [&str; 3] = [
    "constraint kms_collection_version.kms_collection_version_pkey",
    "constraint kms_schema_version.kms_schema_version_pkey",
    "index kms_data_key_version.kms_data_key_version_root_key_version_id_ix",
];

/// Takes over a database whose tables Go kms made, at the version
/// [`SCHEMA_VERSION`](crate::SCHEMA_VERSION): marks the shared migrations as
/// applied, replaces Go's trigger functions by ours, which work whatever the
/// session's `search_path`, and runs our own part. One transaction: all of it
/// or nothing. A Go service keeps working.
///
/// On a database that is ours already, it runs what is pending. Safe to call
/// from several processes at once. It waits for changes that are under way, and
/// changes and readers wait for it: it locks the tables and builds indexes. Do
/// it when a pause of seconds doesn't matter.
///
/// # Errors
///
/// Nothing is changed with any of them: [`ErrorKind::NotMigrated`],
/// [`ErrorKind::WrongVersion`], [`ErrorKind::HalfMigrated`],
/// [`ErrorKind::NotAdoptable`], [`ErrorKind::OtherSchema`],
/// [`ErrorKind::Database`] (as when the role doesn't own the tables).
pub fn adopt(conn: &mut PgConnection) -> Result<Adoption> {
    locked(conn, |conn| {
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
        check_schema(conn)?;
        bookkeeping::check_candidate(&candidate(conn)?)?;
        wait_for_changes(conn)?;
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
    })
}

/// Refuses where the session sees the tables of another schema than the one in
/// which our part would be made.
fn check_schema(conn: &mut PgConnection) -> Result<()> {
    let elsewhere = texts(
        conn,
        "select relnamespace::regnamespace::text || chr(10) || current_schema() as text \
         from pg_class where oid = to_regclass('kms_schema_version') \
           and relnamespace <> quote_ident(current_schema())::regnamespace",
    )?;
    match elsewhere.first().and_then(|names| names.split_once('\n')) {
        Some((found, current)) => Err(ErrorKind::OtherSchema {
            found: found.to_owned(),
            current: current.to_owned(),
        }
        .into()),
        None => Ok(()),
    }
}

/// Waits until nobody works on the tables, and keeps others from beginning. A
/// change updates the collection version before all else, and a deletion goes
/// down from the root key: in that order nobody has what is wanted here and
/// wants what is held.
fn wait_for_changes(conn: &mut PgConnection) -> Result<()> {
    diesel::sql_query(
        "lock table kms_collection_version, kms_root_key, kms_root_key_version, kms_data_key, \
           kms_data_key_version, kms_schema_version in access exclusive mode",
    )
    .execute(conn)?;
    Ok(())
}

fn candidate(conn: &mut PgConnection) -> Result<Candidate> {
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

/// The shared tables' triggers and constraints must be there, and their columns
/// with the types that ours have; our own objects must not.
fn check_objects(found: &Catalogue) -> Result<()> {
    let expected = expected();
    let mut missing = bookkeeping::missing_triggers(found, &TRIGGERS);
    let mut reasons = Vec::new();
    for (name, definition) in expected.iter() {
        let Some((table, _)) = name
            .strip_prefix("column ")
            .and_then(|path| path.split_once('.'))
        else {
            continue;
        };
        let shared = SHARED_TABLES.contains(&table);
        match (shared, found.definition(name)) {
            (true, None) => missing.push(name.to_owned()),
            (true, Some(found)) if column_type(found) != column_type(definition) => {
                reasons.push(format!(
                    "{name} is {}, expected {}",
                    column_type(found),
                    column_type(definition)
                ));
            }
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

/// A column's definition without nullability and default.
fn column_type(definition: &str) -> &str {
    let end = [" not null", " default "]
        .iter()
        .filter_map(|word| definition.find(word))
        .min()
        .unwrap_or(definition.len());
    &definition[..end]
}
