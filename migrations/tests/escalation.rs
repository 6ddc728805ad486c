//! A role that may create objects beside the tables gets nobody else's rights. Postgres only: SQLite has no roles.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;
#[path = "support/go.rs"]
mod go;

use database::{Connection, TestDatabase};

/// The types between which the functions compare or count.
const PAIRS: [(&str, &str); 9] = [
    ("kms_private_id", "kms_private_id"),
    ("kms_private_id", "text"),
    ("text", "kms_private_id"),
    ("kms_version", "int"),
    ("kms_version", "bigint"),
    ("kms_version", "kms_version"),
    ("bigint", "int"),
    ("bigint", "bigint"),
    ("text", "text"),
];

#[test]
fn an_operator_of_a_role_that_may_create_is_not_run_by_anybody_else() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.connect();
    conn.execute("create schema secrets; set search_path to secrets");
    conn.migrate().unwrap();
    the_trap_is_not_sprung(&database, &mut conn);
}

#[test]
fn nor_on_a_database_that_go_made_and_that_was_adopted() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.connect();
    conn.execute("create schema secrets; set search_path to secrets");
    conn.execute(go::GO_POSTGRES);
    conn.adopt().unwrap();
    the_trap_is_not_sprung(&database, &mut conn);
}

fn the_trap_is_not_sprung(database: &TestDatabase, conn: &mut Connection) {
    let role = database.role(conn, "");
    conn.create_scope("a");
    conn.execute(&format!(
        "grant usage, create on schema secrets to {role};
         grant usage on type kms_private_id, kms_version, kms_scope_id to {role};
         grant select, insert, update, delete on all tables in schema secrets to {role};
         set role {role};
         create table secrets.caught (who text);
         grant insert on secrets.caught to public;"
    ));
    for (left, right) in PAIRS {
        conn.execute(&format!(
            "create function secrets.trap(a {left}, b {right}) returns boolean language plpgsql as $$
             begin insert into secrets.caught values (current_user); return true; end $$"
        ));
        for operator in ["=", "<>", "<", ">"] {
            conn.execute(&format!(
                "create operator secrets.{operator} (leftarg = {left}, rightarg = {right}, function = secrets.trap)"
            ));
        }
        conn.execute(&format!(
            "create function secrets.count(a {left}, b {right}) returns bigint language plpgsql as $$
             begin insert into secrets.caught values (current_user); return 1; end $$;
             create operator secrets.+ (leftarg = {left}, rightarg = {right}, function = secrets.count)"
        ));
    }
    let blob = conn.blob();
    // The role's own insertion, and what the owner calls, from whatever search_path.
    for session in [
        format!("set role {role}; set search_path to pg_catalog, secrets"),
        "reset role; set search_path to pg_catalog, secrets".to_owned(),
    ] {
        conn.execute(&session);
        conn.execute(&format!(
            "insert into secrets.kms_root_key_version (private_id, root_key_id, key)
               values ('krkv_' || current_user, 'krk_a', {blob});
             insert into secrets.kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
               values ('kdkv_' || current_user, 'kdk_a', 'krkv_1_a', {blob});
             update secrets.kms_data_key_version set root_key_version_id = 'krkv_2_a', key = {blob};
             do $$ begin
               perform secrets.kms_lock_for_change(true, '{{krk_a}}');
               perform secrets.kms_lock_key_version('kdkv_1_a');
             end $$;
             delete from secrets.kms_root_key_version where starts_with(private_id::text, 'krkv_none');"
        ));
    }
    conn.execute("set search_path to secrets, public");
    let caught: Vec<_> = conn
        .values("who", "secrets.caught group by who")
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(caught, Vec::<String>::new(), "called as");
    let report = conn.verify().unwrap();
    assert_eq!(report.creators, [role.trim_matches('"')]);
    assert!(
        report.to_string().contains("may create objects beside"),
        "{report}"
    );
    conn.execute(&format!(
        "drop schema secrets cascade; drop owned by {role}"
    ));
}

#[test]
fn no_function_of_ours_looks_anywhere_but_in_pg_catalog() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    let elsewhere = conn.values(
        "proname",
        "pg_proc where proname like 'kms\\_%' and not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig), false)",
    );
    assert_eq!(elsewhere, []);
}

#[test]
fn a_schema_in_which_every_role_may_create_is_named() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    assert_eq!(conn.verify().unwrap().creators, Vec::<String>::new());
    conn.execute("grant create on schema public to public");
    let report = conn.verify().unwrap();
    assert_eq!(report.creators, ["public"]);
    assert!(report.is_ok());
}
