//! Change sets inside transactions of the application's, on its own connections.

use std::sync::{Arc, Barrier};

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::BigInt;
use kms_core::{ErrorKind, OnDelete, Proof, Receipt};
use kms_store_diesel::KeyConnection as _;
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::on_postgres;
use crate::application::Database as _;
use crate::keys::{DATABASE, apply, rows, scope, with_keys};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn count(connection: &mut PgConnection, table: &str) -> i64 {
    diesel::dsl::sql::<BigInt>(&format!("select count(*) from {table}"))
        .get_result(connection)
        .unwrap()
}

#[test]
fn as_many_transactions_as_the_pool_has_connections_all_load_keys() {
    on_postgres(async |application| {
        const SIZE: usize = 4;
        let keys = with_keys(&application, "o_1").await;
        let url = application.database.url();
        let pool = Pool::builder()
            .max_size(u32::try_from(SIZE).unwrap())
            .build(ConnectionManager::<PgConnection>::new(url))
            .unwrap();
        let barrier = Arc::new(Barrier::new(SIZE));
        let threads: Vec<_> = (0..SIZE)
            .map(|_| {
                let (pool, barrier) = (pool.clone(), Arc::clone(&barrier));
                let keys = keys.clone();
                std::thread::spawn(move || {
                    let mut connection = pool.get().unwrap();
                    connection
                        .transaction(|connection| {
                            // All of them hold a connection, and none is left.
                            barrier.wait();
                            let found = connection.load_keys(std::slice::from_ref(&keys.scope))?;
                            assert!(found.scopes[0].same_keys(&keys));
                            Result::<(), Failure>::Ok(())
                        })
                        .unwrap();
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn keys_and_rows_of_the_application_are_committed_together_or_not_at_all() {
    on_postgres(async |application| {
        let mut connection = application.database.connection();
        let create = change_sets::create(&scope("o_1"), &[DATABASE]);
        let version = create.insert.data_key_versions[0].id.clone();
        application
            .add_referencer("client", OnDelete::NoAction)
            .await;
        for fails in [true, false] {
            let result = connection.transaction(|connection| {
                connection.batch_execute("insert into organization values ('o_1')")?;
                let receipts = connection.apply_changes(&[&create])?;
                connection.batch_execute(&format!("insert into client values ('{version}')"))?;
                if fails {
                    return Err(diesel::result::Error::RollbackTransaction.into());
                }
                Result::<Vec<Receipt>, Failure>::Ok(receipts)
            });
            assert_eq!(result.is_err(), fails);
            let found = rows(&*application.repository(), &create.scope).await;
            assert_eq!(found.is_none(), fails);
            assert_eq!(count(&mut connection, "client"), i64::from(!fails));
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
        let before = repository
            .collection_version(None)
            .await
            .unwrap()
            .collection;
        let mut connection = application.database.connection();
        connection
            .transaction(|connection| {
                connection.batch_execute("insert into organization values ('o_3')")?;
                let error = connection
                    .apply_changes(&[&change_sets::rotate(&one), &change_sets::rotate(&stale)])
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert_eq!(error.context("scope"), Some("o_2"));
                let _ = connection.apply_changes(&[&change_sets::create(&scope("o_3"), &[])])?;
                Result::<(), Failure>::Ok(())
            })
            .unwrap();
        assert!(
            rows(&*repository, &one.scope)
                .await
                .unwrap()
                .same_keys(&one)
        );
        assert!(rows(&*repository, &scope("o_3")).await.is_some());
        assert_eq!(
            repository
                .collection_version(None)
                .await
                .unwrap()
                .collection,
            before
        );
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
        let mut foreign = change_sets::rotate(&keys);
        foreign.insert.data_key_versions[0].root_key_version = kms_core::Id::generate();
        let mut wrong = change_sets::rotate(&keys);
        wrong.insert.root_key_versions[0].version += 1;
        let refused = [
            (
                change_sets::revoke(&keys, version, Proof::Required),
                ErrorKind::InUse,
            ),
            (
                change_sets::delete(&keys, Proof::Required),
                ErrorKind::InUse,
            ),
            (change_sets::delete(&keys, Proof::Skipped), ErrorKind::InUse),
            (
                change_sets::create(&keys.scope, &[DATABASE]),
                ErrorKind::AlreadyExists,
            ),
            // No row of the application's: its foreign key refuses.
            (
                change_sets::create(&scope("o_none"), &[DATABASE]),
                ErrorKind::MissingScopeRow,
            ),
            (wrong, ErrorKind::Conflict),
        ];
        let mut connection = application.database.connection();
        connection
            .transaction(|connection| {
                for (change, kind) in &refused {
                    let error = connection.apply_changes(&[change]).unwrap_err();
                    assert_eq!(error.kind(), *kind, "{error}");
                }
                connection.batch_execute("insert into organization values ('o_2')")?;
                Result::<(), Failure>::Ok(())
            })
            .unwrap();
        assert_eq!(count(&mut connection, "organization"), 2);
        assert!(
            rows(&*repository, &keys.scope)
                .await
                .unwrap()
                .same_keys(&keys)
        );
    });
}

#[test]
fn outside_of_a_transaction_nothing_is_applied() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let mut connection = application.database.connection();
        let error = connection
            .apply_changes(&[&change_sets::rotate(&keys)])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Database);
        assert!(error.to_string().contains("transaction"), "{error}");
        let found = rows(&*application.repository(), &keys.scope).await.unwrap();
        assert!(found.same_keys(&keys));
    });
}

#[test]
fn a_repeatable_read_transaction_that_is_too_old_is_to_be_restarted() {
    on_postgres(async |application| {
        let one = with_keys(&application, "o_1").await;
        let other = with_keys(&application, "o_2").await;
        let repository = application.repository();
        for serializable in [false, true] {
            let one = rows(&*repository, &one.scope).await.unwrap();
            let other = rows(&*repository, &other.scope).await.unwrap();
            let mut connection = application.database.connection();
            let mut beside = application.database.connection();
            let builder = connection.build_transaction();
            let mut builder = if serializable {
                builder.serializable()
            } else {
                builder.repeatable_read()
            };
            let result: Result<(), Failure> = builder.run(|connection| {
                let _ = connection.load_keys(std::slice::from_ref(&one.scope))?;
                beside
                    .transaction(|beside| {
                        let _ = beside.apply_changes(&[&change_sets::rotate(&other)])?;
                        Result::<(), Failure>::Ok(())
                    })
                    .unwrap();
                let error = connection
                    .apply_changes(&[&change_sets::rotate(&one)])
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::RestartTransaction, "{error}");
                Err(error.into())
            });
            assert!(result.is_err());
        }
    });
}

#[test]
fn a_deletion_does_not_fire_what_the_caller_has_deferred() {
    on_postgres(async |application| {
        application.database.execute(
            "create table parent (id text primary key);
             create table child (parent text constraint unfinished references parent (id)
               deferrable initially deferred)",
        );
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
        let mut connection = application.database.connection();
        connection
            .transaction(|connection| {
                connection.batch_execute("insert into child values ('p')")?;
                let _ = connection.apply_changes(&[&change_sets::revoke(
                    &keys,
                    version,
                    Proof::Required,
                )])?;
                // The mode of the application's own foreign key is what it was, too.
                connection.batch_execute(
                    "insert into client values ('later'); delete from client; \
                     insert into parent values ('p')",
                )?;
                Result::<(), Failure>::Ok(())
            })
            .unwrap();
        assert_eq!(count(&mut connection, "child"), 1);
    });
}

#[test]
fn two_changes_of_one_scope_in_one_call_are_a_conflict() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let mut connection = application.database.connection();
        let result: Result<(), Failure> = connection.transaction(|connection| {
            let changes = [change_sets::rotate(&keys), change_sets::rewrap(&keys)];
            let error = connection
                .apply_changes(&[&changes[0], &changes[1]])
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            Ok(())
        });
        result.unwrap();
    });
}
