//! Calls on a pool of diesel-async: deadlines, servers that close connections, callers that go away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use kms_core::{ErrorKind, Repository, Resolution};
use kms_store_diesel::AsyncPostgresRepository;
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::{on_postgres, pool};
use crate::application::Database as _;
use crate::keys::{apply, rows, with_keys};
use crate::postgres::line::Line;
use crate::statements::{Statement, Watched};

const LIMIT: Duration = Duration::from_millis(500);

/// A pool that does not ask whether a connection is alive, and tells of its statements.
fn watched(
    url: String,
    size: usize,
    hook: impl Fn(Statement) + Send + Sync + 'static,
) -> Pool<AsyncPgConnection> {
    let watched = Arc::new(Watched::new(hook));
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |url| {
        let (watched, url) = (Arc::clone(&watched), url.to_owned());
        Box::pin(async move {
            let mut connection = AsyncPgConnection::establish(&url).await?;
            connection.set_instrumentation(watched.instrumentation());
            Ok(connection)
        })
    });
    let manager = AsyncDieselConnectionManager::new_with_config(url, config);
    Pool::builder(manager).max_size(size).build().unwrap()
}

#[test]
fn a_read_without_an_answer_ends_at_its_deadline_and_the_next_call_has_a_new_connection() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let url = application.database.url();
        let line = Line::to(&url);
        let pool = watched(line.url(&url), 1, |_| {});
        let repository = AsyncPostgresRepository::from_pool(pool).with_call_timeout(LIMIT);
        rows(&repository, &keys.scope).await.unwrap();
        line.hang();
        let started = Instant::now();
        let error = repository
            .load(std::slice::from_ref(&keys.scope))
            .await
            .unwrap_err();
        assert!(started.elapsed() >= LIMIT);
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        assert!(
            error.to_string().contains("did not answer within 500ms"),
            "{error}"
        );
        line.serve_new_connections();
        let patient = repository.with_call_timeout(Duration::from_secs(20));
        rows(&patient, &keys.scope).await.unwrap();
    });
}

#[test]
fn a_change_that_comes_to_its_deadline_before_its_commit_is_not_committed_later() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application
            .database
            .execute("begin; select from kms_collection_version for update");
        let pool = watched(application.database.url(), 1, |_| {});
        let repository = AsyncPostgresRepository::from_pool(pool).with_call_timeout(LIMIT);
        let error = apply(&repository, change_sets::rotate(&keys))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        application.database.execute("rollback");
        // The next change waits for what is left of that one at the server.
        let patient = repository.with_call_timeout(Duration::from_secs(20));
        let other = with_keys(&application, "o_2").await;
        let _ = apply(&patient, change_sets::rotate(&other)).await.unwrap();
        let after = rows(&patient, &keys.scope).await.unwrap();
        assert!(after.same_keys(&keys));
    });
}

#[test]
fn a_commit_without_an_answer_in_time_is_an_outcome_unknown_that_can_be_resolved() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let url = application.database.url();
        let line = Arc::new(Line::to(&url));
        let stopped = Arc::clone(&line);
        let pool = watched(line.url(&url), 1, move |statement| {
            if statement == Statement::Commit {
                stopped.hang();
            }
        });
        let limit = Duration::from_secs(3);
        let repository = AsyncPostgresRepository::from_pool(pool).with_call_timeout(limit);
        let change = change_sets::rotate(&keys);
        let error = apply(&repository, change.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        line.resume();
        let resolution = application.repository().resolve(Arc::new([change])).await;
        assert_eq!(resolution.unwrap(), [Resolution::Applied]);
    });
}

#[test]
fn closed_connections_are_replaced_and_the_call_succeeds() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let pool = watched(application.database.url(), 3, |_| {});
        let repository = Arc::new(AsyncPostgresRepository::from_pool(pool.clone()));
        // All connections of the pool are open, and then all are dead.
        let open = [
            pool.get().await.unwrap(),
            pool.get().await.unwrap(),
            pool.get().await.unwrap(),
        ];
        drop(open);
        application.database.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid()",
        );
        let found = rows(&*repository, &keys.scope).await.unwrap();
        assert!(found.same_keys(&keys));
        let _ = apply(&*repository, change_sets::rotate(&keys))
            .await
            .unwrap();
    });
}

#[test]
fn a_change_whose_caller_goes_away_is_worked_on_to_its_end_and_leaves_its_connection_usable() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application
            .database
            .execute("begin; select from kms_collection_version for update");
        let pool = pool(application.database.url(), 1);
        let repository = Arc::new(AsyncPostgresRepository::from_pool(pool));
        let caller = {
            let (repository, rotate) = (Arc::clone(&repository), change_sets::rotate(&keys));
            tokio::spawn(async move { apply(&*repository, rotate).await })
        };
        // Until it waits at the server.
        let started = Instant::now();
        let waits = "select 1 / count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        while !application.database.succeeds(waits) {
            assert!(started.elapsed() < Duration::from_secs(20));
            tokio::task::yield_now().await;
        }
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        application.database.execute("rollback");
        let after = rows(&*repository, &keys.scope).await.unwrap();
        assert_eq!(after.root_key_versions.len(), 2);
    });
}

#[test]
fn a_pool_without_a_free_connection_is_busy_and_a_server_that_is_not_there_unreachable() {
    on_postgres(async |application| {
        let busy = pool(application.database.url(), 1);
        let _taken = busy.get().await.unwrap();
        let repository = AsyncPostgresRepository::from_pool(busy).with_call_timeout(LIMIT);
        let error = repository.validate_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");

        let url = application.database.url();
        let mut line = Line::to(&url);
        let nobody = pool(line.url(&url), 1);
        line.cut();
        let repository = AsyncPostgresRepository::from_pool(nobody);
        let error = repository.validate_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
        assert!(std::error::Error::source(&error).is_some());
    });
}
