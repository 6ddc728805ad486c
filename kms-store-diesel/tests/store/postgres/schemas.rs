//! Databases whose schema is missing, of another version, or under another name.

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::pg::PgConnection;
use kms_core::{ErrorKind, Proof, Repository};
use kms_store_diesel::PostgresRepository;
use kms_testkit::change_sets;

use super::database::PostgresDatabase;
use super::on_postgres;
use crate::application::Database as _;
use crate::keys::{DATABASE, apply, rows, scope};
use crate::starting::{
    accepts_a_later_extension_and_no_earlier_one, counted_pool, takes_one_statement,
    without_its_one_row_nothing_is_created_and_repair_is_named,
};

#[test]
fn the_schema_is_checked_with_one_statement() {
    on_postgres(async |application| {
        let (pool, sent) = counted_pool(application.database.url());
        takes_one_statement(&PostgresRepository::from_pool(pool), &sent).await;
    });
}

#[test]
fn a_later_extension_is_accepted_and_an_earlier_one_refused() {
    on_postgres(async |application| {
        accepts_a_later_extension_and_no_earlier_one(&application).await;
    });
}

#[test]
fn a_database_without_tables_is_told_by_every_call() {
    let Some(database) = PostgresDatabase::bare() else {
        return;
    };
    kms_testkit::repository::run(async move {
        let repository = database.open();
        for error in [
            repository.validate_schema().await.unwrap_err(),
            repository.load(&[scope("o_1")]).await.unwrap_err(),
            apply(
                &*repository,
                change_sets::create(&scope("o_1"), &[DATABASE]),
            )
            .await
            .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::SchemaVersion, "{error}");
            assert_eq!(error.context("expected"), Some("v0.0.2"));
            assert_eq!(error.context("found"), Some("none"));
        }
    });
}

#[test]
fn emptied_tables_with_one_row_are_told_and_nothing_is_created() {
    on_postgres(async |application| {
        let repair = || {
            kms_migrations::postgres::repair(&mut application.database.connection()).unwrap();
        };
        without_its_one_row_nothing_is_created_and_repair_is_named(&application, repair).await;
    });
}

#[test]
fn a_database_that_was_not_adopted_is_told() {
    on_postgres(async |application| {
        application
            .database
            .execute("drop table kms_extension_version");
        let error = application
            .database
            .open()
            .validate_schema()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaVersion, "{error}");
        assert_eq!(error.context("found"), Some("none"));
        assert!(
            error.to_string().contains("kms_extension_version"),
            "{error}"
        );
    });
}

#[test]
fn tables_in_a_schema_of_another_name_work() {
    let Some(database) = PostgresDatabase::bare() else {
        return;
    };
    kms_testkit::repository::run(async move {
        let url = database.url();
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}options=-c%20search_path%3D%22Key%20%20Store%22");
        let url = url.replace("Key%20%20Store", "KeyStore");
        database.execute("create schema \"KeyStore\"");
        let mut connection = PgConnection::establish(&url).unwrap();
        kms_migrations::postgres::run(&mut connection).unwrap();
        connection
            .batch_execute(
                "create table client (key_version_id text references kms_data_key_version (private_id)
                   deferrable initially deferred)",
            )
            .unwrap();
        let repository = PostgresRepository::builder(url).build().unwrap();
        repository.validate_schema().await.unwrap();
        let referencers = repository.referencers().await.unwrap();
        assert_eq!(referencers[0].to_string(), "KeyStore.client.key_version_id");
        let scope = scope("o_1");
        let _ = apply(&repository, change_sets::create(&scope, &[DATABASE]))
            .await
            .unwrap();
        let first = rows(&repository, &scope).await.unwrap();
        let _ = apply(&repository, change_sets::rotate(&first))
            .await
            .unwrap();
        let keys = rows(&repository, &scope).await.unwrap();
        let old = first.data_keys[0].versions[0].id.clone();
        connection
            .batch_execute(&format!("insert into client values ('{old}')"))
            .unwrap();
        let revocation = change_sets::revoke(&keys, old, Proof::Required);
        let error = apply(&repository, revocation.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
        assert_eq!(error.context("table"), Some("client"));
        connection.batch_execute("delete from client").unwrap();
        let _ = apply(&repository, revocation).await.unwrap();
        let keys = rows(&repository, &scope).await.unwrap();
        let _ = apply(&repository, change_sets::delete(&keys, Proof::Required))
            .await
            .unwrap();
    });
}

#[test]
fn a_null_create_time_of_a_table_that_go_made_is_read() {
    on_postgres(async |application| {
        let keys = crate::keys::with_keys(&application, "o_1").await;
        application.database.execute(
            "begin; alter table kms_data_key disable trigger user;
             update kms_data_key set create_time = null;
             alter table kms_data_key enable trigger user; commit",
        );
        let repository = application.database.open();
        assert!(
            rows(&*repository, &keys.scope)
                .await
                .unwrap()
                .same_keys(&keys)
        );
    });
}
