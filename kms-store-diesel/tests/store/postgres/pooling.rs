//! Servers that are not there, pools without a free connection: every wait is bounded.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use diesel::r2d2::{ConnectionManager, Pool};
use kms_core::{ErrorKind, Repository};
use kms_store_diesel::PostgresRepository;

use super::on_postgres;
use crate::keys::with_keys;

const SHORT: Duration = Duration::from_millis(400);

/// A port of the loopback interface where nothing listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_server_that_is_not_there_is_unreachable_in_bounded_time_and_no_password_is_shown() {
    kms_testkit::repository::run(async {
        let address = format!("postgres://app:hunter2@127.0.0.1:{}/app", closed_port());
        let builder = PostgresRepository::builder(address).connection_timeout(SHORT);
        let built = format!("{builder:?}");
        let repository = builder.build().unwrap();
        let started = Instant::now();
        let error = repository.validate_schema().await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
        let shown = format!("{built} {repository:?} {error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    });
}

#[test]
fn a_refused_connection_fails_the_call_at_once() {
    kms_testkit::repository::run(async {
        let address = format!("postgres://app@127.0.0.1:{}/app", closed_port());
        let repository = PostgresRepository::builder(address).build().unwrap();
        let started = Instant::now();
        let error = repository.validate_schema().await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(1), "{error}");
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    });
}

/// OpenSSL's cleaning up at the process's exit and a thread that connects don't go together.
#[test]
fn nothing_opens_a_connection_any_more_when_the_repository_is_gone() {
    const LIMIT: Duration = Duration::from_secs(3);
    let (repository, connecting) = given_up(LIMIT);
    let (gone, until_gone) = mpsc::channel();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            drop(repository);
            gone.send(()).unwrap();
        });
        let early = until_gone.recv_timeout(LIMIT / 10);
        assert_eq!(early, Err(RecvTimeoutError::Timeout), "it did not wait");
        drop(connecting);
        until_gone.recv().unwrap();
    });
}

#[test]
fn a_server_that_never_answers_does_not_keep_a_repository_from_being_dropped() {
    let (repository, _connecting) = given_up(SHORT);
    let started = Instant::now();
    drop(repository);
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// A repository whose caller has given up, and the connection that a thread of its pool is still opening: the
/// server says nothing.
fn given_up(limit: Duration) -> (PostgresRepository, TcpStream) {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = silent.local_addr().unwrap();
    let repository =
        PostgresRepository::builder(format!("postgres://app@{server}/app?connect_timeout=60"))
            .connection_timeout(limit)
            .build()
            .unwrap();
    kms_testkit::repository::run(async {
        let error = repository.validate_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
    });
    (repository, silent.accept().unwrap().0)
}

#[test]
fn a_server_that_refuses_the_database_says_so_without_the_password() {
    on_postgres(async |application| {
        // The server's own password, where it asks for one, so that it comes to look for the database.
        let mut url = application.database.url();
        let password = match password_of(&url) {
            Some(password) => password,
            None => {
                url.push_str(if url.contains('?') { "&" } else { "?" });
                url.push_str("password=hunter2");
                "hunter2".to_owned()
            }
        };
        let url = url.replace("kms_store_", &format!("no_such_{password}_"));
        let repository = PostgresRepository::builder(url)
            .connection_timeout(SHORT)
            .build()
            .unwrap();
        let error = repository.validate_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseLogin, "{error}");
        assert!(
            !format!("{error} {error:?}").contains(&password),
            "the password is shown"
        );
        assert!(error.to_string().contains("no_such_***"), "{error}");
    });
}

fn password_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (user_info, _) = rest.rsplit_once('@')?;
    let (_, password) = user_info.split_once(':')?;
    Some(password.to_owned())
}

#[test]
fn an_exhausted_pool_is_busy_after_a_bounded_wait() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let pool = Pool::builder()
            .max_size(2)
            .connection_timeout(SHORT)
            .build(ConnectionManager::<PgConnection>::new(
                application.database.url(),
            ))
            .unwrap();
        let held = (pool.get().unwrap(), pool.get().unwrap());
        let repository = Arc::new(PostgresRepository::from_pool(pool));
        let started = Instant::now();
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (repository, scope) = (Arc::clone(&repository), keys.scope.clone());
                tokio::spawn(async move { repository.load(&[scope]).await })
            })
            .collect();
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
        }
        assert!(started.elapsed() < Duration::from_secs(5));
        drop(held);
        repository.load(&[keys.scope]).await.unwrap();
    });
}

#[test]
fn calls_that_wait_take_no_threads() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let url = application.database.url();
        let pool = Pool::builder()
            .max_size(2)
            .connection_timeout(Duration::from_secs(20))
            .build(ConnectionManager::<PgConnection>::new(url))
            .unwrap();
        let held = (pool.get().unwrap(), pool.get().unwrap());
        let repository = Arc::new(PostgresRepository::from_pool(pool));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(3)
            .enable_all()
            .build()
            .unwrap();
        let calls: Vec<_> = (0..1000)
            .map(|_| {
                let (repository, scope) = (Arc::clone(&repository), keys.scope.clone());
                runtime.spawn(async move { repository.load(&[scope]).await })
            })
            .collect();
        // Two threads wait for the pool at most, so the third is free for the application.
        let free = runtime.spawn(async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            tokio::task::spawn_blocking(|| ()).await
        });
        tokio::time::timeout(Duration::from_secs(10), free)
            .await
            .expect("a thread is free")
            .unwrap()
            .unwrap();
        drop(held);
        for call in calls {
            call.await.unwrap().unwrap();
        }
        runtime.shutdown_background();
    });
}

#[test]
fn settings_that_can_not_work_are_refused_before_anything_is_tried() {
    for builder in [
        PostgresRepository::builder("hunter2"),
        PostgresRepository::builder("postgres://h/d").pool_size(0),
        PostgresRepository::builder("postgres://h/d").lock_timeout(Duration::ZERO),
        PostgresRepository::builder("postgres://h/d").call_timeout(Duration::ZERO),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(!error.to_string().contains("hunter2"));
    }
}
