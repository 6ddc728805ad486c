//! Databases that can't be taken over are refused by name, and left as they are.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;
#[path = "support/go.rs"]
mod go;

use database::{Connection, TestDatabase};
use go::{GO_POSTGRES, made_by_go};
use kms_migrations::ErrorKind;

on_databases_of_go! {
    running_instead_of_adopting_is_refused_and_changes_nothing
    a_wrong_version_is_refused_by_name
    a_missing_table_is_refused_by_name
    a_missing_column_is_refused_by_name
    a_missing_row_is_refused
    a_missing_trigger_is_refused_by_name
    a_missing_constraint_is_refused_by_name
    tables_of_ours_without_bookkeeping_are_refused
    unfinished_bookkeeping_is_refused_by_name
}

fn running_instead_of_adopting_is_refused_and_changes_nothing(
    _: &TestDatabase,
    conn: &mut Connection,
) {
    assert_refused(
        conn,
        |conn| conn.migrate().map(drop),
        &ErrorKind::NotAdopted,
    );
}

fn a_wrong_version_is_refused_by_name(_: &TestDatabase, conn: &mut Connection) {
    for found in ["v0.0.1", "v0.0.3"] {
        conn.execute(&format!(
            "update kms_schema_version set version = '{found}'"
        ));
        assert_refused(
            conn,
            |conn| conn.adopt().map(drop),
            &ErrorKind::WrongVersion {
                expected: "v0.0.2".to_owned(),
                found: found.to_owned(),
            },
        );
    }
    // As Go's own v0.0.1 is, without the collection version.
    conn.execute(
        "drop table kms_collection_version; update kms_schema_version set version = 'v0.0.1'",
    );
    let error = conn.adopt().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WrongVersion { .. }));
}

fn a_missing_table_is_refused_by_name(_: &TestDatabase, conn: &mut Connection) {
    conn.execute("drop table kms_data_key_version");
    assert_half_migrated(conn, "table kms_data_key_version");
    conn.execute("drop table kms_schema_version");
    let error = conn.adopt().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kms tables are incomplete, there is no table kms_schema_version, table kms_data_key_version: \
         finish the migrations that made them"
    );
}

fn a_missing_column_is_refused_by_name(_: &TestDatabase, conn: &mut Connection) {
    conn.execute("alter table kms_data_key rename column purpose to reason");
    assert_half_migrated(conn, "column kms_data_key.purpose");
}

fn a_missing_row_is_refused(_: &TestDatabase, conn: &mut Connection) {
    conn.execute("delete from kms_collection_version");
    assert_half_migrated(conn, "row in kms_collection_version");
}

/// Any of those that Go made. (That each of them is in the list, `interop` shows on Go's own migrations.)
fn a_missing_trigger_is_refused_by_name(_: &TestDatabase, conn: &mut Connection) {
    let (sql, missing) = match conn {
        Connection::Postgres(_) => (
            "drop trigger kms_version_column on kms_data_key_version",
            "trigger kms_data_key_version.kms_version_column",
        ),
        Connection::Sqlite(_) => (
            "drop trigger version_column_kms_data_key_version",
            "trigger kms_data_key_version.version_column_kms_data_key_version",
        ),
    };
    conn.execute(sql);
    assert_half_migrated(conn, missing);
}

/// As of a database made by a release of Go's from before it named them. (All of them: `interop`, as above.)
fn a_missing_constraint_is_refused_by_name(_: &TestDatabase, conn: &mut Connection) {
    let (sql, missing) = match conn {
        Connection::Postgres(_) => (
            "alter table kms_data_key_version rename constraint kms_root_key_version_fkey to some_fkey",
            "constraint kms_data_key_version.kms_root_key_version_fkey",
        ),
        Connection::Sqlite(_) => (
            "drop index kms_collection_version_one_row",
            "index kms_collection_version.kms_collection_version_one_row",
        ),
    };
    conn.execute(sql);
    assert_half_migrated(conn, missing);
}

fn tables_of_ours_without_bookkeeping_are_refused(_: &TestDatabase, conn: &mut Connection) {
    conn.execute("create table kms_campaign (id text primary key)");
    let error = conn.adopt().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NotAdoptable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("kms_campaign.id"), "{error}");
}

fn unfinished_bookkeeping_is_refused_by_name(_: &TestDatabase, conn: &mut Connection) {
    conn.adopt().unwrap();
    conn.execute("delete from __diesel_schema_migrations where version = '00000000000000kms0002'");
    let error = conn.adopt().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::HalfMigrated { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("migration 00000000000000-kms-0002_shared"),
        "{error}"
    );
}

#[test]
fn an_empty_database_has_nothing_to_adopt() {
    for database in [Some(TestDatabase::sqlite()), TestDatabase::postgres()]
        .into_iter()
        .flatten()
    {
        let error = database.connect().adopt().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::NotMigrated);
    }
}

#[test]
fn each_step_of_gos_migrations_before_v0_0_2_is_refused_and_nothing_changes() {
    let steps = GO_POSTGRES
        .match_indices("-- step 0")
        .map(|(at, _)| at)
        .collect::<Vec<_>>();
    for (number, end) in (1..=5).zip(&steps[1..]) {
        let Some(database) = TestDatabase::postgres() else {
            return;
        };
        let mut conn = database.connect();
        conn.execute(&GO_POSTGRES[..*end]);
        let before = conn.catalogue().unwrap();
        let error = conn.adopt().unwrap_err();
        match (number, error.kind()) {
            (1, ErrorKind::NotMigrated) | (2..=5, ErrorKind::WrongVersion { .. }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(conn.catalogue().unwrap(), before);
    }
}

#[test]
fn tables_in_another_schema_than_the_current_one_are_refused_with_both_names() {
    let Some((_database, mut conn)) = made_by_go(true) else {
        return;
    };
    conn.execute("create schema mine; set search_path to mine, public");
    let error = conn.adopt().unwrap_err();
    assert_eq!(
        error.kind(),
        &ErrorKind::OtherSchema {
            found: "public".to_owned(),
            current: "mine".to_owned(),
        }
    );
    assert_eq!(
        conn.count("pg_class where relnamespace = 'mine'::regnamespace"),
        0
    );
}

fn assert_half_migrated(conn: &mut Connection, missing: &str) {
    let missing = vec![missing.to_owned()];
    assert_refused(
        conn,
        |conn| conn.adopt().map(drop),
        &ErrorKind::HalfMigrated { missing },
    );
}

/// Refused, of that kind, and nothing changed, diesel's bookkeeping included.
fn assert_refused(
    conn: &mut Connection,
    step: impl FnOnce(&mut Connection) -> kms_migrations::Result<()>,
    kind: &ErrorKind,
) {
    let before = conn.catalogue().unwrap();
    let error = step(conn).unwrap_err();
    assert_eq!(error.kind(), kind);
    assert_eq!(conn.catalogue().unwrap(), before);
    assert_eq!(conn.status().unwrap().applied, []);
    let bookkeeping = match conn {
        Connection::Postgres(_) => "pg_class where relname = '__diesel_schema_migrations'",
        Connection::Sqlite(_) => "sqlite_schema where name = '__diesel_schema_migrations'",
    };
    assert_eq!(conn.count(bookkeeping), 0);
}
