//! Our migrations and what diesel's bookkeeping says about them: the part that
//! is the same for both databases.

use std::collections::HashSet;
use std::fmt;

use diesel::backend::Backend;
use diesel::connection::BoxableConnection;
use diesel::migration::{Migration, MigrationMetadata, MigrationSource};
use diesel_migrations::MigrationHarness;

use crate::catalogue::Catalogue;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{Adoption, MigrationName, Status};

/// What the versions of our migrations begin with.
const OURS: &str = "00000000000000kms";
/// What the versions of the migrations shared with Go kms begin with.
const SHARED: &str = "00000000000000kms00";

/// Runs what is pending of a source, in the order of versions. The caller holds
/// the lock.
pub(crate) fn run_pending<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    source: &impl MigrationSource<DB>,
) -> Result<Vec<MigrationName>> {
    let applied = applied(conn)?;
    sorted(source)?
        .iter()
        .filter(|migration| !applied.contains(&version(migration.as_ref())))
        .map(|migration| run_one(conn, migration.as_ref()))
        .collect()
}

/// Marks the shared migrations as applied. Those named in `replacing` run
/// instead: they are made to run over what is there.
pub(crate) fn adopt_shared<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    source: &impl MigrationSource<DB>,
    replacing: &[&str],
) -> Result<Adoption> {
    let mut adoption = Adoption::default();
    for migration in sorted(source)? {
        let migration = migration.as_ref();
        if !version(migration).starts_with(SHARED) {
            continue;
        }
        let name = migration.name().to_string();
        if replacing.iter().any(|step| name.ends_with(step)) {
            adoption.ran.push(run_one(conn, migration)?);
        } else {
            run_one(conn, &MarkOnly(migration))?;
            adoption.marked.push(MigrationName::new(name));
        }
    }
    Ok(adoption)
}

/// The triggers, each under its table, that a database doesn't have.
pub(crate) fn missing_triggers(found: &Catalogue, triggers: &[(&str, &[&str])]) -> Vec<String> {
    triggers
        .iter()
        .flat_map(|(table, names)| {
            names
                .iter()
                .map(move |name| format!("trigger {table}.{name}"))
        })
        .filter(|object| found.definition(object).is_none())
        .collect()
}

/// The constraints and unique indexes of the shared part that a database doesn't
/// have. `own` are those that our own part adds to it.
pub(crate) fn missing_constraints(
    found: &Catalogue,
    expected: &Catalogue,
    own: &[&str],
) -> Vec<String> {
    expected
        .iter()
        .map(|(name, _)| name)
        .filter(|name| is_shared_constraint(name) && !own.contains(name))
        .filter(|name| found.definition(name).is_none())
        .map(str::to_owned)
        .collect()
}

fn is_shared_constraint(name: &str) -> bool {
    ["constraint ", "unique ", "foreign key ", "index "]
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .and_then(|path| path.split(['.', '(']).next())
        .is_some_and(|on| SHARED_TABLES.contains(&on) || SHARED_DOMAINS.contains(&on))
}

/// Where adoption finds diesel's bookkeeping.
pub(crate) enum Bookkeeping {
    /// No migration of ours is recorded.
    Untouched,
    /// All shared migrations are recorded, and maybe some of our own part.
    Ours,
    /// Some shared migrations are recorded; these aren't.
    Incomplete(Vec<String>),
}

pub(crate) fn bookkeeping<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    source: &impl MigrationSource<DB>,
) -> Result<Bookkeeping> {
    let applied = applied(conn)?;
    if !applied.iter().any(|version| version.starts_with(OURS)) {
        return Ok(Bookkeeping::Untouched);
    }
    let unrecorded: Vec<String> = sorted(source)?
        .iter()
        .filter(|migration| version(migration.as_ref()).starts_with(SHARED))
        .filter(|migration| !applied.contains(&version(migration.as_ref())))
        .map(|migration| format!("migration {}", migration.name()))
        .collect();
    Ok(if unrecorded.is_empty() {
        Bookkeeping::Ours
    } else {
        Bookkeeping::Incomplete(unrecorded)
    })
}

/// Sorts recorded versions into a status; the versions that the database says
/// it has are added by the caller.
pub(crate) fn status<DB: Backend>(
    source: &impl MigrationSource<DB>,
    recorded: &[String],
) -> Result<Status> {
    let (applied, pending): (Vec<_>, Vec<_>) = sorted(source)?
        .iter()
        .map(|migration| (version(migration.as_ref()), migration.name().to_string()))
        .partition(|(version, _)| recorded.contains(version));
    let known: HashSet<&str> = applied
        .iter()
        .chain(&pending)
        .map(|(version, _)| version.as_str())
        .collect();
    let unknown = recorded
        .iter()
        .filter(|version| version.starts_with(OURS) && !known.contains(version.as_str()))
        .cloned()
        .collect();
    let names = |migrations: Vec<(String, String)>| {
        migrations
            .into_iter()
            .map(|(_, name)| MigrationName::new(name))
            .collect()
    };
    Ok(Status {
        unknown,
        applied: names(applied.clone()),
        pending: names(pending.clone()),
        schema_version: None,
        extension_version: None,
    })
}

/// Whether every migration of the source that is still pending can run inside
/// a transaction.
pub(crate) fn all_transactional<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    source: &impl MigrationSource<DB>,
) -> Result<bool> {
    let applied = applied(conn)?;
    Ok(sorted(source)?
        .iter()
        .filter(|migration| !applied.contains(&version(migration.as_ref())))
        .all(|migration| migration.metadata().run_in_transaction()))
}

