//! A SQLite file with the schema and the application's scope table.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::sqlite::SqliteConnection;
use kms_core::{Repository, RootKeyVersionId};
use kms_store_diesel::SqliteRepository;

use crate::application::{Database, hex, text};

pub(crate) struct SqliteDatabase {
    connection: Mutex<SqliteConnection>,
    folder: tempfile::TempDir,
}

impl SqliteDatabase {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms test.sqlite3");
        let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        connection
            .batch_execute(
                "pragma busy_timeout = 5000; pragma journal_mode = wal; pragma synchronous = off; \
                 pragma foreign_keys = on;",
            )
            .unwrap();
        kms_migrations::sqlite::run(&mut connection).unwrap();
        connection
            .batch_execute(
                "create table organization (id text not null primary key);
                 alter table kms_root_key add column organization_id text
                   generated always as (scope_id) virtual
                   references organization (id) on delete cascade;",
            )
            .unwrap();
        Self {
            connection: Mutex::new(connection),
            folder,
        }
    }

    pub(crate) fn path(&self) -> String {
        let path = self.folder.path().join("kms test.sqlite3");
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn connection(&self) -> SqliteConnection {
        let mut connection = SqliteConnection::establish(&self.path()).unwrap();
        connection
            .batch_execute("pragma busy_timeout = 200; pragma foreign_keys = on;")
            .unwrap();
        connection
    }
}

impl Database for SqliteDatabase {
    fn open(&self) -> Arc<dyn Repository> {
        Arc::new(SqliteRepository::builder(self.path()).build().unwrap())
    }

    fn execute(&self, sql: &str) {
        let mut connection = self.connection.lock().unwrap();
        if let Err(error) = connection.batch_execute(sql) {
            panic!("{sql}: {error}");
        }
    }

    fn bytes(bytes: &[u8]) -> String {
        format!("x'{}'", hex(bytes))
    }

    fn deferred() -> &'static str {
        ""
    }

    fn aging(id: &RootKeyVersionId, age: Duration) -> Vec<String> {
        vec![
            "insert into kms_create_time_correction (table_name) values ('by hand')".to_owned(),
            format!(
                "update kms_root_key_version
                 set create_time = strftime('%Y-%m-%d %H:%M:%f', create_time, '-{} seconds')
                 where private_id = {}",
                age.as_secs_f64(),
                text(id.as_str())
            ),
            "delete from kms_create_time_correction".to_owned(),
        ]
    }
}
