//! What SQLite refuses is told by its kind, with SQLite's own message as the source.

use std::error::Error as _;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};
use diesel::sqlite::SqliteConnection;
use kms_core::{Error, ErrorKind, Repository as _};
use kms_store_diesel::{KeyConnection as _, SqliteRepository};
use kms_testkit::change_sets;

use super::on_sqlite;
use crate::application::Database as _;
use crate::keys::{DATABASE, apply, scope, with_keys};

/// The kind, and what SQLite said.
#[track_caller]
fn is_refused(error: &Error, kind: ErrorKind, message: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    let source = error.source().expect("SQLite's message is the source");
    assert!(source.to_string().contains(message), "{source}");
}

#[test]
fn a_file_that_is_no_database_is_damaged() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sqlite3");
        std::fs::write(&path, [7; 4096]).unwrap();
        let repository = SqliteRepository::builder(path.to_str().unwrap())
            .build()
            .unwrap();
        let error = repository.validate_schema().await.unwrap_err();
        is_refused(&error, ErrorKind::DatabaseDamaged, "not a database");
        assert!(!error.is_retryable());
    });
}

#[test]
fn a_page_that_was_overwritten_is_damaged() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application
            .database
            .execute("pragma wal_checkpoint(truncate)");
        let path = application.database.path();
        let length = File::open(&path).unwrap().metadata().unwrap().len();
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        // The first page has the schema.
        file.seek(SeekFrom::Start(4096)).unwrap();
        file.write_all(&vec![0xff; usize::try_from(length - 4096).unwrap()])
            .unwrap();
        let repository = SqliteRepository::builder(path).build().unwrap();
        let error = repository
            .load(std::slice::from_ref(&keys.scope))
            .await
            .unwrap_err();
        is_refused(&error, ErrorKind::DatabaseDamaged, "malformed");
        let mut connection = application.database.connection();
        let error = connection.load_keys(&[keys.scope]).unwrap_err();
        is_refused(&error, ErrorKind::DatabaseDamaged, "malformed");
    });
}

#[test]
fn a_schema_that_makes_no_sense_is_damaged() {
    on_sqlite(async |application| {
        application.database.execute(
            "pragma writable_schema = on;
             update sqlite_schema set sql = 'no table' where name = 'kms_root_key'",
        );
        let repository = SqliteRepository::builder(application.database.path())
            .build()
            .unwrap();
        let error = repository.load(&[scope("o_1")]).await.unwrap_err();
        is_refused(&error, ErrorKind::DatabaseDamaged, "malformed");
    });
}

/// Lets the file grow no further.
#[derive(Debug)]
struct Full;

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Full {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        connection
            .batch_execute("pragma foreign_keys = on; pragma max_page_count = 1")
            .map_err(diesel::r2d2::Error::QueryError)
    }
}

#[test]
fn a_full_disk_is_told_and_worth_another_try() {
    on_sqlite(async |application| {
        let pool = Pool::builder()
            .max_size(1)
            .connection_customizer(Box::new(Full))
            .build(ConnectionManager::new(application.database.path()))
            .unwrap();
        let repository = SqliteRepository::from_pool(pool);
        let mut error = None;
        for n in 0..500 {
            let scope = scope(&format!("o_{n}"));
            application
                .database
                .execute(&format!("insert into organization values ('{scope}')"));
            let change = change_sets::create(&scope, &[DATABASE]);
            if let Err(refused) = apply(&repository, change).await {
                error = Some((scope, refused));
                break;
            }
        }
        let (scope, error) = error.expect("no page can be added");
        is_refused(&error, ErrorKind::DatabaseFull, "full");
        assert!(error.is_retryable());
        let found = repository.load(&[scope]).await.unwrap();
        assert!(found.scopes.is_empty(), "nothing of it was written");
    });
}

#[test]
fn a_writer_that_shares_the_cache_is_busy() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let shared = format!(
            "file:{}?cache=shared",
            application.database.path().replace(' ', "%20")
        );
        let mut writer = SqliteConnection::establish(&shared).unwrap();
        let repository = SqliteRepository::builder(&shared).build().unwrap();
        repository.validate_schema().await.unwrap();
        for (statement, message) in [
            (
                "update kms_collection_version set version = version + 1",
                "table is locked",
            ),
            ("create table new_table (id text)", "is locked"),
        ] {
            writer.batch_execute("begin immediate").unwrap();
            writer.batch_execute(statement).unwrap();
            let error = repository
                .load(std::slice::from_ref(&keys.scope))
                .await
                .unwrap_err();
            is_refused(&error, ErrorKind::DatabaseBusy, message);
            writer.batch_execute("rollback").unwrap();
        }
    });
}

#[test]
fn a_schema_that_is_being_changed_is_busy() {
    on_sqlite(async |application| {
        let shared = format!(
            "file:{}?cache=shared",
            application.database.path().replace(' ', "%20")
        );
        let mut writer = SqliteConnection::establish(&shared).unwrap();
        writer
            .batch_execute("begin immediate; create table new_table (id text)")
            .unwrap();
        let repository = SqliteRepository::builder(&shared).build().unwrap();
        let error = repository.validate_schema().await.unwrap_err();
        is_refused(&error, ErrorKind::DatabaseBusy, "schema is locked");
        writer.batch_execute("rollback").unwrap();
        repository.validate_schema().await.unwrap();
    });
}

#[test]
fn another_writer_is_told_in_sqlite_s_own_words() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let mut writer = application.database.connection();
        writer.batch_execute("begin immediate").unwrap();
        let repository = SqliteRepository::builder(application.database.path())
            .busy_timeout(std::time::Duration::from_millis(1))
            .build()
            .unwrap();
        let error = apply(&repository, change_sets::rotate(&keys))
            .await
            .unwrap_err();
        is_refused(&error, ErrorKind::DatabaseBusy, "database is locked");
    });
}

#[test]
fn a_file_whose_log_can_t_be_opened_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sqlite3");
    let path = path.to_str().unwrap();
    let mut connection = SqliteConnection::establish(path).unwrap();
    kms_migrations::sqlite::run(&mut connection).unwrap();
    std::fs::create_dir(format!("{path}-wal")).unwrap();
    let error = connection.load_keys(&[scope("o_1")]).unwrap_err();
    is_refused(&error, ErrorKind::DatabaseUnreachable, "unable to open");
    std::fs::remove_dir(format!("{path}-wal")).unwrap();
    connection.load_keys(&[scope("o_1")]).unwrap();
}
