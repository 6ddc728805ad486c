//! Rows that are copied into another database keep their numbers and times, or are refused.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use std::path::{Path, PathBuf};
use std::process::Command;

use database::{Connection, TestDatabase};

on_both_databases! {
    rows_that_another_tool_copies_are_refused_unless_it_says_that_it_restores
    keys_made_after_a_restore_go_on_from_the_highest_number
    versions_get_back_their_numbers_all_or_none
}

/// Versions as they are after rotations, rewraps and revocations: with gaps, and not in the order of their numbers.
const ROWS: [(&str, &str); 4] = [
    (
        "kms_root_key (private_id, scope_id, create_time)",
        "('krk_a', 'a', '2026-01-01 10:00:00'), ('krk_b', 'b', '2026-01-02 10:00:00')",
    ),
    (
        "kms_root_key_version (private_id, root_key_id, version, key, create_time)",
        "('krkv_a7', 'krk_a', 7, BLOB, '2026-03-01 10:00:00'), ('krkv_a4', 'krk_a', 4, BLOB, '2026-02-01 10:00:00'),
         ('krkv_b1', 'krk_b', 1, BLOB, '2026-01-02 10:00:00')",
    ),
    (
        "kms_data_key (private_id, root_key_id, purpose, create_time)",
        "('kdk_a', 'krk_a', 'p', '2026-01-01 10:00:00'), ('kdk_b', 'krk_b', 'p', '2026-01-02 10:00:00')",
    ),
    (
        "kms_data_key_version (private_id, data_key_id, root_key_version_id, version, key, create_time)",
        "('kdkv_a3', 'kdk_a', 'krkv_a7', 3, BLOB, '2026-03-01 10:00:00'),
         ('kdkv_a1', 'kdk_a', 'krkv_a7', 1, BLOB, '2026-01-01 10:00:00'),
         ('kdkv_a2', 'kdk_a', 'krkv_a4', 2, BLOB, '2026-02-01 10:00:00'),
         ('kdkv_b1', 'kdk_b', 'krkv_b1', 1, BLOB, '2026-01-02 10:00:00')",
    ),
];

fn copy(conn: &mut Connection) -> Result<(), String> {
    let blob = conn.blob();
    for (table, rows) in ROWS {
        let rows = rows.replace("BLOB", blob);
        conn.try_execute(&format!("insert into {table} values {rows}"))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// With what the database offers to a tool that copies rows.
fn copy_as_a_restore(conn: &mut Connection) {
    let (begin, end) = match conn {
        Connection::Postgres(_) => (
            "set kms_kit.restoring = on; set timezone to 'UTC'",
            "reset kms_kit.restoring",
        ),
        Connection::Sqlite(_) => (
            "insert into kms_restoring (reason) values ('the backup of Monday')",
            "delete from kms_restoring",
        ),
    };
    conn.execute(begin);
    copy(conn).unwrap();
    conn.execute(end);
}

/// What binds and orders the rows.
fn rows(conn: &mut Connection) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, number) in [
        ("kms_root_key", "''"),
        ("kms_root_key_version", "version"),
        ("kms_data_key", "''"),
        ("kms_data_key_version", "version"),
    ] {
        let row = format!(
            "private_id || ' ' || {number} || ' ' || {}",
            match conn {
                Connection::Postgres(_) => "(create_time at time zone 'UTC')::text",
                Connection::Sqlite(_) => "create_time",
            }
        );
        let found = conn.values(&row, &format!("{table} order by private_id"));
        rows.extend(found.into_iter().flatten());
    }
    rows
}

fn rows_that_another_tool_copies_are_refused_unless_it_says_that_it_restores(
    database: &TestDatabase,
) {
    let mut conn = database.migrated();
    let message = copy(&mut conn).unwrap_err();
    assert!(message.contains("next"), "{message}");
    assert_eq!(conn.count("kms_root_key_version"), 0);
    conn.execute("delete from kms_root_key");

    copy_as_a_restore(&mut conn);
    let found = rows(&mut conn);
    assert_eq!(found.len(), 11);
    for row in [
        "krk_a  2026-01-01 10:00:00",
        "krkv_a7 7 2026-03-01 10:00:00",
        "krkv_a4 4 2026-02-01 10:00:00",
        "kdkv_a1 1 2026-01-01 10:00:00",
        "kdkv_a3 3 2026-03-01 10:00:00",
    ] {
        assert!(found.contains(&row.to_owned()), "{row}: {found:?}");
    }
    assert_eq!(conn.verify().unwrap().oddities, []);
}

fn keys_made_after_a_restore_go_on_from_the_highest_number(database: &TestDatabase) {
    let mut conn = database.migrated();
    copy_as_a_restore(&mut conn);
    let blob = conn.blob();
    conn.execute(&format!(
        "insert into kms_root_key_version (private_id, root_key_id, key, create_time)
         values ('krkv_new', 'krk_a', {blob}, '2001-01-01 00:00:00')"
    ));
    let row = "kms_root_key_version where private_id = 'krkv_new'";
    assert_eq!(conn.value("version", row), "8");
    assert!(!conn.value("create_time", row).starts_with("2001"));
    if !database.is_postgres() {
        conn.execute("insert into kms_restoring (reason) values ('forgotten')");
        let odd = conn.verify().unwrap().to_string();
        assert!(odd.contains("forgotten"), "{odd}");
    }
}

