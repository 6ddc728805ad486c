//! Change sets inside transactions of the application's, on its own connections of diesel-async.

use std::time::Duration;

use diesel::result::Error as QueryError;
use diesel::sql_types::BigInt;
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _,
};
use kms_core::{ErrorKind, OnDelete, Proof, Receipt};
use kms_store_diesel::AsyncKeyConnection as _;
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;
use tokio::sync::Barrier;
use tokio::time::timeout;

use super::{on_postgres, pool};
use crate::application::Application;
use crate::keys::{DATABASE, apply, rows, scope, with_keys};
use crate::postgres::database::PostgresDatabase;

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connection(application: &Application<PostgresDatabase>) -> AsyncPgConnection {
    AsyncPgConnection::establish(&application.database.url())
        .await
        .unwrap()
}

async fn count(connection: &mut AsyncPgConnection, table: &str) -> i64 {
    diesel::dsl::sql::<BigInt>(&format!("select count(*) from {table}"))
        .get_result(connection)
        .await
        .unwrap()
}

#[test]
fn as_many_transactions_as_the_pool_has_connections_all_load_keys() {
    on_postgres(async |application| {
        const SIZE: usize = 4;
        let keys = with_keys(&application, "o_1").await;
        let pool = pool(application.database.url(), SIZE);
        let barrier = std::sync::Arc::new(Barrier::new(SIZE));
        let tasks: Vec<_> = (0..SIZE)
            .map(|_| {
                let (pool, barrier, keys) = (pool.clone(), barrier.clone(), keys.clone());
                tokio::spawn(async move {
                    let mut connection = pool.get().await.unwrap();
                    let result: Result<(), Failure> = connection
                        .transaction(async |connection| {
                            // All of them hold a connection, and none is left.
                            barrier.wait().await;
                            let scopes = std::slice::from_ref(&keys.scope);
                            let found = connection.load_keys(scopes).await?;
                            assert!(found.scopes[0].same_keys(&keys));
                            Ok(())
                        })
                        .await;
                    result.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn keys_and_rows_of_the_application_are_committed_together_or_not_at_all() {
    on_postgres(async |application| {
        let mut connection = connection(&application).await;
        let create = change_sets::create(&scope("o_1"), &[DATABASE]);
        let version = create.insert.data_key_versions[0].id.clone();
        application
            .add_referencer("client", OnDelete::NoAction)
            .await;
        for fails in [true, false] {
            let result: Result<Vec<Receipt>, Failure> = connection
                .transaction(async |connection| {
                    connection
                        .batch_execute("insert into organization values ('o_1')")
                        .await?;
                    let receipts = connection.apply_changes(&[&create]).await?;
                    let client = format!("insert into client values ('{version}')");
                    connection.batch_execute(&client).await?;
                    if fails {
                        return Err(QueryError::RollbackTransaction.into());
                    }
                    Ok(receipts)
                })
                .await;
            assert_eq!(result.is_err(), fails);
            let found = rows(&*application.repository(), &create.scope).await;
            assert_eq!(found.is_none(), fails);
            assert_eq!(count(&mut connection, "client").await, i64::from(!fails));
        }
    });
}

#[test]
fn a_conflict_undoes_all_change_sets_and_leaves_the_transaction_usable() {
    on_postgres(async |application| {
        let one = with_keys(&application, "o_1").await;
        let stale = with_keys(&application, "o_2").await;
        let repository = application.repository();
        let _ = apply(&*repository, change_sets::rotate(&stale))
            .await
            .unwrap();
        let before = repository.collection_version(None).await.unwrap();
        let mut connection = connection(&application).await;
        let result: Result<(), Failure> = connection
            .transaction(async |connection| {
                connection
                    .batch_execute("insert into organization values ('o_3')")
                    .await?;
                let error = connection
                    .apply_changes(&[&change_sets::rotate(&one), &change_sets::rotate(&stale)])
                    .await
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert_eq!(error.context("scope"), Some("o_2"));
                let create = change_sets::create(&scope("o_3"), &[]);
                let _ = connection.apply_changes(&[&create]).await?;
                Ok(())
            })
            .await;
        result.unwrap();
        let after = rows(&*repository, &one.scope).await.unwrap();
        assert!(after.same_keys(&one));
        assert!(rows(&*repository, &scope("o_3")).await.is_some());
        let collection = repository.collection_version(None).await.unwrap();
        assert_eq!(collection, before);
    });
}

#[test]
fn every_refusal_leaves_the_transaction_usable() {
    on_postgres(async |application| {
        application
            .add_referencer("client", OnDelete::NoAction)
            .await;
        let first = with_keys(&application, "o_1").await;
        let repository = application.repository();
        let _ = apply(&*repository, change_sets::rotate(&first))
            .await
            .unwrap();
        let keys = rows(&*repository, &first.scope).await.unwrap();
        let version = first.data_keys[0].versions[0].id.clone();
        application.add_reference("client", &version).await;
        let mut wrong = change_sets::rotate(&keys);
        wrong.insert.root_key_versions[0].version += 1;
        let refused = [
            (
                change_sets::revoke(&keys, version, Proof::Required),
                ErrorKind::InUse,
            ),
            (change_sets::delete(&keys, Proof::Skipped), ErrorKind::InUse),
            (
                change_sets::create(&keys.scope, &[DATABASE]),
                ErrorKind::AlreadyExists,
            ),
            (wrong, ErrorKind::Conflict),
        ];
        let mut connection = connection(&application).await;
        let result: Result<(), Failure> = connection
            .transaction(async |connection| {
                for (change, kind) in &refused {
                    let error = connection.apply_changes(&[change]).await.unwrap_err();
                    assert_eq!(error.kind(), *kind, "{error}");
                }
                connection
                    .batch_execute("insert into organization values ('o_2')")
                    .await?;
                Ok(())
            })
            .await;
        result.unwrap();
        assert_eq!(count(&mut connection, "organization").await, 2);
        let after = rows(&*repository, &keys.scope).await.unwrap();
        assert!(after.same_keys(&keys));
    });
}

#[test]
fn outside_of_a_transaction_nothing_is_applied() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let mut connection = connection(&application).await;
        let error = connection
            .apply_changes(&[&change_sets::rotate(&keys)])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Database);
        assert!(error.to_string().contains("transaction"), "{error}");
        let found = rows(&*application.repository(), &keys.scope).await.unwrap();
        assert!(found.same_keys(&keys));
        // The refusal has not broken it.
        assert_eq!(count(&mut connection, "organization").await, 1);
        connection
            .transaction(async |_| Result::<(), QueryError>::Ok(()))
            .await
            .unwrap();
    });
}

#[test]
fn a_repeatable_read_transaction_that_is_too_old_is_to_be_restarted() {
    on_postgres(async |application| {
        let one = with_keys(&application, "o_1").await;
        let other = with_keys(&application, "o_2").await;
        let mut connection = connection(&application).await;
        let repository = application.repository();
        let result: Result<(), Failure> = connection
            .build_transaction()
            .repeatable_read()
            .run(async |connection| {
                let scopes = std::slice::from_ref(&one.scope);
                let _ = connection.load_keys(scopes).await?;
                let _ = apply(&*repository, change_sets::rotate(&other))
                    .await
                    .unwrap();
                let error = connection
                    .apply_changes(&[&change_sets::rotate(&one)])
                    .await
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::RestartTransaction, "{error}");
                Err(error.into())
            })
            .await;
        assert!(result.is_err());
        // It was rolled back whole, and the connection is as good as before.
        assert_eq!(count(&mut connection, "organization").await, 2);
    });
}

/// The application gives up on a change in the middle of it, does not mind, and commits.
#[test]
fn a_change_that_was_given_up_halfway_keeps_its_transaction_from_committing() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let pool = pool(application.database.url(), 1);
        let mut holder = connection(&application).await;
        holder
            .batch_execute("begin; select from kms_collection_version for update")
            .await
            .unwrap();
        let mut connection = pool.get().await.unwrap();
        let result: Result<(), Failure> = connection
            .transaction(async |connection| {
                connection
                    .batch_execute("insert into organization values ('o_2')")
                    .await?;
                // It waits for the holder.
                let rotate = change_sets::rotate(&keys);
                let change = [&rotate];
                let given_up = connection.apply_changes(&change);
                assert!(timeout(Duration::from_millis(300), given_up).await.is_err());
                Ok(())
            })
            .await;
        let error = result.unwrap_err();
        assert!(
            matches!(
                error.downcast_ref::<QueryError>(),
                Some(QueryError::BrokenTransactionManager)
            ),
            "{error}"
        );
        drop(connection);
        holder.batch_execute("rollback").await.unwrap();
        // The pool has dropped it.
        let mut connection = pool.get().await.unwrap();
        assert_eq!(count(&mut connection, "organization").await, 1);
        let after = rows(&*application.repository(), &keys.scope).await.unwrap();
        assert!(after.same_keys(&keys));
    });
}

#[test]
fn a_query_for_keys_may_be_given_up_and_the_transaction_goes_on() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let mut holder = connection(&application).await;
        holder
            .batch_execute("begin; lock table kms_root_key in access exclusive mode")
            .await
            .unwrap();
        let mut connection = connection(&application).await;
        let result: Result<(), Failure> = connection
            .transaction(async |connection| {
                connection
                    .batch_execute("insert into organization values ('o_2')")
                    .await?;
                let scopes = std::slice::from_ref(&keys.scope);
                let given_up = connection.load_keys(scopes);
                assert!(timeout(Duration::from_millis(300), given_up).await.is_err());
                holder.batch_execute("rollback").await.unwrap();
                let found = connection.load_keys(scopes).await?;
                assert!(found.scopes[0].same_keys(&keys));
                Ok(())
            })
            .await;
        result.unwrap();
        assert_eq!(count(&mut connection, "organization").await, 2);
    });
}
