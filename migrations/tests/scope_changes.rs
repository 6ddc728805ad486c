//! What the triggers note of changed scopes: with which collection version, and what is forgotten when.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use database::{Connection, TestDatabase};

on_both_databases! {
    every_change_of_keys_names_its_scope
    a_change_before_the_collection_version_moves_counts_with_the_move
    a_change_that_moves_nothing_counts_with_the_next_move
    what_a_savepoint_rolled_back_is_not_noted
    a_deletion_by_the_applications_cascade_names_each_scope
    a_statement_over_many_scopes_names_each
    the_history_has_the_time_of_each_former_version
    any_other_move_of_the_collection_version_forgets_everything
    another_row_of_the_collection_version_forgets_everything
    a_time_set_by_hand_moves_nothing
    what_is_older_than_ten_thousand_versions_goes
}

const MOVE: &str = "update kms_collection_version set version = version + 1";

fn every_change_of_keys_names_its_scope(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.create_scope("b");
    let blob = conn.blob();
    for change in [
        "update kms_root_key_version set key = {other} where private_id = 'krkv_1_a'",
        "update kms_root_key_version set version = 9 where private_id = 'krkv_2_a'",
        "insert into kms_root_key_version (private_id, root_key_id, key) values ('krkv_3_a', 'krk_a', {blob})",
        "delete from kms_root_key_version where private_id = 'krkv_3_a'",
        "update kms_data_key_version set key = {other} where private_id = 'kdkv_1_a'",
        "update kms_data_key_version set version = 9 where private_id = 'kdkv_2_a'",
        "update kms_data_key_version set root_key_version_id = 'krkv_2_a' where private_id = 'kdkv_1_a'",
        // Of another scope: it is the data key that counts.
        "update kms_data_key_version set root_key_version_id = 'krkv_2_b' where private_id = 'kdkv_1_a'",
        "insert into kms_data_key (private_id, root_key_id, purpose) values ('kdk_2_a', 'krk_a', 'more')",
        "insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
           values ('kdkv_3_a', 'kdk_a', 'krkv_2_a', {blob})",
        "delete from kms_data_key_version where private_id = 'kdkv_1_a'",
        "delete from kms_data_key where private_id = 'kdk_2_a'",
        "delete from kms_data_key where private_id = 'kdk_a'",
    ] {
        let change = change
            .replace("{blob}", blob)
            .replace("{other}", &blob.replace("0102", "0a0b"));
        settle(&mut conn);
        conn.execute(&format!("begin; {MOVE}; {change}; commit;"));
        let version = conn.collection_version();
        assert_eq!(named(&mut conn, version), ["a"], "{change}");
        assert!(marks(&mut conn, version - 1).is_empty(), "{change}");
    }
    settle(&mut conn);
    let before = conn.collection_version();
    conn.execute("delete from kms_root_key where scope_id = 'a'");
    assert_eq!(conn.collection_version(), before + 1);
    assert_eq!(named(&mut conn, before + 1), ["a"]);
}

fn a_change_before_the_collection_version_moves_counts_with_the_move(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.create_scope("b");
    for moves in [MOVE, "delete from kms_root_key where scope_id = 'b'"] {
        settle(&mut conn);
        let before = conn.collection_version();
        conn.execute(&format!("begin; {}; {moves}; commit;", rewrap(&conn, "a")));
        assert_eq!(conn.collection_version(), before + 1);
        let expected: &[&str] = if moves == MOVE { &["a"] } else { &["a", "b"] };
        assert_eq!(named(&mut conn, before + 1), expected);
        assert_eq!(history(&mut conn).last(), Some(&before));
    }
}

fn a_change_that_moves_nothing_counts_with_the_next_move(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.create_scope("b");
    settle(&mut conn);
    let before = conn.collection_version();
    let by_hand = rewrap(&conn, "a");
    conn.execute(&by_hand);
    conn.execute(&by_hand);
    assert_eq!(conn.collection_version(), before);
    conn.execute(&format!("begin; {MOVE}; {}; commit;", rewrap(&conn, "b")));
    assert_eq!(named(&mut conn, before + 1), ["a", "b"]);
    settle(&mut conn);
    conn.execute(&format!("begin; {MOVE}; {}; commit;", rewrap(&conn, "b")));
    let version = conn.collection_version();
    assert_eq!(named(&mut conn, version), ["b"]);
}

