//! Files that are not there, without a schema, or busy; and the settings of connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sqlite::SqliteConnection;
use kms_core::{ErrorKind, Repository};
use kms_store_diesel::SqliteRepository;
use kms_testkit::change_sets;

use super::on_sqlite;
use crate::keys::{apply, scope, with_keys};
use crate::starting::{
    accepts_a_later_extension_and_no_earlier_one, counted_pool, takes_one_statement,
    without_its_one_row_nothing_is_created_and_repair_is_named,
};

const SHORT: Duration = Duration::from_millis(400);

#[test]
fn a_file_that_is_not_there_is_unreachable_and_not_created() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.sqlite3");
        let repository = SqliteRepository::builder(path.to_str().unwrap())
            .build()
            .unwrap();
        let started = Instant::now();
        let error = repository.validate_schema().await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(1), "{error}");
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        assert!(error.to_string().contains("none.sqlite3"), "{error}");
        assert!(!path.exists());
    });
}

#[test]
fn the_schema_is_checked_with_one_statement() {
    on_sqlite(async |application| {
        let (pool, sent) = counted_pool(application.database.path());
        takes_one_statement(&SqliteRepository::from_pool(pool), &sent).await;
    });
}

#[test]
fn a_later_extension_is_accepted_and_an_earlier_one_refused() {
    on_sqlite(async |application| accepts_a_later_extension_and_no_earlier_one(&application).await);
}

#[test]
fn emptied_tables_with_one_row_are_told_and_nothing_is_created() {
    on_sqlite(async |application| {
        let repair = || {
            kms_migrations::sqlite::repair(&mut application.database.connection()).unwrap();
        };
        without_its_one_row_nothing_is_created_and_repair_is_named(&application, repair).await;
    });
}

#[test]
fn a_file_without_tables_is_told_by_every_call() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.sqlite3");
        std::fs::write(&path, b"").unwrap();
        let repository = SqliteRepository::builder(path.to_str().unwrap())
            .build()
            .unwrap();
        for error in [
            repository.validate_schema().await.unwrap_err(),
            repository.load(&[scope("o_1")]).await.unwrap_err(),
            apply(&repository, change_sets::create(&scope("o_1"), &[]))
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::SchemaVersion, "{error}");
            assert_eq!(error.context("found"), Some("none"));
        }
    });
}

#[test]
fn another_writer_is_waited_for_in_bounded_time() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let mut writer = application.database.connection();
        writer.batch_execute("begin immediate").unwrap();
        let repository = SqliteRepository::builder(application.database.path())
            .busy_timeout(SHORT)
            .build()
            .unwrap();
        let started = Instant::now();
        let error = apply(&repository, change_sets::rotate(&keys))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
        assert!(started.elapsed() >= SHORT && started.elapsed() < Duration::from_secs(5));
        // Readers don't wait.
        repository
            .load(std::slice::from_ref(&keys.scope))
            .await
            .unwrap();
        writer.batch_execute("rollback").unwrap();
        let _ = apply(&repository, change_sets::rotate(&keys))
            .await
            .unwrap();
    });
}

#[test]
fn an_exhausted_pool_is_busy_after_a_bounded_wait() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let manager = ConnectionManager::<SqliteConnection>::new(application.database.path());
        let pool = Pool::builder()
            .max_size(1)
            .connection_timeout(SHORT)
            .build(manager)
            .unwrap();
        let held = pool.get().unwrap();
        let repository = Arc::new(SqliteRepository::from_pool(pool));
        let error = repository
            .load(std::slice::from_ref(&keys.scope))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
        drop(held);
        repository.load(&[keys.scope]).await.unwrap();
    });
}

#[test]
fn a_call_needs_no_free_blocking_thread_of_the_runtime() {
    let database = super::database::SqliteDatabase::new();
    let repository = SqliteRepository::builder(database.path()).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (free, until_free) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let busy = tokio::task::spawn_blocking(move || until_free.recv());
        let call = repository.validate_schema();
        tokio::time::timeout(Duration::from_secs(5), call)
            .await
            .expect("the call does not wait for the thread")
            .unwrap();
        drop(free);
        busy.await.unwrap().unwrap_err();
    });
}

