//! Connections that the server closes, at every point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::pg::PgConnection;
use diesel::r2d2::{ConnectionManager, Pool};
use kms_core::{ChangeSet, ErrorKind, Proof, Repository, Resolution, ScopeRows};
use kms_store_diesel::PostgresRepository;
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::database::PostgresDatabase;
use super::on_postgres;
use crate::application::Application;
use crate::keys::{DATABASE, apply, rows, scope, with_keys};
use crate::statements::{Statement, Watched};

/// Ends every backend of this database that calls itself `victim`, and waits until it is gone.
fn kill(url: &str) {
    let mut connection = PgConnection::establish(url).unwrap();
    connection
        .batch_execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity
             where datname = current_database() and application_name = 'victim'",
        )
        .unwrap();
}

fn victims(database: &PostgresDatabase) -> String {
    let url = database.url();
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}application_name=victim")
}

fn victim(database: &PostgresDatabase) -> Arc<dyn Repository> {
    Arc::new(
        PostgresRepository::builder(victims(database))
            .pool_size(3)
            .build()
            .unwrap(),
    )
}

/// A repository whose connections tell of their statements.
fn watched(
    database: &PostgresDatabase,
    hook: impl Fn(Statement) + Send + Sync + 'static,
) -> PostgresRepository {
    let pool = Pool::builder()
        .max_size(1)
        .min_idle(Some(0))
        .test_on_check_out(false)
        .connection_customizer(Box::new(Watched::new(hook)))
        .build_unchecked(ConnectionManager::<PgConnection>::new(victims(database)));
    PostgresRepository::from_pool(pool)
}

#[test]
fn a_read_on_closed_connections_takes_a_fresh_one_and_succeeds() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let repository = victim(&application.database);
        // All connections of the pool are open, and then all are dead.
        let calls: Vec<_> = (0..12)
            .map(|_| {
                let (repository, scope) = (Arc::clone(&repository), keys.scope.clone());
                tokio::spawn(async move { repository.load(&[scope]).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        for _ in 0..2 {
            kill(&application.database.url());
            assert!(
                rows(&*repository, &keys.scope)
                    .await
                    .unwrap()
                    .same_keys(&keys)
            );
        }
    });
}

#[test]
fn a_change_on_a_closed_connection_takes_a_fresh_one_and_succeeds() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let repository = victim(&application.database);
        repository.collection_version(None).await.unwrap();
        kill(&application.database.url());
        let _ = apply(&*repository, change_sets::rotate(&keys))
            .await
            .unwrap();
        let keys = rows(&*repository, &keys.scope).await.unwrap();
        assert_eq!(keys.root_key_versions.len(), 2);
    });
}

/// Kills the connection before its k-th statement, for every k there is, and gives how many there were.
async fn killed_before_each_statement(
    application: &Application<PostgresDatabase>,
    prepare: impl AsyncFn() -> (ChangeSet, Option<ScopeRows>),
) -> usize {
    for k in 1..100 {
        let (change, before) = prepare().await;
        let url = application.database.url();
        let (count, killed) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&killed);
        // Counts on over the second try, which goes the same way, so that both are cut off.
        let repository = watched(&application.database, move |statement| {
            if statement == Statement::Any {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                if number == k || (seen.load(Ordering::SeqCst) && number == 2 * k + 1) {
                    seen.store(true, Ordering::SeqCst);
                    kill(&url);
                }
            }
        });
        let scope = change.scope.clone();
        let result = apply(&repository, change.clone()).await;
        if !killed.load(Ordering::SeqCst) {
            let _ = result.unwrap();
            return k - 1;
        }
        let after = rows(&*application.repository(), &scope).await;
        let untouched = match (&before, &after) {
            (Some(before), Some(after)) => before.same_keys(after),
            (None, None) => true,
            _ => false,
        };
        match result {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::DatabaseUnreachable => {
                assert!(untouched, "statement {k}: {error}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "statement {k}");
                let resolution = application.repository().resolve(Arc::new([change])).await;
                let applied = resolution.unwrap() == [Resolution::Applied];
                assert_eq!(applied, !untouched, "statement {k}");
            }
        }
    }
    panic!("a change takes fewer statements than this");
}

#[test]
fn a_rotation_that_loses_its_connection_at_any_statement_is_all_or_nothing() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let statements = killed_before_each_statement(&application, async || {
            let keys = rows(&*application.repository(), &keys.scope).await.unwrap();
            (change_sets::rotate_and_rewrap(&keys), Some(keys))
        })
        .await;
        assert_eq!(statements, 4);
    });
}

#[test]
fn a_creation_that_loses_its_connection_at_any_statement_is_all_or_nothing() {
    on_postgres(async |application| {
        let number = AtomicUsize::new(0);
        let statements = killed_before_each_statement(&application, async || {
            let scope = scope(&format!("o_{}", number.fetch_add(1, Ordering::SeqCst)));
            application.add_scope(&scope).await;
            (change_sets::create(&scope, &[DATABASE]), None)
        })
        .await;
        assert_eq!(statements, 1);
    });
}

#[test]
fn a_deletion_that_loses_its_connection_at_any_statement_is_all_or_nothing() {
    on_postgres(async |application| {
        let number = AtomicUsize::new(0);
        let statements = killed_before_each_statement(&application, async || {
            let id = format!("o_{}", number.fetch_add(1, Ordering::SeqCst));
            let keys = with_keys(&application, &id).await;
            (change_sets::delete(&keys, Proof::Skipped), Some(keys))
        })
        .await;
        assert!(statements >= 8, "{statements}");
    });
}

#[test]
fn a_commit_without_an_answer_is_an_outcome_unknown_that_can_be_resolved() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let url = application.database.url();
        let repository = watched(&application.database, move |statement| {
            if statement == Statement::Commit {
                kill(&url);
            }
        });
        let change = change_sets::rotate(&keys);
        let error = apply(&repository, change.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        // The pool has dropped what is dead.
        let resolution = repository.resolve(Arc::new([change])).await.unwrap();
        assert_eq!(resolution, [Resolution::NotApplied]);
        assert!(
            rows(&repository, &keys.scope)
                .await
                .unwrap()
                .same_keys(&keys)
        );
    });
}

#[test]
fn a_load_of_many_scopes_is_one_statement() {
    on_postgres(async |application| {
        let mut scopes = Vec::new();
        for number in 0..5 {
            scopes.push(with_keys(&application, &format!("o_{number}")).await.scope);
        }
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let repository = watched(&application.database, move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        repository.collection_version(None).await.unwrap();
        count.store(0, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(repository.load(&scopes).await.unwrap().scopes.len(), 5);
        }
        assert_eq!(count.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_batch_takes_the_statements_of_one_change_and_a_savepoint() {
    on_postgres(async |application| {
        let mut all = Vec::new();
        for number in 0..20 {
            all.push(with_keys(&application, &format!("o_{number}")).await);
        }
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let repository = watched(&application.database, move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let one = change_sets::rotate_and_rewrap(&all[0]);
        let _ = apply(&repository, one).await.unwrap();
        let single = count.swap(0, Ordering::SeqCst);
        let batch: Arc<[_]> = all[1..]
            .iter()
            .map(change_sets::rotate_and_rewrap)
            .collect();
        for outcome in repository.apply(batch).await.unwrap() {
            let _ = outcome.unwrap();
        }
        // In a batch, one change that can't be written must not undo the others.
        assert_eq!(count.load(Ordering::SeqCst), single + 2);
    });
}
