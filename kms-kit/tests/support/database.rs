//! One database per test, on SQLite or on the Postgres server of `KMS_TEST_POSTGRES_URL`.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::{Connection as _, *};
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::{BigInt, Text};
use kms_kit::core::{ChangeSet, Receipt, Result, ScopeId, Snapshot};
use kms_kit::{KeyConnection, PostgresRepository, Repository, SqliteRepository};

pub enum Database {
    Sqlite {
        path: String,
        /// `None` if another process made it, and removes it.
        folder: Option<tempfile::TempDir>,
    },
    Postgres {
        url: String,
        /// The server to drop it from, and its name; `None` if another process made it.
        own: Option<(String, String)>,
    },
}

/// A connection of the application's.
pub enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

const APPLICATION_ON_SQLITE: &str = "
    create table organization (id text not null primary key);
    alter table kms_root_key add column organization_id text
        generated always as (scope_id) virtual references organization (id) on delete cascade;
    create table oidc_client (
        id text not null primary key,
        organization_id text not null references organization (id) on delete cascade,
        key_version_id text not null references kms_data_key_version (private_id)
    );
";

const APPLICATION_ON_POSTGRES: &str = "
    create table organization (id text primary key);
    alter table kms_root_key
        add foreign key (scope_id) references organization (id) on delete cascade;
    create table oidc_client (
        id text primary key,
        organization_id text not null references organization (id) on delete cascade,
        key_version_id text not null references kms_data_key_version (private_id)
            on delete no action deferrable initially deferred
    );
";

impl Database {
    pub fn sqlite() -> Self {
        let database = Self::empty_sqlite();
        let Connection::Sqlite(mut connection) = database.connect() else {
            unreachable!()
        };
        kms_kit::migrations::sqlite::run(&mut connection).unwrap();
        connection.batch_execute(APPLICATION_ON_SQLITE).unwrap();
        database
    }

