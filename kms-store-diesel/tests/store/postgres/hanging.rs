//! A server that does not answer, and does not close its connections either: every call ends at its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::Bool;
use kms_core::{ErrorKind, Repository, Resolution};
use kms_store_diesel::{PostgresBuilder, PostgresRepository};
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::database::PostgresDatabase;
use super::line::Line;
use super::on_postgres;
use crate::keys::{apply, rows, with_keys};
use crate::statements::{Statement, Watched};

const LIMIT: Duration = Duration::from_millis(500);

/// Long after the limit, and long before anything else ends a call.
const IN_TIME: Duration = Duration::from_secs(3);

fn line(database: &PostgresDatabase) -> (Line, String) {
    let url = database.url();
    let line = Line::to(&url);
    let url = line.url(&url);
    let separator = if url.contains('?') { '&' } else { '?' };
    (line, format!("{url}{separator}application_name=stalled"))
}

fn builder(url: &str, size: u32) -> PostgresBuilder {
    PostgresRepository::builder(url)
        .pool_size(size)
        .call_timeout(LIMIT)
}

/// Waits until the server has no session any more that came over the line.
fn until_gone(database: &PostgresDatabase) {
    let there = diesel::dsl::sql::<Bool>(
        "exists (select from pg_stat_activity where datname = current_database() \
         and application_name = 'stalled')",
    );
    let mut connection = database.connection();
    let started = Instant::now();
    while diesel::select(there.clone())
        .get_result::<bool>(&mut connection)
        .unwrap()
    {
        assert!(started.elapsed() < Duration::from_secs(20), "it goes on");
        std::thread::yield_now();
    }
}

#[test]
fn a_read_without_an_answer_ends_at_its_deadline_and_the_next_call_has_a_new_connection() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let (line, url) = line(&application.database);
        let repository = builder(&url, 1).build().unwrap();
        rows(&repository, &keys.scope).await.unwrap();
        line.hang();
        let started = Instant::now();
        let error = repository
            .load(std::slice::from_ref(&keys.scope))
            .await
            .unwrap_err();
        let elapsed = started.elapsed();
        assert!(elapsed >= LIMIT && elapsed < IN_TIME, "{elapsed:?}");
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        assert!(
            error.to_string().contains("did not answer within 500ms"),
            "{error}"
        );
        line.serve_new_connections();
        rows(&repository, &keys.scope).await.unwrap();
    });
}

#[test]
fn a_call_that_hangs_does_not_keep_a_repository_from_being_dropped() {
    on_postgres(async |application| {
        let (line, url) = line(&application.database);
        let repository = builder(&url, 1).build().unwrap();
        repository.validate_schema().await.unwrap();
        line.hang();
        repository.validate_schema().await.unwrap_err();
        let started = Instant::now();
        drop(repository);
        assert!(started.elapsed() < IN_TIME);
    });
}

#[test]
fn a_change_that_comes_to_its_deadline_before_its_commit_is_not_committed_later() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let (line, url) = line(&application.database);
        let repository = builder(&url, 1).build().unwrap();
        repository.collection_version(None).await.unwrap();
        line.hang();
        let started = Instant::now();
        let error = apply(&repository, change_sets::rotate(&keys))
            .await
            .unwrap_err();
        assert!(started.elapsed() < IN_TIME);
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        line.resume();
        // The thread of the call closes its connection when it has come to an end.
        until_gone(&application.database);
        let after = rows(&*application.repository(), &keys.scope).await.unwrap();
        assert!(after.same_keys(&keys));
    });
}

#[test]
fn a_commit_without_an_answer_in_time_is_an_outcome_unknown_that_can_be_resolved() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let (line, url) = line(&application.database);
        let line = Arc::new(line);
        let stopped = Arc::clone(&line);
        let pool = Pool::builder()
            .max_size(1)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_customizer(Box::new(Watched::new(move |statement| {
                if statement == Statement::Commit {
                    stopped.hang();
                }
            })))
            .build_unchecked(ConnectionManager::<PgConnection>::new(url));
        let repository = PostgresRepository::from_pool(pool).with_call_timeout(LIMIT);
        let change = change_sets::rotate(&keys);
        let started = Instant::now();
        let error = apply(&repository, change.clone()).await.unwrap_err();
        assert!(started.elapsed() < IN_TIME);
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        line.resume();
        let resolution = application.repository().resolve(Arc::new([change])).await;
        assert_eq!(resolution.unwrap(), [Resolution::Applied]);
    });
}

