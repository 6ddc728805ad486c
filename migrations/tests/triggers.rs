//! What the triggers do with inserts and updates, whoever writes.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use database::{Connection, TestDatabase};

on_both_databases! {
    create_time_is_the_databases_whatever_the_client_sends
    versions_count_from_one_whatever_the_client_sends
    the_inserts_that_go_sends_work
    a_statement_with_several_versions_numbers_them_one_after_the_other
    ids_parents_purpose_and_create_time_are_immutable
    key_version_and_wrapping_root_key_version_are_mutable
    update_time_follows_every_change
    the_one_row_tables_take_no_second_row
    a_one_row_table_filled_again_has_the_databases_create_time
    blank_ids_are_refused
    purposes_with_white_space_around_them_or_none_are_refused
    empty_keys_are_refused
    a_scope_has_one_root_key_and_one_data_key_per_purpose
    concurrent_inserts_for_one_key_get_consecutive_numbers
}

const KEY_TABLES: [&str; 4] = [
    "kms_root_key",
    "kms_root_key_version",
    "kms_data_key",
    "kms_data_key_version",
];

fn create_time_is_the_databases_whatever_the_client_sends(database: &TestDatabase) {
    let mut conn = database.migrated();
    let blob = conn.blob();
    conn.execute(&format!(
        "insert into kms_root_key (private_id, scope_id, create_time)
           values ('krk_a', 'a', '2001-01-01 00:00:00');
         insert into kms_root_key_version (private_id, root_key_id, key, create_time)
           values ('krkv_a', 'krk_a', {blob}, '2001-01-01 00:00:00');
         insert into kms_data_key (private_id, root_key_id, purpose, create_time)
           values ('kdk_a', 'krk_a', 'p', '2001-01-01 00:00:00');
         insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key, create_time)
           values ('kdkv_a', 'kdk_a', 'krkv_a', {blob}, '2001-01-01 00:00:00');
         insert into kms_campaign (id, kind, parameters, create_time)
           values ('c', 'rotate', '{{}}', '2001-01-01 00:00:00');
         insert into kms_campaign_failure (campaign_id, scope_id, kind, message, create_time)
           values ('c', 'a', 'k', 'm', '2001-01-01 00:00:00');
         insert into kms_root_check (key_id, check_blob, create_time)
           values ('root', {blob}, '2001-01-01 00:00:00');"
    ));
    for table in
        KEY_TABLES
            .into_iter()
            .chain(["kms_campaign", "kms_campaign_failure", "kms_root_check"])
    {
        assert_recent_utc(&mut conn, "create_time", table);
    }
}

fn versions_count_from_one_whatever_the_client_sends(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.create_scope("b");
    let blob = conn.blob();
    let insert = |table: &str, version: i64| {
        match table {
        "kms_root_key_version" => format!(
            "insert into kms_root_key_version (private_id, root_key_id, key, version)
               values ('krkv_3_a', 'krk_a', {blob}, {version})"
        ),
        _ => format!(
            "insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key, version)
               values ('kdkv_3_a', 'kdk_a', 'krkv_1_a', {blob}, {version})"
        ),
    }
    };
    // Another number than the next is bound to a key of another database, or a mistake: no row gets in under it, and
    // none under a number that it did not come with.
    for table in ["kms_root_key_version", "kms_data_key_version"] {
        for version in [70, 2, 0, -1] {
            conn.refusal(&insert(table, version));
        }
        let message = conn.refusal(&insert(table, 70));
        assert!(message.contains("next"), "{message}");
        assert_eq!(conn.count(table), 4);
        conn.execute(&insert(table, 3));
    }
    for (table, prefix) in [
        ("kms_root_key_version", "krkv"),
        ("kms_data_key_version", "kdkv"),
    ] {
        for number in 1..=3 {
            let row = format!("{table} where private_id = '{prefix}_{number}_a'");
            assert_eq!(conn.value("version", &row), number.to_string(), "{row}");
        }
    }
}