fn what_a_savepoint_rolled_back_is_not_noted(database: &TestDatabase) {
    let mut conn = database.migrated();
    for scope in ["a", "b", "c"] {
        conn.create_scope(scope);
    }
    settle(&mut conn);
    let before = conn.collection_version();
    // The move is undone with the savepoint, and a change after it has no move of its own.
    conn.execute(&format!(
        "begin; savepoint s; {MOVE}; {}; rollback to savepoint s; {}; commit;",
        rewrap(&conn, "a"),
        rewrap(&conn, "b"),
    ));
    assert_eq!(conn.collection_version(), before);
    assert_eq!(history(&mut conn).last(), Some(&(before - 1)));
    assert!(!named(&mut conn, before).contains(&"a".to_owned()));
    conn.execute(&format!(
        "begin; {MOVE}; savepoint s; {}; rollback to savepoint s;
         savepoint t; {}; release savepoint t; commit;",
        rewrap(&conn, "a"),
        rewrap(&conn, "c"),
    ));
    assert_eq!(named(&mut conn, before + 1), ["b", "c"]);
}

fn a_deletion_by_the_applications_cascade_names_each_scope(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.execute("create table organization (id text not null primary key)");
    conn.execute(if database.is_postgres() {
        "alter table kms_root_key add foreign key (scope_id) references organization (id) on delete cascade"
    } else {
        "alter table kms_root_key add column organization_id text
           generated always as (scope_id) virtual references organization (id) on delete cascade"
    });
    for scope in ["a", "b", "c", "d"] {
        conn.execute(&format!("insert into organization values ('{scope}')"));
        conn.create_scope(scope);
    }
    settle(&mut conn);
    let before = conn.collection_version();
    conn.execute("delete from organization where id < 'c'");
    assert_eq!(conn.key_rows(), [2, 4, 2, 4]);
    let moved = conn.collection_version();
    assert!(moved > before);
    assert_eq!(named_between(&mut conn, before, moved), ["a", "b"]);
    // In a transaction that has moved already.
    settle(&mut conn);
    let before = conn.collection_version();
    conn.execute(&format!(
        "begin; {MOVE}; {}; delete from organization where id = 'c'; commit;",
        rewrap(&conn, "d")
    ));
    let version = conn.collection_version();
    assert_eq!(named_between(&mut conn, before, version), ["c", "d"]);
}

fn a_statement_over_many_scopes_names_each(database: &TestDatabase) {
    let mut conn = database.migrated();
    for scope in ["a", "b", "c"] {
        conn.create_scope(scope);
    }
    settle(&mut conn);
    let keys = conn.blob().replace("0102", "0a0b");
    conn.execute(&format!(
        "begin; {MOVE};
         update kms_data_key_version set key = {keys};
         update kms_root_key_version set key = {keys}; commit;"
    ));
    let version = conn.collection_version();
    assert_eq!(named(&mut conn, version), ["a", "b", "c"]);
}

fn the_history_has_the_time_of_each_former_version(database: &TestDatabase) {
    let mut conn = database.migrated();
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(Some(conn.value("update_time", "kms_collection_version")));
        conn.execute(MOVE);
    }
    // Several moves of one transaction are steps each.
    conn.execute(&format!("begin; {MOVE}; {MOVE}; commit;"));
    assert_eq!(history(&mut conn), [1, 2, 3, 4, 5]);
    let kept = conn.values("update_time", "kms_collection_history order by version");
    assert_eq!(kept[..3], times);
}

