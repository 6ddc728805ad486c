//! Logins that the server refuses, and passwords that are had for each new connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use kms_core::{Error, ErrorKind, Repository as _, SecretBytes};
use kms_store_diesel::PostgresRepository;

use super::database::PostgresDatabase;
use super::on_postgres;

/// Longer than any login takes. A call that is refused does not wait for it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A role of one test, gone with it.
struct Role<'a> {
    database: &'a PostgresDatabase,
    name: String,
}

impl<'a> Role<'a> {
    fn new(database: &'a PostgresDatabase, attributes: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kms_login_{}_{number}", std::process::id());
        let role = Self { database, name };
        role.execute(&format!("create role {} {attributes}", role.name));
        role
    }

    fn execute(&self, sql: &str) {
        self.database.connection().batch_execute(sql).unwrap();
    }

    /// The database's address, for this role, with nothing else that says who it is.
    fn address(&self) -> String {
        let url = self.database.url();
        let (_, rest) = url.split_once("://").unwrap();
        let server = rest.rsplit('@').next().unwrap();
        format!("postgres://{}@{server}", self.name)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let name = &self.name;
        self.execute(&format!("drop owned by {name}; drop role {name}"));
    }
}

fn with_password(address: &str, password: &str) -> String {
    address.replacen('@', &format!(":{password}@"), 1)
}

/// What a call fails with, at once.
async fn failure(address: &str) -> Error {
    let builder = PostgresRepository::builder(address).connection_timeout(TIMEOUT);
    let repository = builder.build().unwrap();
    let started = Instant::now();
    let error = repository.validate_schema().await.unwrap_err();
    assert!(started.elapsed() < TIMEOUT / 4, "{error}");
    error
}

#[test]
fn a_refused_login_is_told_at_once_and_as_one_that_no_later_try_mends() {
    on_postgres(async |application| {
        let database = &application.database;
        let role = Role::new(database, "login password 'right'");
        let locked = Role::new(database, "nologin password 'right'");
        let right = with_password(&role.address(), "right");
        let missing = right.replacen("/kms_store_", "/kms_no_such_", 1);
        for (case, address, code) in [
            (
                "password",
                with_password(&role.address(), "wrong"),
                Some("28P01"),
            ),
            (
                "role",
                with_password(&role.address(), "right").replacen("kms_login", "kms_no", 1),
                Some("28P01"),
            ),
            (
                "no login",
                with_password(&locked.address(), "right"),
                Some("28000"),
            ),
            ("database", missing, Some("3D000")),
            ("no password", role.address(), None),
        ] {
            let error = failure(&address).await;
            assert_eq!(error.kind(), ErrorKind::DatabaseLogin, "{case}: {error}");
            assert!(!error.is_retryable());
            assert_eq!(error.context("sqlstate"), code, "{case}: {error}");
            assert!(!format!("{error} {error:?}").contains("right@"), "{error}");
        }
        role.execute("do $$ begin execute format('revoke connect on database %I from public', current_database()); end $$");
        let error = failure(&right).await;
        assert_eq!(error.kind(), ErrorKind::DatabaseLogin, "{error}");
        assert_eq!(error.context("sqlstate"), Some("42501"));
    });
}

#[test]
fn a_server_without_a_free_connection_is_no_refused_login() {
    on_postgres(async |application| {
        let role = Role::new(
            &application.database,
            "login password 'right' connection limit 0",
        );
        let error = failure(&with_password(&role.address(), "right")).await;
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        assert!(error.is_retryable());
        assert_eq!(error.context("sqlstate"), Some("53300"));
    });
}

#[test]
fn each_new_connection_has_the_password_of_that_moment() {
    on_postgres(async |application| {
        let role = Role::new(&application.database, "login superuser password 'none'");
        let calls = Arc::new(AtomicUsize::new(0));
        let number = Arc::clone(&calls);
        // What an address would have to escape.
        let password = |number: usize| format!("t?k'n\\ &{number}");
        let repository = PostgresRepository::builder(role.address())
            .pool_size(1)
            .password_with(move || {
                let number = number.fetch_add(1, Ordering::SeqCst) + 1;
                Ok::<_, io::Error>(SecretBytes::new(password(number).into_bytes()))
            })
            .build()
            .unwrap();
        for connection in 1..=2 {
            let quoted = password(connection).replace('\'', "''");
            role.execute(&format!("alter role {} password '{quoted}'", role.name));
            for _ in 0..3 {
                repository.validate_schema().await.unwrap();
            }
            assert_eq!(calls.load(Ordering::SeqCst), connection);
            role.execute(&format!(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = '{}'",
                role.name
            ));
        }
        role.execute(&format!("alter role {} password 'another'", role.name));
        let error = repository.validate_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseLogin, "{error}");
        assert!(!format!("{error} {error:?}").contains(&password(3)));
    });
}

#[test]
fn a_password_that_can_not_be_had_is_an_error_with_its_cause() {
    kms_testkit::repository::run(async {
        let repository = PostgresRepository::builder("postgres://app@127.0.0.1:1/app")
            .password_with(|| Err::<SecretBytes, _>("the token service is away"))
            .build()
            .unwrap();
        let error = repository.validate_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        assert!(error.to_string().contains("no password"), "{error}");
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "the token service is away");

        let builder = PostgresRepository::builder("postgres://app:hunter2@127.0.0.1:1/app");
        let error = builder
            .password_with(|| Ok::<_, io::Error>(SecretBytes::default()))
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    });
}