    pub fn empty_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.sqlite3");
        Self::Sqlite {
            path: path.to_str().unwrap().to_owned(),
            folder: Some(folder),
        }
    }

    /// One that another process made.
    pub fn borrowed_sqlite(path: String) -> Self {
        Self::Sqlite { path, folder: None }
    }

    /// One that another process made.
    pub fn borrowed_postgres(url: String) -> Self {
        Self::Postgres { url, own: None }
    }

    /// `None`, and a line that says so, if there is no server and none is required.
    pub fn postgres() -> Option<Self> {
        let database = Self::empty_postgres()?;
        let Connection::Postgres(mut connection) = database.connect() else {
            unreachable!()
        };
        kms_kit::migrations::postgres::run(&mut connection).unwrap();
        connection.batch_execute(APPLICATION_ON_POSTGRES).unwrap();
        Some(database)
    }

    pub fn empty_postgres() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = env::var("KMS_TEST_POSTGRES_URL") else {
            let required = env::var("KMS_TEST_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|name| name.trim() == "postgres"),
                "postgres is required, and KMS_TEST_POSTGRES_URL is not set"
            );
            eprintln!("skipped: postgres (KMS_TEST_POSTGRES_URL is not set)");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kms_kit_{}_{number}", std::process::id());
        let mut connection = PgConnection::establish(&server).unwrap();
        connection
            .batch_execute(&format!("create database {name}"))
            .unwrap();
        let url = with_database(&server, &name);
        Some(Self::Postgres {
            url,
            own: Some((server, name)),
        })
    }

    pub fn connect(&self) -> Connection {
        match self {
            Self::Sqlite { path, .. } => {
                let mut connection = SqliteConnection::establish(path).unwrap();
                connection
                    .batch_execute("pragma busy_timeout = 10000; pragma foreign_keys = on")
                    .unwrap();
                Connection::Sqlite(connection)
            }
            Self::Postgres { url, .. } => {
                Connection::Postgres(PgConnection::establish(url).unwrap())
            }
        }
    }

    pub fn repository(&self) -> Arc<dyn Repository> {
        match self {
            Self::Sqlite { path, .. } => Arc::new(
                SqliteRepository::builder(path)
                    .pool_size(4)
                    .build()
                    .unwrap(),
            ),
            Self::Postgres { url, .. } => Arc::new(
                PostgresRepository::builder(url)
                    .pool_size(4)
                    .build()
                    .unwrap(),
            ),
        }
    }

    /// A pool as an application has one, which the repository shares.
    pub fn shared_pool(&self, size: usize) -> SharedPool {
        self.shared_pool_waiting(size, Duration::from_secs(10))
    }

    pub fn shared_pool_waiting(&self, size: usize, timeout: Duration) -> SharedPool {
        let size = u32::try_from(size).unwrap();
        match self {
            Self::Sqlite { path, .. } => SharedPool::Sqlite(
                Pool::builder()
                    .max_size(size)
                    .connection_timeout(timeout)
                    .build(ConnectionManager::new(path))
                    .unwrap(),
            ),
            Self::Postgres { url, .. } => SharedPool::Postgres(
                Pool::builder()
                    .max_size(size)
                    .connection_timeout(timeout)
                    .build(ConnectionManager::new(url))
                    .unwrap(),
            ),
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    pub fn execute(&self, sql: &str) {
        self.connect().execute(sql);
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.connect().count(sql)
    }

    pub fn texts(&self, sql: &str) -> Vec<String> {
        self.connect().texts(sql)
    }

    /// Everything that our tables hold, in an order.
    pub fn dump(&self) -> Vec<String> {
        let (hex, text) = if self.is_postgres() {
            ("encode(key, 'hex')", "::text")
        } else {
            ("hex(key)", "")
        };
        [
            "select private_id || scope_id as t from kms_root_key order by 1".to_owned(),
            format!("select private_id || root_key_id || version{text} || {hex} as t from kms_root_key_version order by 1"),
            "select private_id || root_key_id || purpose as t from kms_data_key order by 1".to_owned(),
            format!(
                "select private_id || data_key_id || root_key_version_id || version{text} || {hex} as t
                 from kms_data_key_version order by 1"
            ),
            format!("select version{text} || '' as t from kms_collection_version"),
        ]
        .iter()
        .flat_map(|query| self.texts(query))
        .collect()
    }
}

#[derive(Clone)]
pub enum SharedPool {
    Sqlite(Pool<ConnectionManager<SqliteConnection>>),
    Postgres(Pool<ConnectionManager<PgConnection>>),
}

impl SharedPool {
    pub fn repository(&self) -> Arc<dyn Repository> {
        match self {
            Self::Sqlite(pool) => Arc::new(SqliteRepository::from_pool(pool.clone())),
            Self::Postgres(pool) => Arc::new(PostgresRepository::from_pool(pool.clone())),
        }
    }

    /// A connection taken out of the pool, until it is dropped.
    pub fn hold(&self) -> Box<dyn std::any::Any> {
        match self {
            Self::Sqlite(pool) => Box::new(pool.get().unwrap()),
            Self::Postgres(pool) => Box::new(pool.get().unwrap()),
        }
    }

    /// A deferred transaction on a connection of the pool.
    pub fn read_transaction<T>(&self, work: impl FnOnce(&mut dyn KeyConnection) -> T) -> T {
        match self {
            Self::Sqlite(pool) => pool
                .get()
                .unwrap()
                .transaction::<_, diesel::result::Error, _>(|connection| {
                    Ok(work(&mut **connection))
                }),
            Self::Postgres(pool) => pool
                .get()
                .unwrap()
                .transaction::<_, diesel::result::Error, _>(|connection| {
                    Ok(work(&mut **connection))
                }),
        }
        .unwrap()
    }
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    t: String,
}

impl Connection {
    pub fn execute(&mut self, sql: &str) {
        self.try_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub fn try_execute(&mut self, sql: &str) -> QueryResult<()> {
        match self {
            Self::Sqlite(connection) => connection.batch_execute(sql),
            Self::Postgres(connection) => connection.batch_execute(sql),
        }
    }

    /// A number in a column named `n`.
    pub fn count(&mut self, sql: &str) -> i64 {
        let query = diesel::sql_query(sql);
        let found: Counted = match self {
            Self::Sqlite(connection) => query.get_result(connection),
            Self::Postgres(connection) => query.get_result(connection),
        }
        .unwrap();
        found.n
    }

    /// Texts in a column named `t`.
    pub fn texts(&mut self, sql: &str) -> Vec<String> {
        let query = diesel::sql_query(sql);
        let found: Vec<Named> = match self {
            Self::Sqlite(connection) => query.get_results(connection),
            Self::Postgres(connection) => query.get_results(connection),
        }
        .unwrap();
        found.into_iter().map(|row| row.t).collect()
    }

    pub fn load_keys(&mut self, scopes: &[ScopeId]) -> Result<Snapshot> {
        match self {
            Self::Sqlite(connection) => connection.load_keys(scopes),
            Self::Postgres(connection) => connection.load_keys(scopes),
        }
    }

    pub fn apply_changes(&mut self, changes: &[&ChangeSet]) -> Result<Vec<Receipt>> {
        match self {
            Self::Sqlite(connection) => connection.apply_changes(changes),
            Self::Postgres(connection) => connection.apply_changes(changes),
        }
    }

    /// A transaction that ends as the closure says.
    pub fn transaction<T>(&mut self, commit: bool, work: impl FnOnce(&mut Self) -> T) -> T {
        use diesel::connection::{AnsiTransactionManager, TransactionManager as _};
        match self {
            Self::Sqlite(connection) => {
                AnsiTransactionManager::begin_transaction_sql(connection, "begin immediate")
            }
            Self::Postgres(connection) => AnsiTransactionManager::begin_transaction(connection),
        }
        .unwrap();
        let result = work(self);
        match (self, commit) {
            (Self::Sqlite(connection), true) => {
                AnsiTransactionManager::commit_transaction(connection)
            }
            (Self::Postgres(connection), true) => {
                AnsiTransactionManager::commit_transaction(connection)
            }
            (Self::Sqlite(connection), false) => {
                AnsiTransactionManager::rollback_transaction(connection)
            }
            (Self::Postgres(connection), false) => {
                AnsiTransactionManager::rollback_transaction(connection)
            }
        }
        .unwrap();
        result
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres {
            own: Some((server, name)),
            ..
        } = self
            && let Ok(mut connection) = PgConnection::establish(server)
        {
            // Best effort: pools may be closing still.
            let _ = connection.batch_execute(&format!("drop database {name} with (force)"));
        }
    }
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> String {
    let (head, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = head.split_once("://").unwrap_or(("postgres", head));
    let host = rest.split('/').next().unwrap_or_default();
    let separator = if query.is_empty() { "" } else { "?" };
    format!("{scheme}://{host}/{name}{separator}{query}")
}