fn any_other_move_of_the_collection_version_forgets_everything(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.create_scope("b");
    for version in ["version + 2", "version - 1", "4611686018427387904", "7"] {
        conn.execute(&format!("begin; {MOVE}; {}; commit;", rewrap(&conn, "a")));
        conn.execute(&rewrap(&conn, "a"));
        assert!(!history(&mut conn).is_empty());
        conn.execute(&format!(
            "begin; update kms_collection_version set version = {version}; {}; commit;",
            rewrap(&conn, "b")
        ));
        assert_eq!(history(&mut conn), [0; 0], "{version}");
        let now = conn.collection_version();
        assert_eq!(marked_versions(&mut conn), [now], "{version}");
        // From here on it is told again.
        conn.execute(MOVE);
        assert_eq!(history(&mut conn), [now]);
    }
    assert_eq!(conn.collection_version(), 8);
}

fn another_row_of_the_collection_version_forgets_everything(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let again = "insert into kms_collection_version (version) values ({version})";
    let mut statements = vec![format!("delete from kms_collection_version; {again}")];
    if database.is_postgres() {
        statements.push(format!("truncate kms_collection_version; {again}"));
    } else {
        statements.push(again.replace("insert", "replace"));
    }
    for statement in statements {
        conn.execute(&format!("begin; {MOVE}; {}; commit;", rewrap(&conn, "a")));
        let version = conn.collection_version();
        conn.execute(&statement.replace("{version}", &version.to_string()));
        assert_eq!(conn.collection_version(), version);
        assert_eq!(history(&mut conn), [0; 0], "{statement}");
        assert_eq!(marked_versions(&mut conn), [0; 0], "{statement}");
    }
}

fn a_time_set_by_hand_moves_nothing(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.execute(MOVE);
    conn.execute("update kms_collection_version set update_time = '2001-01-01 00:00:00'");
    assert_eq!(history(&mut conn), [1]);
    let time = conn.value("update_time", "kms_collection_version");
    conn.execute(MOVE);
    assert_eq!(
        conn.value("update_time", "kms_collection_history where version = 2"),
        time
    );
}

fn what_is_older_than_ten_thousand_versions_goes(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.create_scope("a");
    let series = if database.is_postgres() {
        "generate_series(1, 25000) n"
    } else {
        "(with recursive s (n) as (select 1 union all select n + 1 from s where n < 25000) select n from s)"
    };
    // Grown old: as it is after 25,000 moves, the first 15,000 of them pruned one by one.
    conn.execute("update kms_collection_version set version = 25001");
    conn.execute(&format!(
        "insert into kms_collection_history (version, update_time)
           select n, '2001-01-01 00:00:00' from {series} where n > 15000;
         insert into kms_scope_change (collection_version, scope_id)
           select n, 'a' from {series} where n > 15000;"
    ));
    for moves in 1..=3 {
        conn.execute(&format!("begin; {MOVE}; {}; commit;", rewrap(&conn, "a")));
        assert_eq!(conn.count("kms_collection_history"), 10_000);
        let oldest = (15_001 + moves).to_string();
        assert_eq!(conn.value("min(version)", "kms_collection_history"), oldest);
        assert_eq!(
            conn.value("min(collection_version)", "kms_scope_change"),
            oldest
        );
    }
}

#[test]
fn an_early_change_is_not_told_twice() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    conn.create_scope("a");
    let before = conn.collection_version();
    conn.execute(&rewrap(&conn, "a"));
    conn.execute(&format!("begin; {MOVE}; {}; commit;", rewrap(&conn, "a")));
    assert_eq!(marked_versions(&mut conn), [before + 1]);
    conn.execute(MOVE);
    assert_eq!(marks(&mut conn, before + 2), [""; 0]);
}

/// The version that the transaction has moved to is known where the schema's function has moved it, whose own
/// subtransaction is over by then.
#[test]
fn the_lock_function_moves_as_a_statement_does() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.execute(&format!(
        "begin; select kms_lock_for_change(true, '{{krk_a}}'); {}; commit;",
        rewrap(&conn, "a")
    ));
    assert_eq!(marked_versions(&mut conn), [2]);
}

