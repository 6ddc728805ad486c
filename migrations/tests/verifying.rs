//! What `verify` says, and that what it expects is what the migrations make.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use database::TestDatabase;
use kms_migrations::ErrorKind;

on_both_databases! {
    the_expected_catalogue_is_what_the_migrations_make
    an_empty_database_is_not_migrated
    what_is_missing_is_named
    what_differs_is_named_with_both_definitions
    what_the_application_adds_is_listed_and_no_fault
    odd_rows_are_listed_and_no_fault
    scope_ids_that_the_engine_refuses_are_listed
}

/// `KMS_UPDATE_EXPECTED=1` writes it anew after a migration was added.
fn the_expected_catalogue_is_what_the_migrations_make(database: &TestDatabase) {
    let made = database.migrated().catalogue().unwrap().to_string();
    let folder = if database.is_postgres() {
        "postgres"
    } else {
        "sqlite"
    };
    let path = format!("{}/src/{folder}/expected.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("KMS_UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert_eq!(made, std::fs::read_to_string(&path).unwrap(), "{path}");
}

fn an_empty_database_is_not_migrated(database: &TestDatabase) {
    let error = database.connect().verify().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotMigrated);
}

fn what_is_missing_is_named(database: &TestDatabase) {
    let mut conn = database.migrated();
    assert!(conn.verify().unwrap().is_ok());
    let (trigger, statement) = if database.is_postgres() {
        (
            "trigger kms_root_key.kms_immutable_columns",
            "drop trigger kms_immutable_columns on kms_root_key",
        )
    } else {
        (
            "trigger kms_root_key.kms_immutable_columns_kms_root_key",
            "drop trigger kms_immutable_columns_kms_root_key",
        )
    };
    conn.execute(statement);
    conn.execute("drop index kms_data_key_version_root_key_version_id_ix");
    conn.execute("delete from kms_collection_version");
    let report = conn.verify().unwrap();
    assert!(!report.is_ok());
    assert_eq!(
        report.missing,
        [
            "index kms_data_key_version.kms_data_key_version_root_key_version_id_ix",
            trigger,
            "row in kms_collection_version",
        ]
    );
}

fn what_differs_is_named_with_both_definitions(database: &TestDatabase) {
    let mut conn = database.migrated();
    if database.is_postgres() {
        conn.execute(
            "create or replace trigger kms_immutable_columns before update on kms_data_key_version
             for each row execute function
               kms_immutable_columns('private_id', 'data_key_id', 'root_key_version_id', 'create_time');
             alter table kms_root_key_version alter column create_time set not null;
             alter table kms_root_key disable trigger kms_bump_collection_version_on_delete;
             alter function kms_version_column() reset search_path;",
        );
    } else {
        conn.execute(
            "drop trigger kms_immutable_columns_kms_data_key_version;
             create trigger kms_immutable_columns_kms_data_key_version
             before update on kms_data_key_version
             when new.root_key_version_id <> old.root_key_version_id
             begin select raise(abort, 'immutable'); end;",
        );
    }
    let report = conn.verify().unwrap();
    let differing: Vec<&str> = report
        .differing
        .iter()
        .map(|difference| difference.object.as_str())
        .collect();
    if database.is_postgres() {
        assert_eq!(
            differing,
            [
                "column kms_root_key_version.create_time",
                "function kms_version_column()",
                "trigger kms_data_key_version.kms_immutable_columns",
                "trigger kms_root_key.kms_bump_collection_version_on_delete",
            ]
        );
    } else {
        assert_eq!(
            differing,
            ["trigger kms_data_key_version.kms_immutable_columns_kms_data_key_version"]
        );
    }
    let text = report.to_string();
    assert!(text.contains("root_key_version_id"), "{text}");
    assert!(report.missing.is_empty());
}

fn what_the_application_adds_is_listed_and_no_fault(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.execute("create index application_ix on kms_root_key (create_time)");
    let report = conn.verify().unwrap();
    assert!(report.is_ok());
    assert_eq!(report.beyond, ["index kms_root_key.application_ix"]);
}

fn odd_rows_are_listed_and_no_fault(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.create_scope("b");
    conn.execute(
        "insert into kms_data_key (private_id, root_key_id, purpose) values ('kdk_bare', 'krk_a', 'bare');
         update kms_data_key_version set root_key_version_id = 'krkv_1_b' where private_id = 'kdkv_1_a';",
    );
    let report = conn.verify().unwrap();
    assert!(report.is_ok());
    let odd: Vec<String> = report.oddities.iter().map(ToString::to_string).collect();
    assert_eq!(
        odd,
        [
            r#"kms_data_key: 1 rows have no version (["kdk_bare"])"#,
            r#"kms_data_key_version: 1 rows are wrapped by a root key version of another scope (["kdkv_1_a"])"#,
        ]
    );
}

fn scope_ids_that_the_engine_refuses_are_listed(database: &TestDatabase) {
    let mut conn = database.migrated();
    let long = "x".repeat(256);
    for (number, scope) in ["good", " before", "after\u{a0}", &long, "ü\u{3000}ok"]
        .iter()
        .enumerate()
    {
        conn.execute(&format!(
            "insert into kms_root_key (private_id, scope_id) values ('krk_{number}', '{scope}');
             insert into kms_root_key_version (private_id, root_key_id, key)
               values ('krkv_{number}', 'krk_{number}', {})",
            conn.blob()
        ));
    }
    let report = conn.verify().unwrap();
    assert!(report.is_ok());
    let [odd] = &report.oddities[..] else {
        panic!("{report}");
    };
    assert_eq!(odd.rule, "have a scope id that ScopeId::new refuses");
    assert_eq!(odd.rows, 3);
    let mut ids = odd.ids.clone();
    ids.sort();
    assert_eq!(ids, [" before", "after\u{a0}", &long]);
}

/// As rows were before a restore kept numbers and times.
#[test]
fn versions_that_a_copy_may_have_numbered_anew_are_listed() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    let versions = |times: [&str; 4]| {
        format!(
            "set kms_kit.restoring = on;
             delete from kms_root_key;
             insert into kms_root_key (private_id, scope_id) values ('krk_a', 'a'), ('krk_b', 'b');
             insert into kms_root_key_version (private_id, root_key_id, version, key, create_time) values
               ('krkv_a1', 'krk_a', 1, 'x', '{}'), ('krkv_a2', 'krk_a', 2, 'x', '{}'),
               ('krkv_b1', 'krk_b', 1, 'x', '{}'), ('krkv_b2', 'krk_b', 2, 'x', '{}');
             reset kms_kit.restoring;",
            times[0], times[1], times[2], times[3]
        )
    };
    let (old, new) = ("2026-01-01 10:00:00", "2026-02-01 10:00:00");
    // Two scopes rotated in one transaction.
    conn.execute(&versions([old, new, old, new]));
    assert_eq!(conn.verify().unwrap().oddities, []);
    conn.execute(&versions([new, new, new, new]));
    let report = conn.verify().unwrap();
    assert!(report.is_ok());
    assert_eq!(report.oddities.len(), 1, "{report}");
    assert_eq!(report.oddities[0].rows, 4);
    assert!(report.to_string().contains("prove_numbers"), "{report}");
}
