//! What `repair` puts back.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;
#[path = "support/go.rs"]
mod go;

use database::{Connection, TestDatabase};
use kms_migrations::{ErrorKind, Repair, Result};

on_both_databases! {
    emptied_tables_with_one_row_take_no_new_keys_until_they_are_repaired
    lost_and_altered_triggers_and_indexes_are_made_anew
    a_database_without_faults_is_left_alone
    what_is_not_ours_is_not_repaired
    what_a_later_release_migrated_is_not_repaired
}

fn repair(conn: &mut Connection) -> Result<Repair> {
    match conn {
        Connection::Postgres(conn) => kms_migrations::postgres::repair(conn),
        Connection::Sqlite(conn) => kms_migrations::sqlite::repair(conn),
    }
}

const ONE_ROW: [&str; 3] = [
    "kms_schema_version",
    "kms_extension_version",
    "kms_collection_version",
];

fn emptied_tables_with_one_row_take_no_new_keys_until_they_are_repaired(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let insert = "insert into kms_root_key (private_id, scope_id) values ('krk_x', 'x')";
    for table in ONE_ROW {
        let clear = if database.is_postgres() {
            "truncate"
        } else {
            "delete from"
        };
        conn.execute(&format!("{clear} {table}"));
        let message = conn.refusal(insert);
        assert!(
            message.contains(&format!("{table} has no row")),
            "{message}"
        );
        // Running again does nothing about it.
        assert_eq!(conn.migrate().unwrap(), []);
        conn.refusal(insert);

        let repair = repair(&mut conn).unwrap();
        assert_eq!(repair.rows, [format!("row in {table}")]);
        assert_eq!(repair.objects, Vec::<String>::new());
        assert!(conn.verify().unwrap().is_ok());
        conn.execute(insert);
        conn.execute("delete from kms_root_key where private_id = 'krk_x'");
    }
    let status = conn.status().unwrap();
    assert_eq!(status.schema_version.as_deref(), Some("v0.0.2"));
    assert_eq!(
        status.extension_version.as_deref(),
        Some(kms_migrations::EXTENSION_VERSION)
    );
    assert!(
        conn.collection_version() > 1000,
        "a number that no cache knows"
    );
    assert_eq!(conn.key_rows(), [1, 2, 1, 2]);
}

fn lost_and_altered_triggers_and_indexes_are_made_anew(database: &TestDatabase) {
    let mut conn = database.migrated();
    let before = conn.catalogue().unwrap();
    conn.execute("drop index kms_data_key_version_root_key_version_id_ix");
    if database.is_postgres() {
        conn.execute(
            "drop trigger kms_immutable_columns on kms_root_key;
             alter table kms_root_key disable trigger kms_bump_collection_version_on_delete;",
        );
    } else {
        conn.execute(
            "drop trigger kms_immutable_columns_kms_root_key;
             drop trigger kms_bump_collection_version;
             create trigger kms_bump_collection_version after delete on kms_root_key
             begin select 1; end;",
        );
    }
    assert!(!conn.verify().unwrap().is_ok());
    assert_eq!(repair(&mut conn).unwrap().objects.len(), 3);
    assert_eq!(conn.catalogue().unwrap(), before);
}

fn a_database_without_faults_is_left_alone(database: &TestDatabase) {
    let mut conn = database.migrated();
    assert_eq!(repair(&mut conn).unwrap(), Repair::default());
    assert_eq!(conn.collection_version(), 1);
}

fn what_is_not_ours_is_not_repaired(database: &TestDatabase) {
    let mut conn = database.connect();
    let error = repair(&mut conn).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotMigrated);
    let (_database, mut conn) = go::made_by_go(database.is_postgres()).unwrap();
    let error = repair(&mut conn).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotAdopted);
}

fn what_a_later_release_migrated_is_not_repaired(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.execute(
        "delete from kms_extension_version;
         insert into __diesel_schema_migrations (version) values ('00000000000000kms9999');",
    );
    let error = repair(&mut conn).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::WrongVersion { .. }),
        "{error}"
    );
    assert_eq!(conn.count("kms_extension_version"), 0);
}

/// Go's migration 07 makes a trigger anew that adoption had replaced by ours.
#[test]
fn a_sqlite_database_adopted_before_gos_last_migration_is_repaired_after_it() {
    let (_database, mut conn) = go::made_by_go(false).unwrap();
    conn.adopt().unwrap();
    conn.execute(
        "drop trigger kms_immutable_columns_kms_data_key_version;
         create trigger kms_immutable_columns_kms_data_key_version
         before update on kms_data_key_version for each row
         when new.private_id <> old.private_id or new.data_key_id <> old.data_key_id
           or new.create_time <> old.create_time
         begin select raise(abort, 'immutable column'); end;",
    );
    let report = conn.verify().unwrap();
    assert_eq!(report.differing.len(), 1, "{report}");
    let repair = repair(&mut conn).unwrap();
    assert_eq!(
        repair.objects,
        ["trigger kms_data_key_version.kms_immutable_columns_kms_data_key_version"]
    );
    let report = conn.verify().unwrap();
    assert!(report.is_ok(), "{report}");
    // As Go inserts, with a time of its own.
    conn.create_scope("new");
    conn.execute(
        "insert into kms_data_key_version
           (private_id, data_key_id, root_key_version_id, key, version, create_time)
         values ('kdkv_g', 'kdk_new', 'krkv_2_new', x'0102', null, '2026-01-01 10:00:00+02:00')",
    );
}