/// What the triggers keep for a transaction ends with it, and a setting of the session's is none of theirs.
#[test]
fn a_setting_of_another_transaction_is_not_believed() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.execute(&format!("begin; {MOVE}; commit;"));
    assert_eq!(
        conn.value(
            "coalesce(current_setting('kms_kit.collection_version', true), '')",
            "generate_series(1, 1)"
        ),
        ""
    );
    conn.execute("set kms_kit.collection_version = '5:2'");
    conn.execute(&rewrap(&conn, "a"));
    assert!(marked_versions(&mut conn)[0] < 0);
    conn.execute(MOVE);
    assert_eq!(marked_versions(&mut conn), [3]);
}

#[test]
fn creating_a_scope_leaves_no_mark_and_forgets_nothing() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.execute(MOVE);
    conn.execute("begin");
    conn.create_scope("b");
    conn.execute(&format!("{MOVE}; {}; commit", rewrap(&conn, "a")));
    assert_eq!(named(&mut conn, 3), ["a"]);
    assert_eq!(history(&mut conn), [1, 2]);
    // Of a scope that is there, the first data key is a change.
    conn.execute("insert into kms_root_key (private_id, scope_id) values ('krk_c', 'c')");
    assert_eq!(marked_versions(&mut conn), [3]);
    conn.execute(&format!(
        "begin; insert into kms_data_key (private_id, root_key_id, purpose) values ('kdk_c', 'krk_c', 'p'); {MOVE}; commit"
    ));
    assert_eq!(named(&mut conn, 4), ["c"]);
}

#[test]
fn transactions_that_move_nothing_do_not_wait_for_each_other() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut one = database.migrated();
    for scope in ["a", "b"] {
        one.create_scope(scope);
    }
    // Left by somebody, for the next move to claim.
    one.execute(&rewrap(&one, "a"));
    let mut two = database.connect();
    let mut three = database.connect();
    for conn in [&mut one, &mut two, &mut three] {
        conn.execute("set lock_timeout = '2s'; begin");
    }
    one.execute(MOVE);
    two.create_scope("c");
    two.execute(&rewrap(&two, "a"));
    three.create_scope("d");
    three.execute(&rewrap(&three, "b"));
    two.execute("commit");
    one.execute("commit");
    three.execute("commit");
    assert_eq!(named(&mut one, 2), ["a"]);
    one.execute(MOVE);
    assert_eq!(named(&mut one, 3), ["a", "b"]);
}

