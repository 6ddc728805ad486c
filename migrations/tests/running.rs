//! Running the migrations: by several at once, with the application's, and
//! what status says.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use std::process::Command;
use std::sync::Barrier;

use database::{Connection, TestDatabase};
use diesel::migration::MigrationSource;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use kms_migrations::{Combined, ErrorKind};

on_both_databases! {
    running_again_does_nothing
    status_lists_what_is_applied_and_what_is_pending_without_writing
    several_at_once_take_turns
    several_processes_at_once_take_turns
    running_inside_a_callers_transaction_goes_with_it
    the_applications_migrations_run_after_ours_and_are_reverted_before
    without_the_combined_source_the_application_cannot_revert
    a_failing_migration_of_the_application_leaves_nothing
    a_version_that_is_there_twice_is_refused
    a_newer_releases_migration_is_reported_as_unknown
}

fn running_again_does_nothing(database: &TestDatabase) {
    let mut conn = database.connect();
    let ran = conn.migrate().unwrap();
    assert!(
        ran[0]
            .as_str()
            .starts_with("00000000000000-kms-0001_shared_")
    );
    assert!(ran.is_sorted());
    assert_eq!(conn.migrate().unwrap(), []);
}

fn status_lists_what_is_applied_and_what_is_pending_without_writing(database: &TestDatabase) {
    let mut conn = database.connect();
    let before = conn.status().unwrap();
    assert!(before.applied.is_empty());
    assert!(!before.is_current());
    assert_eq!(before.schema_version, None);
    let bookkeeping = if database.is_postgres() {
        "pg_class where relname = '__diesel_schema_migrations'"
    } else {
        "sqlite_schema where name = '__diesel_schema_migrations'"
    };
    assert_eq!(conn.count(bookkeeping), 0);

    let ran = conn.migrate().unwrap();
    let after = conn.status().unwrap();
    assert_eq!(after.applied, ran);
    assert_eq!(after.applied, before.pending);
    assert!(after.is_current());
    assert_eq!(
        after.schema_version.as_deref(),
        Some(kms_migrations::SCHEMA_VERSION)
    );
    assert_eq!(
        after.extension_version.as_deref(),
        Some(kms_migrations::EXTENSION_VERSION)
    );
}

fn several_at_once_take_turns(database: &TestDatabase) {
    let barrier = Barrier::new(4);
    let ran: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut conn = database.connect();
                    conn.execute(if database.is_postgres() {
                        "set default_transaction_isolation = 'repeatable read'"
                    } else {
                        "pragma busy_timeout = 0"
                    });
                    barrier.wait();
                    conn.migrate().unwrap().len()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    let mut conn = database.connect();
    assert_eq!(ran, conn.status().unwrap().applied.len());
    assert!(conn.verify().unwrap().is_ok());
}

/// The processes are this test binary, told by the environment to migrate.
fn several_processes_at_once_take_turns(database: &TestDatabase) {
    let kind = if database.is_postgres() {
        "postgres"
    } else {
        "sqlite"
    };
    let processes: Vec<_> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "migrate_what_the_environment_names"])
                .env("KMS_MIGRATE_URL", database.url())
                .env("KMS_MIGRATE_KIND", kind)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    assert!(database.connect().verify().unwrap().is_ok());
}

#[test]
fn migrate_what_the_environment_names() {
    use diesel::Connection as _;
    let Ok(url) = std::env::var("KMS_MIGRATE_URL") else {
        return; // Not a test of its own.
    };
    if std::env::var("KMS_MIGRATE_KIND").unwrap() == "postgres" {
        let mut conn = diesel::PgConnection::establish(&url).unwrap();
        kms_migrations::postgres::run(&mut conn).unwrap();
    } else {
        let mut conn = diesel::SqliteConnection::establish(&url).unwrap();
        kms_migrations::sqlite::run(&mut conn).unwrap();
    }
}

fn running_inside_a_callers_transaction_goes_with_it(database: &TestDatabase) {
    use diesel::Connection as _;
    let mut conn = database.connect();
    let result: diesel::QueryResult<()> = match &mut conn {
        Connection::Sqlite(conn) => conn.transaction(|conn| {
            kms_migrations::sqlite::run(conn).unwrap();
            Err(diesel::result::Error::RollbackTransaction)
        }),
        Connection::Postgres(conn) => conn.transaction(|conn| {
            kms_migrations::postgres::run(conn).unwrap();
            Err(diesel::result::Error::RollbackTransaction)
        }),
    };
    assert!(result.is_err());
    assert!(conn.catalogue().unwrap().is_empty());
    conn.migrate().unwrap();
}