/// Its ORM leaves `version` to the database (null on SQLite, the domain's
/// default on Postgres), and leaves out `create_time` or sends it.
fn the_inserts_that_go_sends_work(database: &TestDatabase) {
    let mut conn = database.migrated();
    let (blob, version) = if database.is_postgres() {
        (conn.blob(), "default")
    } else {
        (conn.blob(), "null")
    };
    conn.execute(&format!(
        "insert into kms_root_key (private_id, scope_id, create_time)
           values ('krk_g', 'global', current_timestamp);
         insert into kms_root_key_version (private_id, root_key_id, key, version, create_time)
           values ('krkv_g', 'krk_g', {blob}, {version}, current_timestamp);
         insert into kms_root_key_version (private_id, root_key_id, key, version)
           values ('krkv_h', 'krk_g', {blob}, {version});
         insert into kms_data_key (private_id, root_key_id, purpose)
           values ('kdk_g', 'krk_g', 'database');
         insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key, version, create_time)
           values ('kdkv_g', 'kdk_g', 'krkv_g', {blob}, {version}, '2026-01-01 10:00:00.123456+02:00');
         update kms_collection_version set version = version + 1;"
    ));
    let rows = conn.values("version", "kms_root_key_version order by version");
    assert_eq!(rows, [Some("1".to_owned()), Some("2".to_owned())]);
    assert_eq!(conn.value("version", "kms_data_key_version"), "1");
    assert_recent_utc(&mut conn, "create_time", "kms_data_key_version");
}

fn a_statement_with_several_versions_numbers_them_one_after_the_other(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let blob = conn.blob();
    conn.execute(&format!(
        "insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
         values ('x', 'kdk_a', 'krkv_1_a', {blob}), ('y', 'kdk_a', 'krkv_1_a', {blob})"
    ));
    let numbers = conn.values("version", "kms_data_key_version order by version");
    let numbers: Vec<String> = numbers.into_iter().map(Option::unwrap).collect();
    assert_eq!(numbers, ["1", "2", "3", "4"]);
}

fn ids_parents_purpose_and_create_time_are_immutable(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.create_scope("b");
    conn.execute("insert into kms_campaign (id, kind, parameters) values ('c', 'rotate', '{}')");
    conn.execute(
        "insert into kms_campaign_failure (campaign_id, scope_id, kind, message) values ('c', 'a', 'k', 'm')",
    );
    let blob = conn.blob();
    conn.execute(&format!(
        "insert into kms_root_check (key_id, check_blob) values ('root', {blob})"
    ));
    conn.execute("insert into kms_scope_root (root_key_id, name) values ('krk_a', 'r')");
    for (table, column, value) in [
        ("kms_root_key", "private_id", "'krk_x'"),
        ("kms_root_key", "scope_id", "'x'"),
        ("kms_root_key_version", "private_id", "'krkv_x'"),
        ("kms_root_key_version", "root_key_id", "'krk_x'"),
        ("kms_data_key", "private_id", "'kdk_x'"),
        ("kms_data_key", "root_key_id", "'krk_x'"),
        ("kms_data_key", "purpose", "'x'"),
        ("kms_data_key_version", "private_id", "'kdkv_x'"),
        ("kms_data_key_version", "data_key_id", "'kdk_x'"),
        ("kms_campaign", "id", "'x'"),
        ("kms_campaign", "kind", "'x'"),
        ("kms_campaign", "parameters", "'x'"),
        ("kms_campaign_failure", "scope_id", "'x'"),
        ("kms_root_check", "key_id", "'x'"),
        ("kms_scope_root", "root_key_id", "'krk_b'"),
    ] {
        assert_immutable(&mut conn, table, column, value);
    }
    for table in KEY_TABLES.into_iter().chain([
        "kms_schema_version",
        "kms_collection_version",
        "kms_extension_version",
        "kms_campaign",
        "kms_campaign_failure",
        "kms_root_check",
    ]) {
        assert_immutable(&mut conn, table, "create_time", "'2001-01-01 00:00:00'");
        if !database.is_postgres() {
            assert_immutable(
                &mut conn,
                table,
                "create_time",
                "datetime('now', '+1 second')",
            );
        }
    }
}

fn assert_immutable(conn: &mut Connection, table: &str, column: &str, value: &str) {
    let message = conn.refusal(&format!("update {table} set {column} = {value}"));
    assert_eq!(message, format!("immutable column: {table}.{column}"));
    if let Connection::Postgres(_) = conn {
        conn.execute(&format!(
            "do $$
             declare
               found_table text;
               found_column text;
             begin
               update {table} set {column} = {value};
             exception when sqlstate '23601' then
               get stacked diagnostics found_table = table_name, found_column = column_name;
               assert found_table = '{table}' and found_column = '{column}';
             end $$"
        ));
    }
}