fn applied<DB: Backend, C: MigrationHarness<DB>>(conn: &mut C) -> Result<HashSet<String>> {
    let versions = conn.applied_migrations().map_err(Error::from_migration)?;
    Ok(versions.iter().map(ToString::to_string).collect())
}

fn sorted<DB: Backend>(source: &impl MigrationSource<DB>) -> Result<Vec<Box<dyn Migration<DB>>>> {
    let mut migrations = source.migrations().map_err(Error::from_migration)?;
    migrations.sort_by_key(|migration| version(migration.as_ref()));
    Ok(migrations)
}

fn run_one<DB: Backend, C: MigrationHarness<DB>>(
    conn: &mut C,
    migration: &dyn Migration<DB>,
) -> Result<MigrationName> {
    conn.run_migration(migration)
        .map_err(Error::from_migration)?;
    Ok(MigrationName::new(migration.name().to_string()))
}

fn version<DB: Backend>(migration: &dyn Migration<DB>) -> String {
    migration.name().version().to_string()
}

/// A migration that is recorded as applied and does nothing.
struct MarkOnly<'a, DB: Backend>(&'a dyn Migration<DB>);

impl<DB: Backend> Migration<DB> for MarkOnly<'_, DB> {
    fn run(&self, _: &mut dyn BoxableConnection<DB>) -> diesel::migration::Result<()> {
        Ok(())
    }

    fn revert(&self, conn: &mut dyn BoxableConnection<DB>) -> diesel::migration::Result<()> {
        self.0.revert(conn)
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self.0.metadata()
    }

    fn name(&self) -> &dyn diesel::migration::MigrationName {
        self.0.name()
    }
}

impl<DB: Backend> fmt::Debug for MarkOnly<'_, DB> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MarkOnly({})", self.0.name())
    }
}

/// The six tables shared with Go kms.
pub(crate) const SHARED_TABLES: [&str; 6] = [
    "kms_schema_version",
    "kms_collection_version",
    "kms_root_key",
    "kms_root_key_version",
    "kms_data_key",
    "kms_data_key_version",
];

/// The domains with constraints that they use on Postgres.
const SHARED_DOMAINS: [&str; 3] = ["kms_private_id", "kms_scope_id", "kms_version"];

/// The tables with one row and the version that is to stand there; that of the collection is the database's affair.
pub(crate) const ONE_ROW_TABLES: [(&str, Option<&str>); 3] = [
    ("kms_schema_version", Some("'v0.0.2'")),
    ("kms_extension_version", Some("'v5'")),
    ("kms_collection_version", None),
];

/// Refuses to repair what is not ours yet.
pub(crate) fn refuse_repair(bookkeeping: Bookkeeping, has_tables: bool) -> Result<()> {
    match bookkeeping {
        Bookkeeping::Ours => Ok(()),
        Bookkeeping::Incomplete(missing) => Err(ErrorKind::HalfMigrated { missing }.into()),
        Bookkeeping::Untouched if has_tables => Err(ErrorKind::NotAdopted.into()),
        Bookkeeping::Untouched => Err(ErrorKind::NotMigrated.into()),
    }
}

/// Refuses what a later release has migrated: it knows what belongs there.
pub(crate) fn refuse_later(status: &Status) -> Result<()> {
    match status.unknown.last() {
        Some(found) => Err(ErrorKind::WrongVersion {
            expected: crate::EXTENSION_VERSION.to_owned(),
            found: found.clone(),
        }
        .into()),
        None => Ok(()),
    }
}

/// The row that a statement was about must be there.
pub(crate) fn expect_one(rows: usize) -> Result<()> {
    if rows == 1 {
        Ok(())
    } else {
        Err(diesel::result::Error::NotFound.into())
    }
}

/// What is known of a database before it is adopted.
pub(crate) struct Candidate {
    /// Those of [`SHARED_TABLES`] that are there.
    pub(crate) tables: Vec<String>,
    /// The rows of `kms_schema_version`.
    pub(crate) schema_versions: Vec<String>,
    /// How many rows `kms_collection_version` has.
    pub(crate) collection_versions: i64,
}

/// Refuses what Go's migrations have not brought to the version that we share.
pub(crate) fn check_candidate(candidate: &Candidate) -> Result<()> {
    if candidate.tables.is_empty() {
        return Err(ErrorKind::NotMigrated.into());
    }
    if let [found] = candidate.schema_versions.as_slice()
        && found != crate::SCHEMA_VERSION
    {
        return Err(ErrorKind::WrongVersion {
            expected: crate::SCHEMA_VERSION.to_owned(),
            found: found.clone(),
        }
        .into());
    }
    let missing: Vec<String> = SHARED_TABLES
        .iter()
        .filter(|table| !candidate.tables.iter().any(|found| found == *table))
        .map(|table| format!("table {table}"))
        .collect();
    if !missing.is_empty() {
        return Err(ErrorKind::HalfMigrated { missing }.into());
    }
    let mut missing = Vec::new();
    if candidate.schema_versions.is_empty() {
        missing.push("row in kms_schema_version".to_owned());
    }
    if candidate.collection_versions == 0 {
        missing.push("row in kms_collection_version".to_owned());
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(ErrorKind::HalfMigrated { missing }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_that_are_put_back_hold_this_releases_versions() {
        let quoted = |version: &str| format!("'{version}'");
        assert_eq!(ONE_ROW_TABLES[0].1, Some(&*quoted(crate::SCHEMA_VERSION)));
        assert_eq!(
            ONE_ROW_TABLES[1].1,
            Some(&*quoted(crate::EXTENSION_VERSION))
        );
    }
}