fn the_applications_migrations_run_after_ours_and_are_reverted_before(database: &TestDatabase) {
    let mut conn = database.connect();
    let application = Application::new(&[
        (
            "00000000000000_diesel_initial_setup",
            "create table first (id text)",
            "drop table first",
        ),
        (
            "2024-01-01-000000_secrets",
            "create table secret (key_version_id text references kms_data_key_version (private_id))",
            "drop table secret",
        ),
    ]);
    let ran = run_with(&mut conn, &application.combined()).unwrap();
    let ours = conn.status().unwrap().applied;
    assert_eq!(ran.len(), ours.len() + 2);
    assert!(ran[0].as_str().ends_with("diesel_initial_setup"));
    assert_eq!(ran[1..=ours.len()], ours);
    assert!(ran.last().unwrap().as_str().ends_with("_secrets"));

    match &mut conn {
        Connection::Sqlite(conn) => redo_and_revert(conn, &application),
        Connection::Postgres(conn) => redo_and_revert(conn, &application),
    }
    assert!(conn.catalogue().unwrap().is_empty());
}

fn redo_and_revert<DB: diesel::backend::Backend>(
    conn: &mut impl MigrationHarness<DB>,
    application: &Application,
) where
    Combined<FileBasedMigrations>: MigrationSource<DB>,
{
    let last = conn.revert_last_migration(application.combined()).unwrap();
    assert_eq!(last.to_string(), "20240101000000");
    conn.run_pending_migrations(application.combined()).unwrap();
    conn.revert_all_migrations(application.combined()).unwrap();
}

fn without_the_combined_source_the_application_cannot_revert(database: &TestDatabase) {
    let mut conn = database.migrated();
    let application = Application::new(&[]);
    let message = match &mut conn {
        Connection::Sqlite(conn) => conn
            .revert_last_migration(application.source())
            .unwrap_err(),
        Connection::Postgres(conn) => conn
            .revert_last_migration(application.source())
            .unwrap_err(),
    };
    assert!(
        message.to_string().contains("00000000000000kms"),
        "{message}"
    );
}

fn a_failing_migration_of_the_application_leaves_nothing(database: &TestDatabase) {
    let mut conn = database.connect();
    let application = Application::new(&[("2024_bad", "create table ok (id text); nonsense", "")]);
    let error = run_with(&mut conn, &application.combined()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Database);
    assert!(conn.catalogue().unwrap().is_empty());
    conn.migrate().unwrap();
}

fn a_version_that_is_there_twice_is_refused(database: &TestDatabase) {
    let mut conn = database.connect();
    let application = Application::new(&[(
        "00000000000000-kms-0001_copied",
        "create table x (id text)",
        "drop table x",
    )]);
    let error = run_with(&mut conn, &application.combined()).unwrap_err();
    assert_eq!(
        error.kind(),
        &ErrorKind::DuplicateMigration {
            version: "00000000000000kms0001".to_owned()
        }
    );
}

fn a_newer_releases_migration_is_reported_as_unknown(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.execute(
        "insert into __diesel_schema_migrations (version) values ('00000000000000kms0999')",
    );
    assert_eq!(conn.status().unwrap().unknown, ["00000000000000kms0999"]);
    assert_eq!(conn.migrate().unwrap(), []);
}

/// On Postgres `create index concurrently` can't run in a transaction.
#[test]
fn a_migration_outside_of_a_transaction_runs_and_leaves_no_lock() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let application = Application::new(&[(
        "2024_index",
        "create index concurrently application_ix on kms_root_key (create_time)",
        "drop index application_ix",
    )]);
    application.outside_of_a_transaction("2024_index");
    let mut conn = database.connect();
    let ran = run_with(&mut conn, &application.combined()).unwrap();
    assert!(ran.last().unwrap().as_str().ends_with("_index"));
    assert_eq!(
        conn.count("pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"),
        0
    );
}

fn run_with(
    conn: &mut Connection,
    source: &Combined<FileBasedMigrations>,
) -> kms_migrations::Result<Vec<kms_migrations::MigrationName>> {
    match conn {
        Connection::Sqlite(conn) => kms_migrations::sqlite::run_with(conn, source),
        Connection::Postgres(conn) => kms_migrations::postgres::run_with(conn, source),
    }
}

/// An application's migrations folder.
struct Application {
    folder: tempfile::TempDir,
}

impl Application {
    fn new(migrations: &[(&str, &str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, up, down) in migrations {
            let migration = folder.path().join(name);
            std::fs::create_dir(&migration).unwrap();
            std::fs::write(migration.join("up.sql"), up).unwrap();
            std::fs::write(migration.join("down.sql"), down).unwrap();
        }
        Self { folder }
    }

    fn outside_of_a_transaction(&self, name: &str) {
        let metadata = self.folder.path().join(name).join("metadata.toml");
        std::fs::write(metadata, "run_in_transaction = false").unwrap();
    }

    fn source(&self) -> FileBasedMigrations {
        FileBasedMigrations::from_path(self.folder.path()).unwrap()
    }

    fn combined(&self) -> Combined<FileBasedMigrations> {
        Combined::new(self.source())
    }
}
