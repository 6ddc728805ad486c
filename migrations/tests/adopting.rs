//! Taking over databases that Go kms made.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;
#[path = "support/go.rs"]
mod go;

use database::{Connection, TestDatabase};
use go::{GO_POSTGRES, made_by_go};
use kms_migrations::Catalogue;

on_databases_of_go! {
    an_adopted_database_passes_verification_and_keeps_its_rows
    adopting_again_changes_nothing
    several_adopt_at_once
    an_adopted_database_can_be_reverted_and_migrated_again
    a_root_key_version_in_use_stays_and_a_scope_goes_whole
    inserts_of_go_are_numbered_and_timed_by_the_database
    a_client_cannot_set_create_time_or_version
    blank_ids_and_purposes_are_refused_from_now_on
    rewrapping_may_change_the_wrapping_root_key_version
}

fn an_adopted_database_passes_verification_and_keeps_its_rows(
    _: &TestDatabase,
    conn: &mut Connection,
) {
    let rows = conn.key_rows();
    let collection_version = conn.collection_version();
    assert!(!conn.verify().unwrap().is_ok());

    let adoption = conn.adopt().unwrap();
    assert!(!adoption.already_adopted);
    assert!(
        adoption
            .marked
            .iter()
            .any(|name| name.as_str().ends_with("_shared_keys"))
    );
    assert!(
        adoption
            .ran
            .iter()
            .any(|name| name.as_str().ends_with("_own_campaigns"))
    );

    let report = conn.verify().unwrap();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.oddities, []);
    assert_eq!(conn.key_rows(), rows);
    assert_eq!(conn.collection_version(), collection_version);
    let status = conn.status().unwrap();
    assert!(status.is_current());
    assert_eq!(status.schema_version.as_deref(), Some("v0.0.2"));
    assert_eq!(
        status.extension_version.as_deref(),
        Some(kms_migrations::EXTENSION_VERSION)
    );
}

fn adopting_again_changes_nothing(_: &TestDatabase, conn: &mut Connection) {
    conn.adopt().unwrap();
    let before = conn.catalogue().unwrap();
    let again = conn.adopt().unwrap();
    assert!(again.already_adopted);
    assert_eq!(again.ran, []);
    assert_eq!(conn.catalogue().unwrap(), before);
    assert_eq!(conn.migrate().unwrap(), []);
}

fn several_adopt_at_once(database: &TestDatabase, conn: &mut Connection) {
    let barrier = std::sync::Barrier::new(4);
    let first = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut conn = database.connect();
                    barrier.wait();
                    conn.adopt().unwrap()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .filter(|adoption| !adoption.already_adopted)
            .count()
    });
    assert_eq!(first, 1);
    assert!(conn.verify().unwrap().is_ok());
}

fn an_adopted_database_can_be_reverted_and_migrated_again(_: &TestDatabase, conn: &mut Connection) {
    use diesel_migrations::MigrationHarness;
    conn.adopt().unwrap();
    match conn {
        Connection::Sqlite(conn) => {
            conn.revert_all_migrations(kms_migrations::sqlite::MIGRATIONS)
                .unwrap();
        }
        Connection::Postgres(conn) => {
            conn.revert_all_migrations(kms_migrations::postgres::MIGRATIONS)
                .unwrap();
        }
    }
    assert!(conn.catalogue().unwrap().is_empty());
    conn.migrate().unwrap();
    assert!(conn.verify().unwrap().is_ok());
}

fn a_root_key_version_in_use_stays_and_a_scope_goes_whole(_: &TestDatabase, conn: &mut Connection) {
    conn.adopt().unwrap();
    conn.create_scope("new");
    let rows = conn.key_rows();
    conn.refusal("delete from kms_root_key_version where private_id = 'krkv_1_new'");
    assert_eq!(conn.key_rows(), rows);
    let before = conn.collection_version();
    conn.execute("delete from kms_root_key where scope_id <> 'new'");
    assert_eq!(conn.key_rows(), [1, 2, 1, 2]);
    assert!(conn.collection_version() > before);
}

