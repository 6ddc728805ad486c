//! Up, down and up again leaves the same schema.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use database::{Connection, TestDatabase};
use diesel_migrations::MigrationHarness;

on_both_databases! {
    down_leaves_nothing_and_up_again_the_same_schema
    each_migration_alone_is_undone_by_its_down
}

fn down_leaves_nothing_and_up_again_the_same_schema(database: &TestDatabase) {
    let mut conn = database.migrated();
    let first = everything(&mut conn);
    assert!(
        first
            .iter()
            .any(|object| object.contains("kms_data_key_version"))
    );

    revert_all(&mut conn);
    assert!(conn.catalogue().unwrap().is_empty());
    let left = everything(&mut conn);
    assert!(
        !left.iter().any(|object| object.contains("kms_")),
        "{left:#?}"
    );

    conn.migrate().unwrap();
    assert_eq!(everything(&mut conn), first);
}

fn each_migration_alone_is_undone_by_its_down(database: &TestDatabase) {
    let mut conn = database.connect();
    let mut stages = vec![everything_of_ours(&mut conn)];
    let count = conn.status().unwrap().pending.len();
    for _ in 0..count {
        match &mut conn {
            Connection::Sqlite(conn) => {
                conn.run_next_migration(kms_migrations::sqlite::MIGRATIONS)
                    .unwrap();
            }
            Connection::Postgres(conn) => {
                conn.run_next_migration(kms_migrations::postgres::MIGRATIONS)
                    .unwrap();
            }
        }
        stages.push(everything_of_ours(&mut conn));
    }
    while let Some(stage) = stages.pop() {
        assert_eq!(
            everything_of_ours(&mut conn),
            stage,
            "{} stages left",
            stages.len()
        );
        if stages.is_empty() {
            break;
        }
        match &mut conn {
            Connection::Sqlite(conn) => {
                conn.revert_last_migration(kms_migrations::sqlite::MIGRATIONS)
                    .unwrap();
            }
            Connection::Postgres(conn) => {
                conn.revert_last_migration(kms_migrations::postgres::MIGRATIONS)
                    .unwrap();
            }
        }
    }
}

fn revert_all(conn: &mut Connection) {
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
}

fn everything_of_ours(conn: &mut Connection) -> Vec<String> {
    let mut objects = everything(conn);
    objects.retain(|object| object.contains("kms_"));
    objects
}

/// The whole schema as the database describes it, independent of what
/// `catalogue` chooses to read.
fn everything(conn: &mut Connection) -> Vec<String> {
    let queries: &[(&str, &str)] = match conn {
        Connection::Sqlite(_) => &[(
            "type || ' ' || name || coalesce(': ' || sql, '')",
            "sqlite_schema",
        )],
        Connection::Postgres(_) => &[
            (
                "c.relkind::text || ' ' || c.relname || '.' || coalesce(a.attname, '') || ': ' || \
                 coalesce(format_type(a.atttypid, a.atttypmod) || a.attnotnull, '') || \
                 coalesce(pg_get_expr(d.adbin, d.adrelid), '')",
                "pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
                 left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum \
                 where c.relnamespace = 'public'::regnamespace",
            ),
            (
                "conname || ' on ' || conrelid::regclass || ' ' || convalidated || pg_get_constraintdef(oid)",
                "pg_constraint where connamespace = 'public'::regnamespace and contypid = 0",
            ),
            (
                "conname || ' on ' || contypid::regtype || ' ' || convalidated || pg_get_constraintdef(oid)",
                "pg_constraint where connamespace = 'public'::regnamespace and contypid <> 0",
            ),
            ("indexdef", "pg_indexes where schemaname = 'public'"),
            (
                "pg_get_triggerdef(t.oid) || t.tgenabled::text",
                "pg_trigger t join pg_class c on c.oid = t.tgrelid \
                 where c.relnamespace = 'public'::regnamespace and not t.tgisinternal",
            ),
            (
                "pg_get_functiondef(oid) || coalesce(array_to_string(proacl, ','), '')",
                "pg_proc where pronamespace = 'public'::regnamespace",
            ),
            (
                "typname || typtype::text || coalesce(format_type(typbasetype, typtypmod), '') || typnotnull || coalesce(typdefault, '')",
                "pg_type where typnamespace = 'public'::regnamespace",
            ),
            (
                "objtype || ' ' || objname || ': ' || description",
                "(select c.relname as objname, 'relation' as objtype, d.description from pg_description d \
                 join pg_class c on c.oid = d.objoid where c.relnamespace = 'public'::regnamespace \
                 union all select t.typname, 'type', d.description from pg_description d \
                 join pg_type t on t.oid = d.objoid where t.typnamespace = 'public'::regnamespace \
                 union all select p.proname, 'function', d.description from pg_description d \
                 join pg_proc p on p.oid = d.objoid where p.pronamespace = 'public'::regnamespace) x",
            ),
        ],
    };
    let mut objects: Vec<String> = queries
        .iter()
        .flat_map(|(expression, from)| conn.values(expression, from))
        .map(Option::unwrap)
        .collect();
    // The bookkeeping table stays, and its index has no order to speak of.
    objects.sort();
    objects
}