/// A move waits for the one before it, and counts on from what that committed.
#[test]
fn moves_are_serial() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut one = database.migrated();
    for scope in ["a", "b"] {
        one.create_scope(scope);
    }
    let mut two = database.connect();
    one.execute(&format!("begin; {MOVE}; {}", rewrap(&one, "a")));
    let waiting = std::thread::spawn(move || {
        two.execute(&format!("begin; {MOVE}; {}; commit", rewrap(&two, "b")));
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut watch = database.connect();
    while watch
        .count("pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
        == 0
    {
        assert!(std::time::Instant::now() < deadline);
    }
    one.execute("commit");
    waiting.join().unwrap();
    assert_eq!(named(&mut one, 2), ["a"]);
    assert_eq!(named(&mut one, 3), ["b"]);
    assert_eq!(history(&mut one), [1, 2]);
}

#[test]
fn truncating_a_table_of_keys_forgets_everything() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    for table in [
        "kms_data_key_version",
        "kms_data_key",
        "kms_root_key_version",
        "kms_root_key",
    ] {
        conn.create_scope("a");
        conn.execute(&format!("begin; {MOVE}; {}; commit;", rewrap(&conn, "a")));
        let before = conn.collection_version();
        conn.execute(&format!("truncate {table} cascade"));
        assert!(conn.collection_version() > before, "{table}");
        assert_eq!(history(&mut conn), [0; 0], "{table}");
        assert_eq!(marked_versions(&mut conn), [0; 0], "{table}");
        conn.execute("truncate kms_root_key cascade");
    }
}

/// `replace` removes a row, and no trigger of deletion hears of it.
#[test]
fn replacing_a_version_names_its_scope() {
    let database = TestDatabase::sqlite();
    let mut conn = database.migrated();
    conn.execute(
        "insert into kms_root_key (private_id, scope_id) values ('krk_a', 'a');
         insert into kms_root_key_version (private_id, root_key_id, key) values ('krkv_a', 'krk_a', x'01');
         insert into kms_data_key (private_id, root_key_id, purpose) values ('kdk_a', 'krk_a', 'p');
         insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
           values ('kdkv_a', 'kdk_a', 'krkv_a', x'01');",
    );
    for replacement in [
        "replace into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
           values ('kdkv_a', 'kdk_a', 'krkv_a', x'02')",
        "pragma foreign_keys = off;
         replace into kms_root_key_version (private_id, root_key_id, key) values ('krkv_a', 'krk_a', x'02')",
    ] {
        settle(&mut conn);
        conn.execute(&format!("{MOVE}; {replacement}"));
        let version = conn.collection_version();
        assert_eq!(named(&mut conn, version), ["a"], "{replacement}");
    }
}

/// What is to be done on a conflict, a statement says for its triggers' statements as well.
#[test]
fn a_second_mark_is_no_conflict_whatever_the_statement_says() {
    let database = TestDatabase::sqlite();
    let mut conn = database.migrated();
    for recursive in ["off", "on"] {
        conn.execute(&format!("pragma recursive_triggers = {recursive}"));
        conn.create_scope(recursive);
        for or in [
            "",
            "or rollback",
            "or abort",
            "or fail",
            "or ignore",
            "or replace",
        ] {
            settle(&mut conn);
            conn.execute(&format!(
                "{MOVE};
                 update {or} kms_data_key_version set key = x'0a' where private_id = 'kdkv_1_{recursive}';
                 update {or} kms_data_key_version set key = x'0b' where private_id = 'kdkv_1_{recursive}';
                 insert {or} into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
                   values ('kdkv_{or}_{recursive}', 'kdk_{recursive}', 'krkv_1_{recursive}', x'01');"
            ));
            let version = conn.collection_version();
            assert_eq!(named(&mut conn, version), [recursive], "{or}");
        }
        conn.execute(&format!(
            "{}; delete from kms_root_key where scope_id = '{recursive}'",
            rewrap(&conn, recursive)
        ));
    }
}

/// Moves often enough that nothing before counts with what comes.
fn settle(conn: &mut Connection) {
    conn.execute(MOVE);
    conn.execute(MOVE);
}

fn rewrap(conn: &Connection, scope: &str) -> String {
    let key = conn.blob().replace("0102", "0a0b0c");
    // Another key each time, whatever it was.
    let other = conn.blob().replace("0102", "0d0e");
    format!(
        "update kms_data_key_version set key = case when key = {key} then {other} else {key} end
         where private_id = 'kdkv_1_{scope}'"
    )
}

/// The scopes that a reader counts with the move to this version.
fn named(conn: &mut Connection, version: i64) -> Vec<String> {
    named_between(conn, version - 1, version)
}

fn named_between(conn: &mut Connection, since: i64, version: i64) -> Vec<String> {
    let from = match conn {
        Connection::Postgres(_) => since + 1,
        Connection::Sqlite(_) => since,
    };
    let rows = format!(
        "(select distinct scope_id from kms_scope_change
          where collection_version between {from} and {version}) s order by 1"
    );
    conn.values("scope_id", &rows)
        .into_iter()
        .map(Option::unwrap)
        .collect()
}

fn marks(conn: &mut Connection, version: i64) -> Vec<String> {
    let rows = format!("kms_scope_change where collection_version = {version} order by scope_id");
    conn.values("scope_id", &rows)
        .into_iter()
        .map(Option::unwrap)
        .collect()
}

fn history(conn: &mut Connection) -> Vec<i64> {
    numbers(conn, "version", "kms_collection_history order by version")
}

fn marked_versions(conn: &mut Connection) -> Vec<i64> {
    let rows = "(select distinct collection_version from kms_scope_change) s order by 1";
    numbers(conn, "collection_version", rows)
}

fn numbers(conn: &mut Connection, column: &str, rows: &str) -> Vec<i64> {
    let mut numbers: Vec<i64> = conn
        .values(column, rows)
        .into_iter()
        .map(|value| value.unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}
