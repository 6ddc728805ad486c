//! What the operations of this crate answer with.

use std::fmt;

use crate::catalogue::Difference;

/// The full name of a migration: `00000000000000-kms-0004_shared_keys`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigrationName(String);

impl MigrationName {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MigrationName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How far a database has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Our migrations that diesel's bookkeeping says were applied, in order.
    pub applied: Vec<MigrationName>,
    /// Our migrations that are still to come, in order.
    pub pending: Vec<MigrationName>,
    /// Versions in the bookkeeping that look like ours and are not known to
    /// this release: a newer one has migrated the database.
    pub unknown: Vec<String>,
    /// The version of the part shared with Go kms, if its table is there.
    pub schema_version: Option<String>,
    /// The version of our own part, if its table is there.
    pub extension_version: Option<String>,
}

impl Status {
    /// Whether nothing is left to run.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.pending.is_empty()
    }
}

/// What a database has, held against what it should have.
///
/// `Display` prints one line per finding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Objects that are not there: `trigger kms_root_key.kms_immutable_columns`.
    pub missing: Vec<String>,
    /// Objects that are there with another definition.
    pub differing: Vec<Difference>,
    /// Objects that differ as those of an adopted database do, and that
    /// something else makes up for. Nothing needs to be done.
    pub tolerated: Vec<Difference>,
    /// Objects on the kms tables that are not ours: the application's foreign
    /// keys and indexes, as a rule.
    pub beyond: Vec<String>,
    /// Rows that today's constraints would refuse. They are listed, and keep
    /// working.
    pub oddities: Vec<Oddity>,
    /// Roles that may create objects in the schema of the tables, beside its
    /// owner and theirs; `public` is every role. The functions of these
    /// migrations call nothing that such a role makes, but the application's own
    /// statements may: `revoke create on schema … from …`. Postgres only.
    pub creators: Vec<String>,
}

impl Report {
    /// Whether nothing is missing and nothing differs. Oddities, creators and
    /// what is tolerated don't count.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.missing.is_empty() && self.differing.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in &self.missing {
            writeln!(formatter, "missing: {object}")?;
        }
        for difference in &self.differing {
            writeln!(formatter, "differs: {difference}")?;
        }
        for difference in &self.tolerated {
            writeln!(formatter, "tolerated: {difference}")?;
        }
        for object in &self.beyond {
            writeln!(formatter, "not ours: {object}")?;
        }
        for oddity in &self.oddities {
            writeln!(formatter, "odd: {oddity}")?;
        }
        for role in &self.creators {
            writeln!(formatter, "may create objects beside the tables: {role}")?;
        }
        Ok(())
    }
}

/// A rule that rows of a table break.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Oddity {
    /// The table.
    pub table: String,
    /// What is odd about its rows.
    pub rule: String,
    /// How many rows there are.
    pub rows: i64,
    /// The ids of the first few.
    pub ids: Vec<String>,
}

impl fmt::Display for Oddity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            rule,
            rows,
            ids,
        } = self;
        write!(formatter, "{table}: {rows} rows {rule} ({ids:?})")
    }
}

/// What repairing a database did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// Migrations that were pending and ran.
    pub ran: Vec<MigrationName>,
    /// Rows that were put back: `row in kms_collection_version`.
    pub rows: Vec<String>,
    /// Triggers and indexes that were made anew.
    pub objects: Vec<String>,
}

/// What adopting a database did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adoption {
    /// Whether the database was already ours, and only pending migrations, if
    /// any, were run.
    pub already_adopted: bool,
    /// Shared migrations that were marked as applied without running.
    pub marked: Vec<MigrationName>,
    /// Migrations that ran: those of the shared ones that replace functions
    /// and triggers, and our own part.
    pub ran: Vec<MigrationName>,
    /// Objects of Go kms that have another definition now.
    pub mended: Vec<String>,
    /// SQLite: the journal mode that the file is in now, which is `wal` unless
    /// another process used the file all the time. `None` inside a transaction of
    /// the caller's, which can't change it, and on Postgres.
    pub journal_mode: Option<String>,
}