fn inserts_of_go_are_numbered_and_timed_by_the_database(
    database: &TestDatabase,
    conn: &mut Connection,
) {
    conn.adopt().unwrap();
    conn.create_scope("new");
    let version = if database.is_postgres() {
        "default"
    } else {
        "null"
    };
    let blob = conn.blob();
    conn.execute(&format!(
        "insert into kms_root_key_version (private_id, root_key_id, key, version, create_time)
           values ('krkv_3_new', 'krk_new', {blob}, {version}, '2026-01-01 10:00:00+02:00');
         insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key, version)
           values ('kdkv_3_new', 'kdk_new', 'krkv_3_new', {blob}, {version});
         update kms_collection_version set version = version + 1;"
    ));
    let version_of = |conn: &mut Connection, table: &str, id: &str| {
        conn.value("version", &format!("{table} where private_id = '{id}'"))
    };
    assert_eq!(version_of(conn, "kms_root_key_version", "krkv_3_new"), "3");
    assert_eq!(version_of(conn, "kms_data_key_version", "kdkv_3_new"), "3");
}

fn a_client_cannot_set_create_time_or_version(_: &TestDatabase, conn: &mut Connection) {
    conn.adopt().unwrap();
    conn.create_scope("new");
    let blob = conn.blob();
    let insert = |version: i64| {
        format!(
            "insert into kms_root_key_version (private_id, root_key_id, key, version, create_time)
             values ('krkv_3_new', 'krk_new', {blob}, {version}, '2001-01-01 00:00:00')"
        )
    };
    conn.refusal(&insert(70));
    conn.execute(&insert(3));
    let row = "kms_root_key_version where private_id = 'krkv_3_new'";
    assert_eq!(conn.value("version", row), "3");
    assert!(!conn.value("create_time", row).starts_with("2001"));
    conn.refusal("update kms_root_key set create_time = '2001-01-01 00:00:00'");
}

