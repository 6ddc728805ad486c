//! The scripts that rename a Go kms of another prefix touch what Go made, and nothing of the application's.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;
#[path = "support/go.rs"]
mod go;

use database::{Connection, TestDatabase};

const ON_POSTGRES: &str = include_str!("../../interop/sql/rename_prefix.postgres.sql");
const ON_SQLITE: &str = include_str!("../../interop/sql/rename_prefix.sqlite.sql");

fn creates_and_counts(conn: &mut Connection) {
    conn.adopt().unwrap();
    let report = conn.verify().unwrap();
    assert!(report.is_ok(), "{report}");
    conn.execute("insert into organization (id) values ('x')");
    conn.create_scope("x");
    assert_eq!(conn.count("app_audit"), 1);
}

#[test]
fn the_applications_own_objects_keep_their_names_on_postgres() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.connect();
    conn.execute(&go::GO_POSTGRES.replace("kms_", "app_"));
    conn.execute(
        "create domain app_currency as text constraint app_currency_check check (length(value) = 3);
         create domain app_version_label as text;
         create table organization (id text primary key, app_version_label app_version_label);
         create table app_audit (scope_id text, constraint app_audit_not_blank check (scope_id <> ''));
         create function app_note_scope() returns trigger language plpgsql as
           $$ begin insert into app_audit values (new.scope_id); return null; end $$;
         create trigger app_note_scope after insert on app_root_key for each row execute function app_note_scope();
         alter table app_root_key
           add constraint app_root_key_organization_fkey foreign key (scope_id) references organization (id);
         create index app_root_key_create_time_ix on app_root_key (create_time);",
    );
    conn.execute(&format!("begin; {ON_POSTGRES} commit"));
    for (kept, catalogue) in [
        ("app_currency", "pg_type where typname = 'app_currency'"),
        (
            "app_currency_check",
            "pg_constraint where conname = 'app_currency_check'",
        ),
        (
            "app_version_label",
            "pg_type where typname = 'app_version_label'",
        ),
        ("app_note_scope", "pg_proc where proname = 'app_note_scope'"),
        (
            "app_note_scope",
            "pg_trigger where tgname = 'app_note_scope'",
        ),
        (
            "app_root_key_organization_fkey",
            "pg_constraint where conname = 'app_root_key_organization_fkey'",
        ),
        (
            "app_root_key_create_time_ix",
            "pg_class where relname = 'app_root_key_create_time_ix'",
        ),
    ] {
        assert_eq!(conn.count(catalogue), 1, "{kept}");
    }
    creates_and_counts(&mut conn);
}

#[test]
fn the_applications_own_objects_keep_their_statements_on_sqlite() {
    let (_go, mut go) = go::made_by_go(false).unwrap();
    let made = go.values(
        "sql",
        "sqlite_schema where sql is not null and name like '%kms%'",
    );
    for prefix in ["app_", "root_"] {
        let database = TestDatabase::sqlite();
        let mut conn = database.connect();
        for statement in made.iter().flatten() {
            conn.execute(&statement.replace("kms_", prefix));
        }
        conn.execute(&format!(
            "insert into {prefix}schema_version (version) values ('v0.0.2');
             insert into {prefix}collection_version (version) values (1);
             create table organization (id text primary key);
             create table app_audit (scope_id text, {prefix}label text);
             create trigger app_note_scope after insert on {prefix}root_key
             begin
               insert into app_audit (scope_id, {prefix}label) select id, '{prefix}x' from organization
                 where id = new.scope_id;
             end;
             create index app_root_key_create_time_ix on {prefix}root_key (create_time);"
        ));
        let script = ON_SQLITE.replace("'app_'", &format!("'{prefix}'"));
        let statements = conn
            .values(
                "t",
                &format!("({})", script.trim_end().trim_end_matches(';')),
            )
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        conn.execute(&format!("begin; {} commit", statements.join("\n")));
        creates_and_counts(&mut conn);
        assert_eq!(
            conn.count(
                "sqlite_schema where name in ('app_note_scope', 'app_root_key_create_time_ix')"
            ),
            2
        );
        assert_eq!(
            conn.value(&format!("{prefix}label"), "app_audit"),
            format!("{prefix}x")
        );
    }
}
