//! A Postgres database of one test, with the schema and the application's scope table, dropped with it.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::pg::PgConnection;
use kms_core::{Repository, RootKeyVersionId};
use kms_store_diesel::PostgresRepository;

use crate::application::{Database, hex, text};

const URL: &str = "KMS_TEST_POSTGRES_URL";
const REQUIRE: &str = "KMS_TEST_REQUIRE";

pub(crate) struct PostgresDatabase {
    /// Makes a repository, by the URL.
    open: fn(String) -> Arc<dyn Repository>,
    /// Closed before the database is dropped.
    connection: Mutex<PgConnection>,
    scratch: Scratch,
    _template: Arc<Scratch>,
}

impl PostgresDatabase {
    /// A fresh one; `None` where there is no server.
    pub(crate) fn new() -> Option<Self> {
        let server = server()?;
        let template = template(&server);
        let scratch = Scratch::create(&server, &format!(" template {}", template.name));
        Some(Self {
            open: blocking,
            connection: Mutex::new(PgConnection::establish(&scratch.url()).unwrap()),
            scratch,
            _template: template,
        })
    }

    /// One without any table.
    pub(crate) fn bare() -> Option<Self> {
        let server = server()?;
        let scratch = Scratch::create(&server, "");
        Some(Self {
            open: blocking,
            connection: Mutex::new(PgConnection::establish(&scratch.url()).unwrap()),
            _template: Arc::new(Scratch::create(&server, "")),
            scratch,
        })
    }

    /// The same, with repositories that are made in this way.
    #[cfg(feature = "diesel-async")]
    pub(crate) fn opened_by(self, open: fn(String) -> Arc<dyn Repository>) -> Self {
        Self { open, ..self }
    }

    pub(crate) fn url(&self) -> String {
        self.scratch.url()
    }

    #[cfg(feature = "diesel-async")]
    pub(crate) fn succeeds(&self, sql: &str) -> bool {
        self.connection().batch_execute(sql).is_ok()
    }

    pub(crate) fn connection(&self) -> PgConnection {
        PgConnection::establish(&self.url()).unwrap()
    }
}

fn blocking(url: String) -> Arc<dyn Repository> {
    Arc::new(PostgresRepository::builder(url).build().unwrap())
}

/// The server's URL, with any database of it.
fn server() -> Option<String> {
    if let Ok(url) = std::env::var(URL) {
        return Some(url);
    }
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name.trim() == "postgres"),
        "{REQUIRE} names postgres, but {URL} is not set"
    );
    // Past the capture of the test's output.
    let _ = writeln!(std::io::stderr(), "skipped: postgres ({URL} is not set)");
    None
}

/// A database with the schema, copied for each test: that takes a fraction of the migrations' time. It
/// goes with the last test that uses it.
fn template(server: &str) -> Arc<Scratch> {
    static TEMPLATE: Mutex<Weak<Scratch>> = Mutex::new(Weak::new());
    let mut known = TEMPLATE.lock().unwrap();
    if let Some(template) = known.upgrade() {
        return template;
    }
    let scratch = Scratch::create(server, "");
    let mut connection = PgConnection::establish(&scratch.url()).unwrap();
    kms_migrations::postgres::run(&mut connection).unwrap();
    connection
        .batch_execute(
            "create table organization (id text primary key);
             alter table kms_root_key add constraint kms_root_key_organization_fkey
               foreign key (scope_id) references organization (id) on delete cascade;",
        )
        .unwrap();
    let template = Arc::new(scratch);
    *known = Arc::downgrade(&template);
    template
}

/// A database that is dropped with this.
struct Scratch {
    server: String,
    name: String,
}

impl Scratch {
    fn create(server: &str, clause: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "kms_store_{}_{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let scratch = Self {
            server: server.to_owned(),
            name,
        };
        scratch.on_server(&format!("create database {}{clause}", scratch.name));
        scratch
    }

    fn url(&self) -> String {
        let (address, parameters) = match self.server.split_once('?') {
            Some((address, parameters)) => (address, format!("?{parameters}")),
            None => (self.server.as_str(), String::new()),
        };
        let host_end = address.find("://").map_or(0, |position| position + 3);
        let authority = match address[host_end..].find('/') {
            Some(position) => &address[..host_end + position],
            None => address,
        };
        format!("{authority}/{}{parameters}", self.name)
    }

    fn on_server(&self, sql: &str) {
        PgConnection::establish(&self.server)
            .unwrap()
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would hide the first.
            let sql = format!("drop database if exists {} with (force)", self.name);
            if let Ok(mut connection) = PgConnection::establish(&self.server) {
                let _ = connection.batch_execute(&sql);
            }
        } else {
            self.on_server(&format!("drop database {} with (force)", self.name));
        }
    }
}

impl Database for PostgresDatabase {
    fn open(&self) -> Arc<dyn Repository> {
        (self.open)(self.url())
    }

    fn execute(&self, sql: &str) {
        let mut connection = self.connection.lock().unwrap();
        if let Err(error) = connection.batch_execute(sql) {
            panic!("{sql}: {error}");
        }
    }

    fn bytes(bytes: &[u8]) -> String {
        format!("'\\x{}'::bytea", hex(bytes))
    }

    fn deferred() -> &'static str {
        "deferrable initially deferred"
    }

    fn aging(id: &RootKeyVersionId, age: Duration) -> Vec<String> {
        vec![format!(
            "begin;
             alter table kms_root_key_version disable trigger user;
             update kms_root_key_version
                set create_time = create_time - interval '{} seconds' where private_id = {};
             alter table kms_root_key_version enable trigger user;
             commit",
            age.as_secs_f64(),
            text(id.as_str())
        )]
    }
}