fn key_version_and_wrapping_root_key_version_are_mutable(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let rewrapped = conn.blob().replace("0102", "0a0b0c");
    conn.execute(&format!(
        "update kms_root_key_version set key = {rewrapped}, version = 9 where private_id = 'krkv_1_a';
         update kms_data_key_version
           set key = {rewrapped}, version = 9, root_key_version_id = 'krkv_2_a'
           where private_id = 'kdkv_1_a';"
    ));
    let row = "kms_data_key_version where private_id = 'kdkv_1_a'";
    assert_eq!(conn.value("version", row), "9");
    assert_eq!(conn.value("root_key_version_id", row), "krkv_2_a");
    assert_eq!(conn.value("length(key)", row), "3");
}

fn update_time_follows_every_change(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.execute("insert into kms_campaign (id, kind, parameters) values ('c', 'rotate', '{}')");
    let blob = conn.blob();
    conn.execute(&format!(
        "insert into kms_root_check (key_id, check_blob) values ('root', {blob})"
    ));
    for (table, change) in [
        ("kms_schema_version", "version = 'v0.0.2'"),
        ("kms_extension_version", "version = 'v2'"),
        ("kms_collection_version", "version = version + 1"),
        (
            "kms_collection_version",
            "update_time = '2001-01-01 00:00:00'",
        ),
        ("kms_campaign", "done_count = done_count + 1"),
        ("kms_campaign", "update_time = '2001-01-01 00:00:00'"),
        ("kms_root_check", "update_time = '2001-01-01 00:00:00'"),
    ] {
        conn.execute(&format!("update {table} set {change}"));
        assert_recent_utc(&mut conn, "update_time", table);
    }
    // Finer than a second: two times that differ begin with the same one.
    let second = |time: &str| time[.."2001-01-01 00:00:00".len()].to_owned();
    let time_of_change = |conn: &mut Connection| {
        conn.execute("update kms_collection_version set version = version + 1");
        conn.value("update_time", "kms_collection_version")
    };
    let started = std::time::Instant::now();
    let mut before = time_of_change(&mut conn);
    loop {
        let time = time_of_change(&mut conn);
        if time != before && second(&time) == second(&before) {
            break;
        }
        assert!(started.elapsed().as_secs() < 20, "{before}, {time}");
        before = time;
    }
    if !database.is_postgres() {
        conn.execute("pragma recursive_triggers = on");
        conn.execute("update kms_collection_version set version = version + 1");
        conn.create_scope("a");
    }
}

fn the_one_row_tables_take_no_second_row(database: &TestDatabase) {
    let mut conn = database.migrated();
    for (table, value) in [
        ("kms_schema_version", "'v9'"),
        ("kms_extension_version", "'v9'"),
        ("kms_collection_version", "9"),
    ] {
        conn.refusal(&format!("insert into {table} (version) values ({value})"));
        assert_eq!(conn.count(table), 1);
    }
    assert_eq!(conn.value("version", "kms_schema_version"), "v0.0.2");
    assert_eq!(conn.value("version", "kms_extension_version"), "v5");
    assert_eq!(conn.collection_version(), 1);
    conn.refusal("update kms_collection_version set version = 0");
}

fn a_one_row_table_filled_again_has_the_databases_create_time(database: &TestDatabase) {
    let mut conn = database.migrated();
    for (table, value) in [
        ("kms_schema_version", "'v0.0.2'"),
        ("kms_extension_version", "'v2'"),
        ("kms_collection_version", "9"),
    ] {
        conn.execute(&format!(
            "delete from {table};
             insert into {table} (version, create_time) values ({value}, '2001-01-01 00:00:00')"
        ));
        assert_recent_utc(&mut conn, "create_time", table);
    }
}