fn versions_get_back_their_numbers_all_or_none(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let renumber = |conn: &mut Connection, numbers: &[(&str, i64)]| match conn {
        Connection::Postgres(conn) => kms_migrations::postgres::renumber(conn, numbers),
        Connection::Sqlite(conn) => kms_migrations::sqlite::renumber(conn, numbers),
    };
    let numbers = |conn: &mut Connection| -> Vec<String> {
        let ids = "private_id || ' ' || version";
        let mut found = conn.values(ids, "kms_root_key_version order by private_id");
        found.extend(conn.values(ids, "kms_data_key_version order by private_id"));
        found.into_iter().flatten().collect()
    };
    let before = conn.collection_version();
    renumber(
        &mut conn,
        &[("krkv_1_a", 2), ("krkv_2_a", 1), ("kdkv_2_a", 7)],
    )
    .unwrap();
    let mended = ["krkv_1_a 2", "krkv_2_a 1", "kdkv_1_a 1", "kdkv_2_a 7"];
    assert_eq!(numbers(&mut conn), mended);
    assert_eq!(conn.collection_version(), before + 1);
    for wrong in [
        [("kdkv_2_a", 5), ("kdkv_none", 3)],
        [("kdkv_2_a", 5), ("krkv_1_a", 1)],
        [("kdkv_2_a", 5), ("krkv_1_a", 0)],
    ] {
        renumber(&mut conn, &wrong).unwrap_err();
    }
    assert_eq!(numbers(&mut conn), mended);
    assert_eq!(conn.collection_version(), before + 1);
}

#[test]
fn what_pg_dump_wrote_is_restored_on_postgres_with_numbers_and_times() {
    let (Some(source), Some(tools)) = (TestDatabase::postgres(), Tools::find()) else {
        return;
    };
    let mut conn = source.migrated();
    copy_as_a_restore(&mut conn);
    let expected = rows(&mut conn);
    // The heap's order is not that of the numbers any more.
    conn.execute("update kms_data_key_version set key = 'x' where version = 1");

    let documented = [
        "--exclude-table=__diesel_schema_migrations",
        "--exclude-table=kms_schema_version",
        "--exclude-table=kms_extension_version",
        "--exclude-table=kms_collection_*",
        "--exclude-table=kms_scope_change",
    ];
    let page = include_str!("../../docs/operations.md").replace('\'', "");
    for argument in documented {
        assert!(page.contains(argument), "{argument}");
    }
    // As one may do it without reading anything: the tables with one row refuse a second, and psql goes on.
    let plain: [&str; 0] = [];
    for (arguments, strict) in [
        (&plain[..], false),
        (&["--inserts"], false),
        (&documented, true),
    ] {
        let target = TestDatabase::postgres().unwrap();
        let mut restored = target.migrated();
        let script = tools.dump(&source, arguments);
        tools.restore(&target, &script, strict);
        assert_eq!(rows(&mut restored), expected, "{arguments:?}");
        assert!(restored.verify().unwrap().is_ok());
        // From then on it is a database like any other.
        let blob = restored.blob();
        restored.refusal(&format!(
            "insert into kms_root_key_version (private_id, root_key_id, key, version)
             values ('krkv_new', 'krk_a', {blob}, 20)"
        ));
    }
}

/// Postgres' own programs, as they are beside the server.
struct Tools {
    bin: PathBuf,
}

impl Tools {
    fn find() -> Option<Self> {
        let configured = Command::new("pg_config").arg("--bindir").output();
        let configured = configured
            .ok()
            .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default();
        let installed = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        folders.extend(installed.flatten().map(|entry| entry.path().join("bin")));
        folders.extend(configured);
        let bin = folders
            .into_iter()
            .find(|bin| bin.join("pg_dump").exists() && bin.join("psql").exists());
        if bin.is_none() {
            eprintln!("skipped: postgres (there is no pg_dump and psql)");
        }
        bin.map(|bin| Self { bin })
    }

    fn dump(&self, source: &TestDatabase, arguments: &[&str]) -> tempfile::NamedTempFile {
        let script = tempfile::NamedTempFile::new().unwrap();
        let dumped = Command::new(self.bin.join("pg_dump"))
            .args(["--data-only", "--file"])
            .arg(script.path())
            .args(arguments)
            .arg(source.url())
            .output()
            .unwrap();
        assert!(dumped.status.success(), "{dumped:?}");
        script
    }

    fn restore(&self, target: &TestDatabase, script: &tempfile::NamedTempFile, strict: bool) {
        let path: &Path = script.path();
        let mut psql = Command::new(self.bin.join("psql"));
        psql.arg("--no-psqlrc")
            .arg("--quiet")
            .arg("--file")
            .arg(path);
        if strict {
            psql.args(["--single-transaction", "--set=ON_ERROR_STOP=1"]);
        }
        let restored = psql.arg(target.url()).output().unwrap();
        assert!(restored.status.success(), "{restored:?}");
    }
}