fn blank_ids_and_purposes_are_refused_from_now_on(_: &TestDatabase, conn: &mut Connection) {
    let blob = conn.blob();
    // What Go's constraints let through.
    conn.execute(
        "insert into kms_root_key (private_id, scope_id) values ('krk_odd', 'odd');
         insert into kms_data_key (private_id, root_key_id, purpose) values ('kdk_odd', 'krk_odd', '');
         insert into kms_data_key (private_id, root_key_id, purpose) values ('kdk_tab', 'krk_odd', 'x\t');"
            .replace("\\t", "\t")
            .as_str(),
    );
    if let Connection::Sqlite(_) = conn {
        conn.execute(&format!(
            "insert into kms_root_key_version (private_id, root_key_id, key) values ('1 ', 'krk_odd', {blob})"
        ));
    }
    conn.adopt().unwrap();
    let report = conn.verify().unwrap();
    assert!(report.is_ok(), "{report}");
    let odd = report.to_string();
    assert!(
        odd.contains(r#"have an empty purpose (["kdk_odd"])"#),
        "{odd}"
    );
    assert!(
        odd.contains(r#"have white space at an end of the purpose (["kdk_tab"])"#),
        "{odd}"
    );

    for statement in [
        "insert into kms_root_key (private_id, scope_id) values ('krk_x', '\t')".to_owned(),
        "insert into kms_root_key (private_id, scope_id) values (' ', 'x')".to_owned(),
        "insert into kms_data_key (private_id, root_key_id, purpose) values ('kdk_x', 'krk_odd', 'x\n')".to_owned(),
        format!("insert into kms_root_key_version (private_id, root_key_id, key) values ('', 'krk_odd', {blob})"),
    ] {
        conn.refusal(&statement);
    }
    conn.execute("delete from kms_root_key where private_id = 'krk_odd'");
}

fn rewrapping_may_change_the_wrapping_root_key_version(_: &TestDatabase, conn: &mut Connection) {
    // As before the last of Go's migrations.
    match conn {
        Connection::Postgres(_) => conn.execute(
            "drop trigger kms_immutable_columns on kms_data_key_version;
             create trigger kms_immutable_columns before update on kms_data_key_version
             for each row execute procedure
               kms_immutable_columns('private_id', 'data_key_id', 'root_key_version_id', 'create_time')",
        ),
        Connection::Sqlite(_) => conn.execute(
            "drop trigger kms_immutable_columns_kms_data_key_version;
             create trigger kms_immutable_columns_kms_data_key_version
             before update on kms_data_key_version for each row
             when new.private_id <> old.private_id or new.root_key_version_id <> old.root_key_version_id
             begin select raise(abort, 'immutable column'); end;",
        ),
    }
    conn.create_scope("new");
    let rewrap = "update kms_data_key_version set root_key_version_id = 'krkv_2_new' where private_id = 'kdkv_1_new'";
    conn.refusal(rewrap);
    let report = conn.verify().unwrap().to_string();
    assert!(
        report.contains("trigger kms_data_key_version.kms_immutable_columns"),
        "{report}"
    );

    let adoption = conn.adopt().unwrap();
    assert!(
        adoption
            .mended
            .iter()
            .any(|object| object.starts_with("trigger kms_data_key_version.kms_immutable_columns")),
        "{:?}",
        adoption.mended
    );
    conn.execute(rewrap);
    assert!(conn.verify().unwrap().is_ok());
}

#[test]
fn a_database_that_ours_made_is_adopted_already() {
    for database in [Some(TestDatabase::sqlite()), TestDatabase::postgres()]
        .into_iter()
        .flatten()
    {
        assert!(database.migrated().adopt().unwrap().already_adopted);
    }
}

#[test]
fn a_postgres_database_without_gos_last_migration_is_adopted() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.connect();
    conn.execute(&GO_POSTGRES[..GO_POSTGRES.find("-- step 07").unwrap()]);
    conn.adopt().unwrap();
    assert!(conn.verify().unwrap().is_ok());
}

#[test]
fn an_adopted_postgres_database_equals_a_migrated_one() {
    let (Some((_adopted, mut adopted)), Some(migrated)) =
        (made_by_go(true), TestDatabase::postgres())
    else {
        return;
    };
    adopted.adopt().unwrap();
    let migrated: Catalogue = migrated.migrated().catalogue().unwrap();
    assert_eq!(adopted.catalogue().unwrap(), migrated);
}

#[test]
fn what_go_left_in_its_sqlite_tables_is_tolerated_by_name() {
    let (_database, mut conn) = made_by_go(false).unwrap();
    conn.adopt().unwrap();
    let report = conn.verify().unwrap();
    let tolerated: Vec<&str> = report
        .tolerated
        .iter()
        .map(|found| found.object.as_str())
        .collect();
    assert!(
        tolerated.contains(
            &"foreign key kms_data_key_version.root_key_version_id->kms_root_key_version"
        ),
        "{tolerated:?}"
    );
    conn.execute("drop trigger kms_restrict_root_key_version");
    let report = conn.verify().unwrap();
    assert!(
        report
            .differing
            .iter()
            .any(|found| found.object.starts_with("foreign key")),
        "without what stands in for it, it is no longer tolerated: {report}"
    );
}

#[test]
fn a_postgres_schema_of_another_name_is_adopted() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.connect();
    conn.execute("create schema keys; set search_path to keys");
    conn.execute(GO_POSTGRES);
    conn.adopt().unwrap();
    assert!(conn.verify().unwrap().is_ok());
    conn.execute("set search_path to pg_catalog");
    conn.execute("insert into keys.kms_root_key (private_id, scope_id) values ('krk_a', 'a')");
    conn.execute("insert into keys.kms_root_key_version (private_id, root_key_id, key) values ('krkv_a', 'krk_a', 'x')");
    conn.execute("delete from keys.kms_root_key");
    assert_eq!(conn.value("version", "keys.kms_collection_version"), "2");
}