fn blank_ids_are_refused(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let blob = conn.blob();
    for blank in ["", " ", "\t\n\u{b}\u{c}\r "] {
        for statement in [
            format!("insert into kms_root_key (private_id, scope_id) values ('{blank}', 'x')"),
            format!("insert into kms_root_key (private_id, scope_id) values ('krk_x', '{blank}')"),
            format!(
                "insert into kms_root_key_version (private_id, root_key_id, key) values ('{blank}', 'krk_a', {blob})"
            ),
            format!(
                "insert into kms_data_key (private_id, root_key_id, purpose) values ('{blank}', 'krk_a', 'x')"
            ),
            format!(
                "insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
                 values ('{blank}', 'kdk_a', 'krkv_1_a', {blob})"
            ),
            format!("insert into kms_campaign (id, kind, parameters) values ('{blank}', 'k', 'p')"),
        ] {
            conn.refusal(&statement);
        }
    }
    // Letters that escapes are written with are no white space.
    conn.execute("insert into kms_root_key (private_id, scope_id) values ('vbfx0', 'vbfx0')");
}

fn purposes_with_white_space_around_them_or_none_are_refused(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let mut insert = |purpose: &str| {
        conn.try_execute(&format!(
            "insert into kms_data_key (private_id, root_key_id, purpose)
             values ('kdk_{}', 'krk_a', '{purpose}')",
            purpose.len()
        ))
    };
    for purpose in ["", " ", " x", "x ", "\tx", "x\n", "\u{b}x", "x\u{c}", "x\r"] {
        assert!(insert(purpose).is_err(), "{purpose:?}");
    }
    for purpose in ["v", "client secrets", "vertraulich bx0"] {
        insert(purpose).unwrap();
    }
}

fn empty_keys_are_refused(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let empty = conn.blob().replace("0102", "");
    for statement in [
        format!(
            "insert into kms_root_key_version (private_id, root_key_id, key) values ('x', 'krk_a', {empty})"
        ),
        format!(
            "insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
             values ('x', 'kdk_a', 'krkv_1_a', {empty})"
        ),
        format!("update kms_root_key_version set key = {empty}"),
    ] {
        conn.refusal(&statement);
    }
}

fn a_scope_has_one_root_key_and_one_data_key_per_purpose(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.refusal("insert into kms_root_key (private_id, scope_id) values ('x', 'a')");
    conn.refusal(
        "insert into kms_data_key (private_id, root_key_id, purpose) values ('x', 'krk_a', 'database')",
    );
}

fn concurrent_inserts_for_one_key_get_consecutive_numbers(database: &TestDatabase) {
    const WRITERS: i64 = 6;
    const EACH: i64 = 5;
    let mut conn = database.migrated();
    conn.create_scope("a");
    let barrier = std::sync::Barrier::new(usize::try_from(WRITERS).unwrap());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut conn = database.connect();
                let blob = conn.blob();
                barrier.wait();
                for number in 0..EACH {
                    conn.execute(&format!(
                        "insert into kms_root_key_version (private_id, root_key_id, key)
                         values ('krkv_{writer}_{number}', 'krk_a', {blob})"
                    ));
                    conn.execute(&format!(
                        "insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
                         values ('kdkv_{writer}_{number}', 'kdk_a', 'krkv_1_a', {blob})"
                    ));
                }
            });
        }
    });
    for table in ["kms_root_key_version", "kms_data_key_version"] {
        let rows = WRITERS * EACH + 2;
        assert_eq!(conn.count(table), rows);
        assert_eq!(conn.value("max(version)", table), rows.to_string());
        assert_eq!(
            conn.value("count(distinct version)", table),
            rows.to_string()
        );
    }
}

/// Within a minute of the database's clock, read as UTC.
fn assert_recent_utc(conn: &mut Connection, column: &str, table: &str) {
    let age = match conn {
        Connection::Sqlite(_) => {
            format!("cast((julianday('now') - julianday({column})) * 86400 as integer)")
        }
        Connection::Postgres(_) if table == "kms_collection_version" => {
            format!("trunc(extract(epoch from (now() at time zone 'utc') - {column}))")
        }
        Connection::Postgres(_) => format!("trunc(extract(epoch from now() - {column}))"),
    };
    for value in conn.values(&age, table) {
        let seconds: f64 = value.unwrap().parse().unwrap();
        assert!(seconds.abs() < 60.0, "{table}.{column} is {seconds} s old");
    }
}
