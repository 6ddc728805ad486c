//! The application's migrations and ours as one source.

use std::collections::HashSet;

use diesel::backend::Backend;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};

use crate::error::{Error, ErrorKind};

/// The application's migrations and ours, as one [`MigrationSource`].
///
/// Diesel keeps one bookkeeping table per schema for all migrations. With the
/// two sources run apart, running works, but `revert_last_migration` of the
/// application's source fails with an unknown version as soon as its own
/// migrations are reverted and ours are next, `revert_all_migrations` fails
/// from the first of ours on, and neither knows that ours must go last.
///
/// Diesel sorts by version, as text. Ours begin with `00000000000000kms`: they
/// sort before every version that begins with a date, so they run before the
/// migrations of the application that refer to our tables, and are reverted
/// after them. (The application's `00000000000000_diesel_initial_setup` still
/// comes first.) A migration of ours that comes with a later release runs when
/// it is found to be pending, even where later versions have run.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "sqlite")] {
/// use diesel::migration::MigrationSource;
/// use diesel::prelude::*;
/// use diesel_migrations::MigrationHarness;
/// use kms_migrations::Combined;
///
/// # fn migrate<A: MigrationSource<diesel::sqlite::Sqlite>>(
/// #     application: A,
/// # ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let mut conn = SqliteConnection::establish(":memory:")?;
/// let source = Combined::new(application);
/// kms_migrations::sqlite::run_with(&mut conn, &source)?;
/// conn.revert_all_migrations(source)?;
/// # Ok(())
/// # }
/// # // An application without migrations of its own is the smallest one.
/// # migrate(kms_migrations::NoMigrations).unwrap();
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Combined<A> {
    application: A,
}

impl<A> Combined<A> {
    /// Combines the application's source with ours.
    pub const fn new(application: A) -> Self {
        Self { application }
    }

    /// Both sources' migrations, each version once.
    pub(crate) fn with<DB: Backend>(
        &self,
        ours: &impl MigrationSource<DB>,
    ) -> diesel::migration::Result<Vec<Box<dyn Migration<DB>>>>
    where
        A: MigrationSource<DB>,
    {
        let mut migrations = ours.migrations()?;
        let mut versions: HashSet<MigrationVersion<'static>> = migrations
            .iter()
            .map(|migration| migration.name().version().as_owned())
            .collect();
        for migration in self.application.migrations()? {
            let version = migration.name().version().as_owned();
            if versions.contains(&version) {
                let version = version.to_string();
                return Err(Error::from(ErrorKind::DuplicateMigration { version }).into());
            }
            versions.insert(version);
            migrations.push(migration);
        }
        Ok(migrations)
    }
}

/// A source without migrations.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMigrations;

impl<DB: Backend> MigrationSource<DB> for NoMigrations {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<DB>>>> {
        Ok(Vec::new())
    }
}