#[test]
fn a_call_on_a_pool_of_the_application_ends_at_its_deadline_too() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let (line, url) = line(&application.database);
        let pool = Pool::builder()
            .max_size(2)
            .test_on_check_out(false)
            .build(ConnectionManager::<PgConnection>::new(url))
            .unwrap();
        let repository = PostgresRepository::from_pool(pool).with_call_timeout(LIMIT);
        rows(&repository, &keys.scope).await.unwrap();
        line.hang();
        let started = Instant::now();
        let error = repository
            .load(std::slice::from_ref(&keys.scope))
            .await
            .unwrap_err();
        assert!(started.elapsed() < IN_TIME);
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        line.resume();
        rows(&repository, &keys.scope).await.unwrap();
    });
}

#[test]
fn a_call_that_hangs_without_its_caller_leaves_its_place_at_its_deadline() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let (line, url) = line(&application.database);
        let repository = builder(&url, 1).build().unwrap();
        rows(&repository, &keys.scope).await.unwrap();
        line.hang();
        let call = repository.load(std::slice::from_ref(&keys.scope));
        tokio::time::timeout(LIMIT / 5, call).await.unwrap_err();
        line.serve_new_connections();
        let started = Instant::now();
        // It may still wait for the place, and be told that the pool is busy.
        while let Err(error) = rows_of(&repository, &keys.scope).await {
            assert!(started.elapsed() < IN_TIME, "{error}");
        }
    });
}

async fn rows_of(
    repository: &PostgresRepository,
    scope: &kms_core::ScopeId,
) -> kms_core::Result<kms_core::Snapshot> {
    repository.load(std::slice::from_ref(scope)).await
}

#[test]
fn when_as_many_calls_hang_as_there_are_connections_further_ones_fail_at_once() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let (line, url) = line(&application.database);
        let repository = builder(&url, 2).build().unwrap();
        rows(&repository, &keys.scope).await.unwrap();
        line.hang();
        let (one, other) = tokio::join!(
            rows_of(&repository, &keys.scope),
            rows_of(&repository, &keys.scope)
        );
        one.and(other).unwrap_err();
        let started = Instant::now();
        // One of them may see whether the server answers again.
        let mut at_once = 0;
        for _ in 0..20 {
            let error = rows_of(&repository, &keys.scope).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
            at_once += usize::from(error.to_string().contains("calls got no answer"));
        }
        assert!(at_once >= 18, "{at_once}");
        assert!(started.elapsed() < IN_TIME);
        line.serve_new_connections();
        let started = Instant::now();
        while let Err(error) = rows_of(&repository, &keys.scope).await {
            assert!(started.elapsed() < IN_TIME, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // From now on as ever, although two threads still hang.
        for _ in 0..20 {
            rows_of(&repository, &keys.scope).await.unwrap();
        }
    });
}

#[test]
fn the_first_call_after_an_outage_succeeds_within_a_second() {
    on_postgres(async |application| {
        let outage = std::env::var("KMS_TEST_OUTAGE_SECONDS")
            .map_or(Duration::from_secs(3), |seconds| {
                Duration::from_secs(seconds.parse().unwrap())
            });
        let keys = with_keys(&application, "o_1").await;
        let (mut line, url) = line(&application.database);
        let repository = PostgresRepository::builder(&url)
            .pool_size(2)
            .build()
            .unwrap();
        rows(&repository, &keys.scope).await.unwrap();
        line.cut();
        // Calls go on all the while: what is retried in the background retries less and less often.
        let started = Instant::now();
        while started.elapsed() < outage {
            let called = Instant::now();
            let error = rows_of(&repository, &keys.scope).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
            assert!(called.elapsed() < Duration::from_secs(1), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        line.mend();
        let back = Instant::now();
        while let Err(error) = rows_of(&repository, &keys.scope).await {
            assert!(back.elapsed() < Duration::from_secs(1), "{error}");
        }
        println!("{:?} after an outage of {outage:?}", back.elapsed());
        assert!(back.elapsed() < Duration::from_secs(1));
    });
}
