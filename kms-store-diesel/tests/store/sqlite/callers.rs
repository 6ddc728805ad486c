//! Change sets inside transactions of the application's, and what SQLite does differently.

use diesel::connection::SimpleConnection as _;
use kms_core::{ErrorKind, OnDelete, Proof};
use kms_store_diesel::KeyConnection as _;
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::on_sqlite;
use crate::keys::{DATABASE, apply, rows, scope, with_keys};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[test]
fn keys_and_rows_of_the_application_are_committed_together() {
    on_sqlite(async |application| {
        let mut connection = application.database.connection();
        connection
            .immediate_transaction(|connection| {
                connection.batch_execute("insert into organization values ('o_1')")?;
                let _ = connection
                    .apply_changes(&[&change_sets::create(&scope("o_1"), &[DATABASE])])?;
                let seen = connection.load_keys(&[scope("o_1")])?;
                assert_eq!(seen.scopes.len(), 1);
                Result::<(), Failure>::Ok(())
            })
            .unwrap();
        assert!(
            rows(&*application.repository(), &scope("o_1"))
                .await
                .is_some()
        );
    });
}

#[test]
fn a_conflict_undoes_all_change_sets_and_leaves_the_transaction_usable() {
    on_sqlite(async |application| {
        let one = with_keys(&application, "o_1").await;
        let stale = with_keys(&application, "o_2").await;
        let repository = application.repository();
        let _ = apply(&*repository, change_sets::rotate(&stale))
            .await
            .unwrap();
        let mut connection = application.database.connection();
        connection
            .immediate_transaction(|connection| {
                let error = connection
                    .apply_changes(&[&change_sets::rotate(&one), &change_sets::rotate(&stale)])
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                connection.batch_execute("insert into organization values ('o_3')")?;
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
    });
}

#[test]
fn a_deferred_transaction_that_has_read_is_to_be_restarted() {
    on_sqlite(async |application| {
        let one = with_keys(&application, "o_1").await;
        let other = with_keys(&application, "o_2").await;
        let repository = application.repository();
        let mut connection = application.database.connection();
        connection.batch_execute("begin; commit").unwrap();
        diesel::connection::AnsiTransactionManager::begin_transaction_sql(&mut connection, "begin")
            .unwrap();
        let _ = connection
            .load_keys(std::slice::from_ref(&one.scope))
            .unwrap();
        let _ = apply(&*repository, change_sets::rotate(&other))
            .await
            .unwrap();
        let error = connection
            .apply_changes(&[&change_sets::rotate(&one)])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RestartTransaction, "{error}");
        connection.batch_execute("rollback").unwrap();
    });
}

#[test]
fn outside_of_a_transaction_nothing_is_applied() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let mut connection = application.database.connection();
        let error = connection
            .apply_changes(&[&change_sets::rotate(&keys)])
            .unwrap_err();
        assert!(error.to_string().contains("transaction"), "{error}");
        let found = rows(&*application.repository(), &keys.scope).await.unwrap();
        assert!(found.same_keys(&keys));
    });
}

#[test]
fn without_foreign_keys_nothing_is_proven_and_no_scope_is_deleted() {
    on_sqlite(async |application| {
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
            .batch_execute("pragma foreign_keys = off")
            .unwrap();
        connection
            .immediate_transaction(|connection| {
                for change in [
                    change_sets::revoke(&keys, version.clone(), Proof::Required),
                    change_sets::delete(&keys, Proof::Required),
                    // The keys below the root key would stay behind.
                    change_sets::delete(&keys, Proof::Skipped),
                ] {
                    let error = connection.apply_changes(&[&change]).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::UseNotProven, "{error}");
                    assert!(error.to_string().contains("foreign_keys"), "{error}");
                }
                let dangerous = change_sets::revoke(&keys, version.clone(), Proof::Skipped);
                let _ = connection.apply_changes(&[&dangerous])?;
                Result::<(), Failure>::Ok(())
            })
            .unwrap();
    });
}

#[test]
fn tables_and_columns_of_any_name_are_looked_into() {
    on_sqlite(async |application| {
        let first = with_keys(&application, "o_1").await;
        let repository = application.repository();
        let _ = apply(&*repository, change_sets::rotate(&first))
            .await
            .unwrap();
        let keys = rows(&*repository, &first.scope).await.unwrap();
        let version = first.data_keys[0].versions[0].id.clone();
        let mut connection = application.database.connection();
        let table = "we\"ird ' -- ; [täble]";
        let column = "c\"ol'umn; drop table kms_root_key --";
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        connection
            .batch_execute(&format!(
                "create table {} ({} text references \"KMS_Data_Key_Version\"); \
                 insert into {} values ('{version}')",
                quoted(table),
                quoted(column),
                quoted(table),
            ))
            .unwrap();
        let referencers = repository.referencers().await.unwrap();
        assert_eq!(
            (&*referencers[0].table, &*referencers[0].column),
            (table, column)
        );
        for change in [
            change_sets::revoke(&keys, version.clone(), Proof::Required),
            change_sets::revoke(&keys, version.clone(), Proof::Skipped),
            change_sets::delete(&keys, Proof::Required),
        ] {
            let error = apply(&*repository, change).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
            assert_eq!(error.context("table"), Some(table));
        }
        connection
            .batch_execute(&format!("delete from {}", quoted(table)))
            .unwrap();
        let _ = apply(
            &*repository,
            change_sets::revoke(&keys, version, Proof::Required),
        )
        .await
        .unwrap();
    });
}
