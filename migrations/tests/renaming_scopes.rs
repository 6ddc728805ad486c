//! A scope gets another id by the one way that there is, and by no other.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use database::{Connection, TestDatabase};

on_both_databases! {
    a_scope_gets_another_id_and_whatever_references_its_versions_stays
    both_ids_are_noted_as_changed
    a_renaming_lets_no_other_update_through
    a_scope_does_not_get_an_id_that_is_taken
    a_row_that_the_application_lacks_stands_against_it
}

const MOVE: &str = "update kms_collection_version set version = version + 1";

fn rename(conn: &Connection, scope: &str, to: &str) -> String {
    match conn {
        Connection::Postgres(_) => format!("select kms_rename_scope('krk_{scope}', '{to}')"),
        Connection::Sqlite(_) => format!(
            "insert into kms_scope_renaming (root_key_id, scope_id) values ('krk_{scope}', '{to}')"
        ),
    }
}

fn a_scope_gets_another_id_and_whatever_references_its_versions_stays(database: &TestDatabase) {
    let mut conn = database.migrated();
    for scope in ["a", "b"] {
        conn.create_scope(scope);
    }
    conn.execute(
        "create table client (
           id text not null primary key,
           key_version_id text not null references kms_data_key_version (private_id) on delete restrict
         );
         insert into client values ('c', 'kdkv_1_a');
         insert into kms_scope_root (root_key_id, name) values ('krk_a', 'own');",
    );
    let rows = conn.key_rows();
    let rename = rename(&conn, "a", "z");
    conn.execute(&rename);
    let scopes = conn.values("scope_id", "kms_root_key order by private_id");
    assert_eq!(scopes, [Some("z".to_owned()), Some("b".to_owned())]);
    assert_eq!(conn.key_rows(), rows);
    assert_eq!(conn.value("key_version_id", "client"), "kdkv_1_a");
    assert_eq!(conn.value("root_key_id", "kms_scope_root"), "krk_a");
    if !database.is_postgres() {
        assert_eq!(conn.count("kms_scope_renaming"), 0);
    }
}

fn both_ids_are_noted_as_changed(database: &TestDatabase) {
    let mut conn = database.migrated();
    for scope in ["a", "b"] {
        conn.create_scope(scope);
    }
    conn.execute(MOVE);
    conn.execute(MOVE);
    let rename = rename(&conn, "a", "z");
    conn.execute(&format!("begin; {MOVE}; {rename}; commit;"));
    let version = conn.collection_version();
    let named = conn.values(
        "scope_id",
        &format!("kms_scope_change where collection_version = {version} order by scope_id"),
    );
    assert_eq!(named, [Some("a".to_owned()), Some("z".to_owned())]);
}

fn a_renaming_lets_no_other_update_through(database: &TestDatabase) {
    let mut conn = database.migrated();
    for scope in ["a", "b"] {
        conn.create_scope(scope);
    }
    let rename = rename(&conn, "a", "z");
    let refused = "immutable column: kms_root_key.scope_id";
    for update in [
        "update kms_root_key set scope_id = 'y' where private_id = 'krk_a'",
        "update kms_root_key set scope_id = 'y' where private_id = 'krk_b'",
    ] {
        // Neither in its transaction nor after it.
        conn.execute(&format!("begin; {rename};"));
        assert_eq!(conn.refusal(update), refused);
        conn.execute("rollback");
        conn.execute(&format!("begin; {rename}; commit;"));
        assert_eq!(conn.refusal(update), refused);
    }
    if database.is_postgres() {
        // What another transaction said, or of another root key.
        for said in [
            "1:krk_a",
            "' || pg_current_xact_id()::text || ':krk_b",
            "' || pg_current_xact_id()::text || ':",
        ] {
            conn.execute(&format!(
                "begin; select set_config('kms_kit.renaming', '{said}', true);"
            ));
            let update = "update kms_root_key set scope_id = 'y' where private_id = 'krk_a'";
            assert_eq!(conn.refusal(update), refused);
            conn.execute("rollback");
        }
    }
}

fn a_scope_does_not_get_an_id_that_is_taken(database: &TestDatabase) {
    let mut conn = database.migrated();
    for scope in ["a", "b"] {
        conn.create_scope(scope);
    }
    let taken = rename(&conn, "a", "b");
    let _ = conn.refusal(&taken);
    let scopes = conn.values("scope_id", "kms_root_key order by private_id");
    assert_eq!(scopes, [Some("a".to_owned()), Some("b".to_owned())]);
    // Nothing is left of it.
    let free = rename(&conn, "a", "z");
    conn.execute(&free);
}

fn a_row_that_the_application_lacks_stands_against_it(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.execute("create table organization (id text not null primary key)");
    conn.execute(if database.is_postgres() {
        "alter table kms_root_key add foreign key (scope_id) references organization (id) on delete cascade"
    } else {
        "alter table kms_root_key add column organization_id text
           generated always as (scope_id) virtual references organization (id) on delete cascade"
    });
    conn.execute("insert into organization values ('a')");
    conn.create_scope("a");
    let rename = rename(&conn, "a", "z");
    let _ = conn.refusal(&rename);
    assert_eq!(conn.value("scope_id", "kms_root_key"), "a");
    conn.execute("insert into organization values ('z')");
    conn.execute(&rename);
    conn.execute("delete from organization where id = 'a'");
    assert_eq!(conn.count("kms_root_key"), 1);
    conn.execute("delete from organization where id = 'z'");
    assert_eq!(conn.count("kms_root_key"), 0);
}

/// The function has no rights but its caller's.
#[test]
fn on_postgres_a_role_renames_that_may_update_root_keys_and_no_other() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    conn.create_scope("a");
    let role = conn.value("current_database()", "generate_series(1, 1)");
    conn.execute(&format!(
        "create role {role}; grant select, insert, delete on kms_root_key to {role};"
    ));
    let rename = rename(&conn, "a", "z");
    conn.execute(&format!("set role {role}"));
    let _ = conn.refusal(&rename);
    conn.execute(&format!(
        "reset role; grant update on kms_root_key to {role}; set role {role}; set search_path to pg_catalog;"
    ));
    conn.execute(&rename.replace("kms_rename_scope", "public.kms_rename_scope"));
    conn.execute(&format!(
        "reset role; set search_path to public; drop owned by {role}; drop role {role};"
    ));
    assert_eq!(conn.value("scope_id", "kms_root_key"), "z");
}
