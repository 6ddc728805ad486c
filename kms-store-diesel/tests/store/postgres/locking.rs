//! Who waits for whom: changes, applications' transactions, and neither without bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use kms_core::{ErrorKind, OnDelete, Proof, Repository, Resolution};
use kms_store_diesel::{KeyConnection as _, PostgresRepository};
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::database::PostgresDatabase;
use super::on_postgres;
use crate::keys::{DATABASE, apply, rows, scope, with_keys};

const SHORT: Duration = Duration::from_millis(400);

fn impatient(database: &PostgresDatabase) -> Arc<dyn Repository> {
    Arc::new(
        PostgresRepository::builder(database.url())
            .lock_timeout(SHORT)
            .build()
            .unwrap(),
    )
}

/// Waits until some backend of this database waits for a lock.
pub(super) fn until_somebody_waits(database: &PostgresDatabase) {
    let mut connection = database.connection();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let waits: bool = diesel::select(diesel::dsl::sql::<Bool>(
            "exists (select from pg_stat_activity
                      where datname = current_database() and wait_event_type = 'Lock')",
        ))
        .get_result(&mut connection)
        .unwrap();
        if waits {
            return;
        }
        assert!(Instant::now() < deadline, "nobody waits for a lock");
        std::thread::yield_now();
    }
}

#[test]
fn a_rotation_does_not_wait_for_an_application_that_references_a_version() {
    on_postgres(async |application| {
        application
            .add_referencer("client", OnDelete::NoAction)
            .await;
        let keys = with_keys(&application, "o_1").await;
        let version = &keys.data_keys[0].versions[0].id;
        let mut other = application.database.connection();
        other
            .batch_execute(&format!("begin; insert into client values ('{version}')"))
            .unwrap();
        // A deferred check takes its lock at the commit only; this is what it is then.
        other
            .batch_execute("set constraints all immediate")
            .unwrap();
        let repository = impatient(&application.database);
        let _ = apply(&*repository, change_sets::rotate_and_rewrap(&keys))
            .await
            .unwrap();
        other.batch_execute("commit").unwrap();
    });
}

#[test]
fn a_version_that_is_just_being_referenced_is_in_use_and_nobody_waits() {
    on_postgres(async |application| {
        application
            .add_referencer("client", OnDelete::Restrict)
            .await;
        let first = with_keys(&application, "o_1").await;
        let repository = application.repository();
        let _ = apply(&*repository, change_sets::rotate(&first))
            .await
            .unwrap();
        let keys = rows(&*repository, &first.scope).await.unwrap();
        let version = first.data_keys[0].versions[0].id.clone();
        let mut other = application.database.connection();
        other
            .batch_execute(&format!("begin; insert into client values ('{version}')"))
            .unwrap();
        for change in [
            change_sets::revoke(&keys, version.clone(), Proof::Required),
            change_sets::revoke(&keys, version.clone(), Proof::Skipped),
            change_sets::delete(&keys, Proof::Skipped),
        ] {
            let started = Instant::now();
            let error = apply(&*repository, change).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
            assert_eq!(error.context("key_version"), Some(version.as_str()));
            assert!(started.elapsed() < Duration::from_secs(3));
        }
        other.batch_execute("rollback").unwrap();
        let revocation = change_sets::revoke(&keys, version, Proof::Required);
        let _ = apply(&*repository, revocation).await.unwrap();
    });
}

#[test]
fn a_version_held_for_a_moment_is_revoked_once_it_is_free() {
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
        let (free, freed) = std::sync::mpsc::channel();
        let mut other = application.database.connection();
        let lock = format!(
            "begin; select from kms_data_key_version where private_id = '{version}' for key share"
        );
        other.batch_execute(&lock).unwrap();
        let holder = std::thread::spawn(move || {
            freed.recv().unwrap();
            other.batch_execute("rollback").unwrap();
        });
        let revoking = tokio::spawn(async move {
            apply(
                &*repository,
                change_sets::revoke(&keys, version, Proof::Required),
            )
            .await
        });
        free.send(()).unwrap();
        holder.join().unwrap();
        let _ = revoking.await.unwrap().unwrap();
    });
}

#[test]
fn a_lock_that_is_not_granted_is_busy_after_a_bounded_wait() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let repository = impatient(&application.database);
        let mut other = application.database.connection();
        for held in [
            "begin; update kms_collection_version set version = version + 1",
            "begin; select from kms_root_key for no key update",
        ] {
            other.batch_execute(held).unwrap();
            let started = Instant::now();
            let error = apply(&*repository, change_sets::rotate(&keys))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
            assert!(error.is_retryable());
            assert!(started.elapsed() < Duration::from_secs(5));
            other.batch_execute("rollback").unwrap();
        }
        let _ = apply(&*repository, change_sets::rotate(&keys))
            .await
            .unwrap();
    });
}

#[test]
fn a_creation_waits_for_another_of_its_scope_in_bounded_time() {
    on_postgres(async |application| {
        let keys = scope("o_1");
        application.add_scope(&keys).await;
        let mut other = application.database.connection();
        other.batch_execute("begin").unwrap();
        other
            .batch_execute(
                "insert into kms_root_key (private_id, scope_id) values ('krk_other', 'o_1')",
            )
            .unwrap();
        let repository = impatient(&application.database);
        let error = apply(&*repository, change_sets::create(&keys, &[DATABASE]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
        other.batch_execute("commit").unwrap();
        let error = apply(&*repository, change_sets::create(&keys, &[DATABASE]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    });
}

#[test]
fn transactions_that_create_different_scopes_do_not_wait_for_each_other() {
    on_postgres(async |application| {
        for id in ["o_1", "o_2"] {
            application.add_scope(&scope(id)).await;
        }
        let mut one = application.database.connection();
        let mut other = application.database.connection();
        other.batch_execute("set lock_timeout = '400ms'").unwrap();
        one.transaction(|one| {
            let _ = one
                .apply_changes(&[&change_sets::create(&scope("o_1"), &[DATABASE])])
                .unwrap();
            other.transaction(|other| {
                let _ = other
                    .apply_changes(&[&change_sets::create(&scope("o_2"), &[DATABASE])])
                    .unwrap();
                QueryResult::Ok(())
            })
        })
        .unwrap();
        assert!(
            rows(&*application.repository(), &scope("o_2"))
                .await
                .is_some()
        );
    });
}

#[test]
fn resolving_waits_until_the_transaction_in_doubt_has_ended() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application.add_scope(&scope("o_2")).await;
        let changes: Arc<[_]> = Arc::new([
            change_sets::rotate(&keys),
            change_sets::create(&scope("o_2"), &[DATABASE]),
        ]);
        for change in changes.iter() {
            let (committed, mut doubt) = (change.clone(), application.database.connection());
            let (commit, told) = std::sync::mpsc::channel::<()>();
            let (applied, waiting) = tokio::sync::oneshot::channel();
            let in_doubt = std::thread::spawn(move || {
                doubt
                    .transaction(|doubt: &mut PgConnection| {
                        let _ = doubt.apply_changes(&[&committed]).unwrap();
                        applied.send(()).unwrap();
                        told.recv().unwrap();
                        QueryResult::Ok(())
                    })
                    .unwrap();
            });
            waiting.await.unwrap();
            let repository = application.repository();
            let asked: Arc<[_]> = Arc::new([change.clone()]);
            let resolving = tokio::spawn(async move { repository.resolve(asked).await });
            until_somebody_waits(&application.database);
            commit.send(()).unwrap();
            in_doubt.join().unwrap();
            assert_eq!(resolving.await.unwrap().unwrap(), [Resolution::Applied]);
        }
    });
}
