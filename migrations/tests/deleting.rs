//! What goes when a scope or a key version is deleted, and what stops it.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use database::{Connection, TestDatabase};

on_both_databases! {
    deleting_a_root_key_takes_all_its_keys_in_one_statement
    deleting_the_applications_scope_takes_all_its_keys_and_rows_in_one_statement
    deleting_all_root_keys_without_a_condition_bumps_the_collection_version
    a_rolled_back_deletion_bumps_nothing
    a_root_key_version_that_wraps_a_data_key_version_stays
    a_root_key_version_that_wraps_nothing_goes
    a_data_key_version_that_encrypted_a_row_stays
    a_restricting_foreign_key_stops_the_deletion_of_the_scopes_keys
    replacing_a_scope_row_deletes_its_keys
}

fn deleting_a_root_key_takes_all_its_keys_in_one_statement(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.create_scope("b");
    assert_eq!(conn.key_rows(), [2, 4, 2, 4]);
    let before = conn.collection_version();
    conn.execute("delete from kms_root_key where scope_id = 'a'");
    assert_eq!(conn.key_rows(), [1, 2, 1, 2]);
    assert!(conn.collection_version() > before);
}

fn deleting_the_applications_scope_takes_all_its_keys_and_rows_in_one_statement(
    database: &TestDatabase,
) {
    let mut conn = application(database, "no action");
    let before = conn.collection_version();
    conn.execute("delete from organization where id = 'a'");
    assert_eq!(conn.key_rows(), [1, 2, 1, 2]);
    assert_eq!(conn.count("oidc_client"), 1);
    assert!(conn.collection_version() > before);
}

fn deleting_all_root_keys_without_a_condition_bumps_the_collection_version(
    database: &TestDatabase,
) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let before = conn.collection_version();
    conn.execute("delete from kms_root_key");
    assert_eq!(conn.key_rows(), [0, 0, 0, 0]);
    assert!(conn.collection_version() > before);
    if database.is_postgres() {
        let before = conn.collection_version();
        conn.execute("truncate kms_root_key cascade");
        assert!(conn.collection_version() > before);
    }
}

fn a_rolled_back_deletion_bumps_nothing(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.execute("begin; delete from kms_root_key; rollback;");
    assert_eq!(conn.collection_version(), 1);
    assert_eq!(conn.key_rows(), [1, 2, 1, 2]);
}

fn a_root_key_version_that_wraps_a_data_key_version_stays(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let message = conn.refusal("delete from kms_root_key_version where private_id = 'krkv_1_a'");
    assert!(message.contains("kms_data_key_version"), "{message}");
    assert_eq!(conn.key_rows(), [1, 2, 1, 2]);
    if database.is_postgres() {
        // Asked for at once, as the engine does, the check doesn't wait.
        conn.execute("begin; set constraints kms_root_key_version_fkey immediate");
        conn.refusal("delete from kms_root_key_version where private_id = 'krkv_1_a'");
        conn.execute("rollback");
    } else {
        conn.execute("pragma foreign_keys = off");
        conn.refusal("delete from kms_root_key_version where private_id = 'krkv_1_a'");
    }
}

fn a_root_key_version_that_wraps_nothing_goes(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.execute("update kms_data_key_version set root_key_version_id = 'krkv_2_a'");
    conn.execute("delete from kms_root_key_version where private_id = 'krkv_1_a'");
    assert_eq!(conn.key_rows(), [1, 1, 1, 2]);
}

fn a_data_key_version_that_encrypted_a_row_stays(database: &TestDatabase) {
    let mut conn = application(database, "no action");
    let message = conn.refusal("delete from kms_data_key_version where private_id = 'kdkv_1_a'");
    assert!(message.to_lowercase().contains("foreign key"), "{message}");
    assert_eq!(conn.key_rows(), [2, 4, 2, 4]);
}

fn a_restricting_foreign_key_stops_the_deletion_of_the_scopes_keys(database: &TestDatabase) {
    let mut conn = application(database, "restrict");
    conn.refusal("delete from kms_root_key where scope_id = 'a'");
    assert_eq!(conn.key_rows(), [2, 4, 2, 4]);
    conn.execute("delete from oidc_client where organization_id = 'a'");
    conn.execute("delete from organization where id = 'a'");
    assert_eq!(conn.key_rows(), [1, 2, 1, 2]);
}

fn replacing_a_scope_row_deletes_its_keys(database: &TestDatabase) {
    if database.is_postgres() {
        return; // has no `replace`
    }
    let mut conn = application(database, "no action");
    let before = conn.collection_version();
    conn.execute("replace into organization (id) values ('a')");
    assert_eq!(conn.key_rows(), [1, 2, 1, 2]);
    assert!(conn.collection_version() > before);
}

/// The application's tables as the crate's documentation shows them, with two
/// organizations and a row of each that is encrypted.
fn application(database: &TestDatabase, on_delete: &str) -> Connection {
    let mut conn = database.migrated();
    let (blob, tie, deferred) = if database.is_postgres() {
        (
            "bytea",
            "alter table kms_root_key add constraint kms_root_key_organization_fkey
               foreign key (scope_id) references organization (id) on delete cascade;",
            if on_delete == "no action" {
                "deferrable initially deferred"
            } else {
                ""
            },
        )
    } else {
        (
            "blob",
            "alter table kms_root_key add column organization_id text
               generated always as (scope_id) virtual
               references organization (id) on delete cascade;
             create index kms_root_key_organization_id_ix on kms_root_key (organization_id);",
            "",
        )
    };
    conn.execute(&format!(
        "create table organization (id text not null primary key);
         {tie}
         create table oidc_client (
           id text not null primary key,
           organization_id text not null references organization (id) on delete cascade,
           secret {blob} not null,
           key_version_id text not null
             references kms_data_key_version (private_id) on delete {on_delete} {deferred}
         );
         insert into organization (id) values ('a'), ('b');"
    ));
    conn.refusal("insert into kms_root_key (private_id, scope_id) values ('krk_x', 'x')");
    for scope in ["a", "b"] {
        conn.create_scope(scope);
        conn.execute(&format!(
            "insert into oidc_client (id, organization_id, secret, key_version_id)
             values ('client_{scope}', '{scope}', {}, 'kdkv_1_{scope}')",
            conn.blob()
        ));
    }
    assert!(conn.verify().unwrap().is_ok());
    conn
}
