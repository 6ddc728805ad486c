//! Triggers and functions work whatever the session's `search_path`, time zone
//! and rights. Postgres only: SQLite has none of these.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use database::{Connection, TestDatabase};

#[test]
fn a_session_whose_search_path_lacks_the_schema_can_do_everything() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = in_schema(&database, "secrets");
    conn.migrate().unwrap();
    conn.execute("set search_path to pg_catalog; set timezone to 'Asia/Tokyo'");
    write_and_delete(&mut conn, "secrets");
    assert_eq!(conn.value("version", "secrets.kms_collection_version"), "3");
}

#[test]
fn a_schema_whose_name_needs_quotes_works() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = in_schema(&database, "\"My, Keys\"");
    conn.migrate().unwrap();
    assert!(conn.verify().unwrap().is_ok(), "{}", conn.verify().unwrap());
    conn.execute("set search_path to pg_catalog");
    write_and_delete(&mut conn, "\"My, Keys\"");
}

#[test]
fn two_schemas_of_one_database_do_not_touch_each_other() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    for schema in ["one", "two"] {
        let mut conn = in_schema(&database, schema);
        conn.migrate().unwrap();
        assert!(conn.verify().unwrap().is_ok());
    }
    let mut conn = database.connect();
    conn.execute("set search_path to two, one");
    write_and_delete(&mut conn, "one");
    assert_eq!(conn.value("version", "one.kms_collection_version"), "3");
    assert_eq!(conn.value("version", "two.kms_collection_version"), "1");
    conn.execute("set search_path to one, two");
    assert_eq!(
        conn.value(
            "two.kms_lock_for_change(true, '{}')",
            "generate_series(1, 1)"
        ),
        "ok"
    );
    assert_eq!(conn.value("version", "one.kms_collection_version"), "3");
    assert_eq!(conn.value("version", "two.kms_collection_version"), "2");
}

#[test]
fn temporary_tables_of_the_same_names_are_not_used() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.execute(
        "create temporary table kms_collection_version (version bigint);
         create temporary table kms_root_key_version (root_key_id text, version bigint);
         delete from public.kms_root_key;",
    );
    assert_eq!(conn.value("version", "public.kms_collection_version"), "2");
}

#[test]
fn a_role_with_rights_on_the_tables_alone_can_do_everything() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = in_schema(&database, "secrets");
    conn.migrate().unwrap();
    with_role(&mut conn, |conn, role| {
        conn.execute(&format!(
            "grant usage on schema secrets to {role};
             grant select, insert, update, delete on all tables in schema secrets to {role};
             set role {role};"
        ));
        conn.execute("set search_path to pg_catalog");
        write_and_delete(conn, "secrets");
        for call in [
            "secrets.kms_lock_for_change(true, '{krk_b}')",
            "secrets.kms_lock_key_version('krkv_1_b')",
        ] {
            let answer = conn.value(call, "generate_series(1, 1)");
            assert!(
                ["ok", "missing"].contains(&answer.as_str()),
                "{call}: {answer}"
            );
        }
    });
}

/// Numbering locks the root key and deletion bumps the counter: neither asks
/// the client for rights to update.
#[test]
fn inserting_and_deleting_need_no_right_to_update() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = in_schema(&database, "secrets");
    conn.migrate().unwrap();
    with_role(&mut conn, |conn, role| {
        conn.execute(&format!(
            "grant usage on schema secrets to {role};
             grant select, insert, delete on all tables in schema secrets to {role};
             set role {role};"
        ));
        conn.create_scope("a");
        conn.execute("delete from secrets.kms_root_key");
        assert_eq!(conn.collection_version(), 2);
        conn.refusal("update secrets.kms_collection_version set version = 9");
    });
}

#[test]
fn no_other_role_can_attach_a_definer_function_to_a_table_of_its_own() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    with_role(&mut conn, |conn, role| {
        conn.execute(&format!(
            "create schema theirs authorization {role}; set role {role};"
        ));
        conn.execute("create table theirs.t (root_key_id text, version bigint)");
        for function in [
            "kms_bump_collection_version",
            "kms_version_column",
            "kms_mark_kms_root_key",
            "kms_note_collection_version",
            "kms_forget_changes",
            "kms_leap_collection_version",
        ] {
            let message = conn.refusal(&format!(
                "create trigger t before insert on theirs.t for each row execute function public.{function}('root_key_id')"
            ));
            assert!(message.contains("permission denied"), "{message}");
        }
    });
}

#[test]
fn the_collection_versions_times_are_utc_in_every_time_zone() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.connect();
    conn.execute("set timezone to 'Asia/Tokyo'");
    conn.migrate().unwrap();
    conn.execute("update kms_collection_version set version = version + 1");
    let minutes = conn.value(
        "trunc(abs(extract(epoch from (now() at time zone 'utc') - update_time)) / 60)",
        "kms_collection_version",
    );
    assert_eq!(minutes, "0");
}