#[test]
fn a_call_on_a_pool_that_is_held_ends_at_its_own_deadline() {
    on_sqlite(async |application| {
        let manager = ConnectionManager::<SqliteConnection>::new(application.database.path());
        let pool = Pool::builder().max_size(1).build(manager).unwrap();
        let held = pool.get().unwrap();
        let repository = SqliteRepository::from_pool(pool).with_call_timeout(SHORT);
        let started = Instant::now();
        let error = repository.validate_schema().await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5), "{error}");
        drop(held);
    });
}

#[test]
fn times_in_the_formats_of_go_are_read() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let mut connection = application.database.connection();
        for (stored, seconds) in [
            ("2023-11-14 23:13:20.5+01:00", 1_700_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("no time at all", 0),
        ] {
            connection
                .batch_execute(&format!(
                    "insert into kms_create_time_correction (table_name) values ('by hand');
                     update kms_root_key set create_time = '{stored}';
                     delete from kms_create_time_correction"
                ))
                .unwrap();
            let found = kms_store_diesel::KeyConnection::load_keys(
                &mut connection,
                std::slice::from_ref(&keys.scope),
            )
            .unwrap();
            let time = found.scopes[0].create_time;
            let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
            assert_eq!(since.as_secs(), seconds, "{stored}");
        }
    });
}

#[test]
fn the_first_call_switches_the_file_to_the_write_ahead_log() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sqlite3");
        let path = path.to_str().unwrap();
        let mode = || {
            let mut connection = SqliteConnection::establish(path).unwrap();
            diesel::dsl::sql::<diesel::sql_types::Text>("pragma journal_mode")
                .get_result::<String>(&mut connection)
                .unwrap()
        };
        kms_migrations::sqlite::run(&mut SqliteConnection::establish(path).unwrap()).unwrap();
        SqliteConnection::establish(path)
            .unwrap()
            .batch_execute("pragma journal_mode = delete")
            .unwrap();
        assert_eq!(mode(), "delete");
        let repository = SqliteRepository::builder(path).build().unwrap();
        assert_eq!(mode(), "delete", "to build one opens nothing");
        repository.validate_schema().await.unwrap();
        assert_eq!(mode(), "wal");
    });
}

#[test]
fn a_file_that_is_written_to_all_the_time_is_opened_in_the_mode_that_it_has() {
    on_sqlite(async |application| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sqlite3");
        let path = path.to_str().unwrap();
        let mut connection = application.database.connection();
        connection
            .batch_execute(&format!("vacuum into '{path}'"))
            .unwrap();
        let mut writer = SqliteConnection::establish(path).unwrap();
        let mode = |connection: &mut SqliteConnection| {
            diesel::dsl::sql::<diesel::sql_types::Text>("pragma journal_mode")
                .get_result::<String>(connection)
                .unwrap()
        };
        assert_eq!(mode(&mut writer), "delete");
        writer
            .batch_execute("begin immediate; insert into organization values ('o_1')")
            .unwrap();
        let repository = SqliteRepository::builder(path)
            .busy_timeout(SHORT)
            .build()
            .unwrap();
        repository.validate_schema().await.unwrap();
        let create = || apply(&repository, change_sets::create(&scope("o_1"), &[]));
        let error = create().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
        writer.batch_execute("commit").unwrap();
        let _ = create().await.unwrap();
        assert_eq!(mode(&mut writer), "delete");
        drop(repository);
        // The next connection tries again.
        let repository = SqliteRepository::builder(path).build().unwrap();
        repository.validate_schema().await.unwrap();
        let mut another = SqliteConnection::establish(path).unwrap();
        assert_eq!(mode(&mut another), "wal");
    });
}
