//! One fresh database per test, of either kind, behind the same few calls.

// Each test binary uses its own part of this.
#![allow(dead_code)]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};
use diesel::sqlite::SqliteConnection;
use kms_migrations::{Adoption, Catalogue, MigrationName, Report, Result, Status};

/// Makes a test of each function for both databases: `sqlite::name` and
/// `postgres::name`.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[test] fn $name() {
                super::$name(&$crate::database::TestDatabase::sqlite());
            })*
        }
        mod postgres {
            $(#[test] fn $name() {
                if let Some(database) = $crate::database::TestDatabase::postgres() {
                    super::$name(&database);
                }
            })*
        }
    };
}

/// A database that is gone when the test ends.
pub(crate) struct TestDatabase {
    kind: Kind,
}

enum Kind {
    Sqlite { folder: tempfile::TempDir },
    Postgres { server: String, name: String },
}

impl TestDatabase {
    /// An empty file.
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            kind: Kind::Sqlite { folder },
        }
    }

    /// A file with this content.
    pub(crate) fn sqlite_from(content: &[u8]) -> Self {
        let database = Self::sqlite();
        std::fs::write(database.url(), content).unwrap();
        database
    }

    /// An empty database on the server that `KMS_TEST_POSTGRES_URL` names;
    /// without it the test says loudly that it is skipped, and fails where
    /// `KMS_TEST_REQUIRE` names `postgres`.
    pub(crate) fn postgres() -> Option<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var("KMS_TEST_POSTGRES_URL") else {
            // Past the capture of the test harness, which hides what a passing
            // test prints.
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                let line = b"skipped: postgres (KMS_TEST_POSTGRES_URL is not set)\n";
                std::io::stderr().write_all(line).unwrap();
            });
            let required = std::env::var("KMS_TEST_REQUIRE").unwrap_or_default();
            assert!(
                !required
                    .split(',')
                    .any(|service| service.trim() == "postgres"),
                "KMS_TEST_REQUIRE names postgres, but KMS_TEST_POSTGRES_URL is not set"
            );
            return None;
        };
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kms_migrations_{}_{number}", std::process::id());
        PgConnection::establish(&server)
            .unwrap()
            .batch_execute(&format!("create database {name}"))
            .unwrap();
        Some(Self {
            kind: Kind::Postgres { server, name },
        })
    }

    /// What to connect to.
    pub(crate) fn url(&self) -> String {
        match &self.kind {
            Kind::Sqlite { folder } => folder.path().join("kms.db").to_str().unwrap().to_owned(),
            Kind::Postgres { server, name } => with_database(server, name),
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.kind, Kind::Postgres { .. })
    }

    pub(crate) fn connect(&self) -> Connection {
        match self.kind {
            Kind::Sqlite { .. } => {
                let mut conn = SqliteConnection::establish(&self.url()).unwrap();
                conn.batch_execute("pragma foreign_keys = on; pragma busy_timeout = 20000")
                    .unwrap();
                Connection::Sqlite(conn)
            }
            Kind::Postgres { .. } => {
                let mut conn = PgConnection::establish(&self.url()).unwrap();
                conn.batch_execute("set client_min_messages = warning")
                    .unwrap();
                Connection::Postgres(conn)
            }
        }
    }

    /// A connection to the migrated database.
    pub(crate) fn migrated(&self) -> Connection {
        let mut conn = self.connect();
        conn.migrate().unwrap();
        conn
    }

    /// A role of this test, named after its database and this ending. It goes
    /// with the database.
    pub(crate) fn role(&self, conn: &mut Connection, ending: &str) -> String {
        let Kind::Postgres { name, .. } = &self.kind else {
            panic!("SQLite has no roles");
        };
        let role = format!("{name}{ending}");
        conn.execute(&format!("create role {role}"));
        role
    }

    pub(crate) fn postgres_connection(&self) -> PgConnection {
        match self.connect() {
            Connection::Postgres(conn) => conn,
            Connection::Sqlite(_) => panic!("a Postgres test on SQLite"),
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Kind::Postgres { server, name } = &self.kind
            && let Ok(mut conn) = PgConnection::establish(server)
        {
            let _ = conn.batch_execute(&format!("drop database {name} with (force)"));
            // Roles are the server's. A test that needs one names it as its
            // database is named.
            for ending in ["", "_reader", "_writer", "_operator", "_migrator"] {
                let _ = conn.batch_execute(&format!("drop role if exists {name}{ending}"));
            }
        }
    }
}

pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connection {
    pub(crate) fn migrate(&mut self) -> Result<Vec<MigrationName>> {
        match self {
            Self::Sqlite(conn) => kms_migrations::sqlite::run(conn),
            Self::Postgres(conn) => kms_migrations::postgres::run(conn),
        }
    }

    pub(crate) fn adopt(&mut self) -> Result<Adoption> {
        match self {
            Self::Sqlite(conn) => kms_migrations::sqlite::adopt(conn),
            Self::Postgres(conn) => kms_migrations::postgres::adopt(conn),
        }
    }

    pub(crate) fn verify(&mut self) -> Result<Report> {
        match self {
            Self::Sqlite(conn) => kms_migrations::sqlite::verify(conn),
            Self::Postgres(conn) => kms_migrations::postgres::verify(conn),
        }
    }

    pub(crate) fn status(&mut self) -> Result<Status> {
        match self {
            Self::Sqlite(conn) => kms_migrations::sqlite::status(conn),
            Self::Postgres(conn) => kms_migrations::postgres::status(conn),
        }
    }

    pub(crate) fn catalogue(&mut self) -> Result<Catalogue> {
        match self {
            Self::Sqlite(conn) => kms_migrations::sqlite::catalogue(conn),
            Self::Postgres(conn) => kms_migrations::postgres::catalogue(conn),
        }
    }

    pub(crate) fn try_execute(&mut self, statements: &str) -> QueryResult<()> {
        match self {
            Self::Sqlite(conn) => conn.batch_execute(statements),
            Self::Postgres(conn) => conn.batch_execute(statements),
        }
    }

    pub(crate) fn execute(&mut self, statements: &str) {
        if let Err(error) = self.try_execute(statements) {
            panic!("{statements}: {error}");
        }
    }

    /// The message with which the statements fail.
    pub(crate) fn refusal(&mut self, statements: &str) -> String {
        match self.try_execute(statements) {
            Ok(()) => panic!("not refused: {statements}"),
            Err(error) => error.to_string(),
        }
    }

    /// The values of one expression over a table: `values("version", "t")`.
    pub(crate) fn values(&mut self, expression: &str, from: &str) -> Vec<Option<String>> {
        let query = format!("select cast({expression} as text) as value from {from}");
        let rows = match self {
            Self::Sqlite(conn) => diesel::sql_query(query).load::<Value>(conn),
            Self::Postgres(conn) => diesel::sql_query(query).load::<Value>(conn),
        };
        rows.unwrap().into_iter().map(|row| row.value).collect()
    }

    /// The one value of an expression over a table, which is not null.
    pub(crate) fn value(&mut self, expression: &str, from: &str) -> String {
        let mut values = self.values(expression, from);
        assert_eq!(values.len(), 1, "{expression} from {from}");
        values.pop().unwrap().unwrap()
    }

    pub(crate) fn count(&mut self, from: &str) -> i64 {
        self.value("count(*)", from).parse().unwrap()
    }

    pub(crate) fn collection_version(&mut self) -> i64 {
        self.value("version", "kms_collection_version")
            .parse()
            .unwrap()
    }

    /// A scope with a root key of two versions and a data key of two versions,
    /// wrapped by the first and the second; ids end in the scope's name.
    pub(crate) fn create_scope(&mut self, scope: &str) {
        self.execute(&format!(
            "insert into kms_root_key (private_id, scope_id) values ('krk_{scope}', '{scope}');
             insert into kms_root_key_version (private_id, root_key_id, key)
               values ('krkv_1_{scope}', 'krk_{scope}', {blob});
             insert into kms_root_key_version (private_id, root_key_id, key)
               values ('krkv_2_{scope}', 'krk_{scope}', {blob});
             insert into kms_data_key (private_id, root_key_id, purpose)
               values ('kdk_{scope}', 'krk_{scope}', 'database');
             insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
               values ('kdkv_1_{scope}', 'kdk_{scope}', 'krkv_1_{scope}', {blob});
             insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
               values ('kdkv_2_{scope}', 'kdk_{scope}', 'krkv_2_{scope}', {blob});",
            blob = self.blob()
        ));
    }

    /// Some bytes as a literal.
    pub(crate) fn blob(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "x'0102'",
            Self::Postgres(_) => r"'\x0102'::bytea",
        }
    }

    pub(crate) fn key_rows(&mut self) -> [i64; 4] {
        [
            "kms_root_key",
            "kms_root_key_version",
            "kms_data_key",
            "kms_data_key_version",
        ]
        .map(|table| self.count(table))
    }
}

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

/// The server's URL with another database in it.
fn with_database(server: &str, name: &str) -> String {
    let (address, parameters) = match server.split_once('?') {
        Some((address, parameters)) => (address, format!("?{parameters}")),
        None => (server, String::new()),
    };
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..]
        .find('/')
        .map_or(address.len(), |at| authority + at);
    format!("{}/{name}{parameters}", &address[..end])
}