/// What they note of changes, the triggers write by the rights of whoever made
/// them; who asks what changed needs to read it.
#[test]
fn changing_keys_needs_no_right_on_what_is_noted_of_it() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = in_schema(&database, "secrets");
    conn.migrate().unwrap();
    with_role(&mut conn, |conn, role| {
        conn.execute(&format!(
            "grant usage on schema secrets to {role};
             grant select, insert, update, delete
               on secrets.kms_root_key, secrets.kms_root_key_version, secrets.kms_data_key,
                  secrets.kms_data_key_version, secrets.kms_collection_version
               to {role};
             set role {role};"
        ));
        conn.refusal("select * from secrets.kms_scope_change");
        conn.refusal("select * from secrets.kms_collection_history");
        write_and_delete(conn, "secrets");
        conn.execute("reset role");
        assert_eq!(conn.count("secrets.kms_collection_history"), 2);
        assert_eq!(conn.value("scope_id", "secrets.kms_scope_change"), "a");
        conn.execute(&format!(
            "grant select on secrets.kms_collection_history, secrets.kms_scope_change to {role};
             set role {role};
             select * from secrets.kms_collection_history, secrets.kms_scope_change"
        ));
        for write in [
            "delete from secrets.kms_scope_change",
            "insert into secrets.kms_scope_change values (9, 'a')",
            "delete from secrets.kms_collection_history",
        ] {
            conn.refusal(write);
        }
    });
}

/// Who may create objects beside the tables can't have the triggers call them.
#[test]
fn operators_and_functions_of_others_are_not_used() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = in_schema(&database, "secrets");
    conn.migrate().unwrap();
    with_role(&mut conn, |conn, role| {
        conn.execute(&format!(
            "grant usage, create on schema secrets to {role};
             grant usage on type secrets.kms_private_id, secrets.kms_version, secrets.kms_scope_id to {role};
             set role {role};
             set search_path to secrets;"
        ));
        for types in [
            "kms_private_id, kms_private_id",
            "kms_version, kms_version",
            "kms_version, int",
            "kms_version, bigint",
            "bigint, bigint",
            "bigint, int",
            "text, text",
        ] {
            let arguments = types.replacen(", ", ", b ", 1);
            conn.execute(&format!(
                "create function never(a {arguments}) returns boolean language plpgsql
                   as $$ begin raise exception 'called'; end $$"
            ));
            let (left, right) = types.split_once(", ").unwrap();
            for operator in ["=", "<>", "<"] {
                conn.execute(&format!(
                    "create operator {operator} (leftarg = {left}, rightarg = {right}, function = never)"
                ));
            }
        }
        conn.execute(
            "create function now() returns timestamptz language plpgsql as $$ begin raise exception 'called'; end $$;
             create function split_part(a text, b text, c int) returns text language plpgsql
               as $$ begin raise exception 'called'; end $$;
             create function set_config(a text, b text, c boolean) returns text language plpgsql
               as $$ begin raise exception 'called'; end $$;
             reset role;
             create temporary table kms_scope_change (collection_version bigint, scope_id text);
             set search_path to secrets, pg_catalog;",
        );
        let blob = conn.blob();
        conn.execute(&format!(
            "insert into secrets.kms_root_key (private_id, scope_id) values ('krk_a', 'a'), ('krk_b', 'b');
             set search_path to pg_catalog;
             begin;
             update secrets.kms_collection_version set version = 2;
             insert into secrets.kms_data_key (private_id, root_key_id, purpose) values ('kdk_a', 'krk_a', 'p');
             delete from secrets.kms_data_key;
             commit;
             set search_path to secrets, pg_catalog;
             update secrets.kms_collection_version set version = 3;
             update secrets.kms_root_key_version set key = {blob};
             delete from secrets.kms_data_key_version;
             set search_path to pg_catalog;
             delete from secrets.kms_root_key where scope_id = 'b';"
        ));
        assert_eq!(
            conn.values(
                "collection_version || ' ' || scope_id",
                "secrets.kms_scope_change order by 1"
            ),
            [Some("2 a".to_owned()), Some("4 b".to_owned())]
        );
    });
}

fn in_schema(database: &TestDatabase, schema: &str) -> Connection {
    let mut conn = database.connect();
    conn.execute(&format!(
        "create schema {schema}; set search_path to {schema}, public"
    ));
    conn
}

/// The role goes with the database.
fn with_role(conn: &mut Connection, steps: impl FnOnce(&mut Connection, &str)) {
    let role = conn.value("current_database()", "generate_series(1, 1)");
    conn.execute(&format!("create role {role}"));
    steps(conn, &role);
}

/// Every kind of write, with names qualified by the schema.
fn write_and_delete(conn: &mut Connection, schema: &str) {
    let blob = conn.blob();
    conn.execute(&format!(
        "insert into {schema}.kms_root_key (private_id, scope_id) values ('krk_a', 'a');
         insert into {schema}.kms_root_key_version (private_id, root_key_id, key) values ('krkv_a', 'krk_a', {blob});
         insert into {schema}.kms_root_key_version (private_id, root_key_id, key) values ('krkv_b', 'krk_a', {blob});
         insert into {schema}.kms_data_key (private_id, root_key_id, purpose) values ('kdk_a', 'krk_a', 'p');
         insert into {schema}.kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
           values ('kdkv_a', 'kdk_a', 'krkv_a', {blob});
         insert into {schema}.kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
           values ('kdkv_b', 'kdk_a', 'krkv_b', {blob});
         update {schema}.kms_collection_version set version = version + 1;"
    ));
    for table in ["kms_root_key_version", "kms_data_key_version"] {
        assert_eq!(
            conn.value("max(version)", &format!("{schema}.{table}")),
            "2"
        );
    }
    conn.refusal(&format!("update {schema}.kms_root_key set scope_id = 'x'"));
    conn.refusal(&format!(
        "delete from {schema}.kms_root_key_version where private_id = 'krkv_a'"
    ));
    conn.execute(&format!("delete from {schema}.kms_root_key"));
    assert_eq!(conn.count(&format!("{schema}.kms_data_key_version")), 0);
}
