//! The lock functions' answers, and which locks the triggers take. Postgres
//! only: SQLite has one writer.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;

use std::time::{Duration, Instant};

use database::{Connection, TestDatabase};

#[test]
fn locking_for_a_change_bumps_if_asked_and_answers_ok() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    conn.create_scope("a");
    assert_eq!(lock_for_change(&mut conn, false, &["krk_a"]), "ok");
    assert_eq!(conn.collection_version(), 1);
    assert_eq!(
        lock_for_change(&mut conn, true, &["krk_a", "krk_unknown"]),
        "ok"
    );
    assert_eq!(conn.collection_version(), 2);
    assert_eq!(lock_for_change(&mut conn, true, &[]), "ok");
    assert_eq!(conn.collection_version(), 3);
}

#[test]
fn a_lock_that_is_not_to_be_had_in_time_is_busy_and_the_transaction_goes_on() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut holder = database.migrated();
    holder.create_scope("a");
    holder.execute("begin; select 1 from kms_root_key for update;");
    let mut conn = database.connect();
    conn.execute("begin; set local lock_timeout = '50ms'");
    assert_eq!(lock_for_change(&mut conn, true, &["krk_a"]), "busy");
    assert_eq!(conn.collection_version(), 1, "nothing was bumped");
    conn.execute("commit");
}

#[test]
fn a_deadlock_is_told_and_the_transaction_goes_on() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut first = database.migrated();
    first.create_scope("a");
    first.create_scope("b");
    first.execute("set deadlock_timeout = '10s'; begin");
    let mut second = database.connect();
    // The second is the one to find out.
    second.execute("set deadlock_timeout = '20ms'; begin");
    assert_eq!(lock_for_change(&mut first, false, &["krk_a"]), "ok");
    assert_eq!(lock_for_change(&mut second, false, &["krk_b"]), "ok");
    let waiting = std::thread::spawn(move || {
        let answer = lock_for_change(&mut first, false, &["krk_b"]);
        first.execute("commit");
        answer
    });
    wait_until(&mut database.connect(), "wait_event_type = 'Lock'");
    assert_eq!(lock_for_change(&mut second, true, &["krk_a"]), "deadlock");
    assert_eq!(second.collection_version(), 1);
    second.execute("commit");
    assert_eq!(waiting.join().unwrap(), "ok");
}

/// Held up at the middle one, a session has locked those before it and none
/// after, in whichever order they lie in the table and are asked for.
#[test]
fn root_keys_are_locked_in_the_order_of_their_ids() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut holder = database.migrated();
    for scope in ["c", "a", "b"] {
        holder.create_scope(scope);
    }
    holder.execute("begin; select 1 from kms_root_key where private_id = 'krk_b' for update");
    let mut waiting = database.connect();
    let waiting = std::thread::spawn(move || {
        lock_for_change(&mut waiting, false, &["krk_c", "krk_b", "krk_a"])
    });
    let mut conn = database.connect();
    wait_until(&mut conn, "wait_event_type = 'Lock'");
    let free = conn.values(
        "private_id",
        "(select private_id from kms_root_key for no key update skip locked) free",
    );
    assert_eq!(free, [Some("krk_c".to_owned())]);
    holder.execute("commit");
    assert_eq!(waiting.join().unwrap(), "ok");
}

#[test]
fn a_serialization_failure_is_let_through() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut other = database.migrated();
    other.create_scope("a");
    let mut conn = database.connect();
    conn.execute("begin isolation level repeatable read");
    assert_eq!(conn.collection_version(), 1);
    assert_eq!(lock_for_change(&mut other, true, &["krk_a"]), "ok");
    conn.execute(
        "do $$ begin
           perform kms_lock_for_change(true, array['krk_a']);
           raise exception 'not refused';
         exception when serialization_failure then null;
         end $$",
    );
}

#[test]
fn a_key_version_is_locked_or_missing_or_busy() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    conn.create_scope("a");
    conn.execute("begin");
    assert_eq!(lock_key_version(&mut conn, "krkv_1_a"), "ok");
    assert_eq!(lock_key_version(&mut conn, "kdkv_1_a"), "ok");
    assert_eq!(lock_key_version(&mut conn, "kdkv_9_a"), "missing");

    let mut other = database.connect();
    other.execute("begin");
    assert_eq!(lock_key_version(&mut other, "krkv_1_a"), "busy");
    assert_eq!(lock_key_version(&mut other, "kdkv_1_a"), "busy");
    assert_eq!(lock_key_version(&mut other, "kdkv_2_a"), "ok");
    conn.execute("commit");
    assert_eq!(lock_key_version(&mut other, "kdkv_1_a"), "ok");
}

#[test]
fn a_data_key_version_that_an_application_transaction_references_is_busy() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut application = database.migrated();
    application.create_scope("a");
    application.execute(
        "create table secret (key_version_id text references kms_data_key_version (private_id))",
    );
    application.execute("begin; insert into secret values ('kdkv_1_a')");
    let mut conn = database.connect();
    assert_eq!(lock_key_version(&mut conn, "kdkv_1_a"), "busy");
    // Rewrapping doesn't wait for such a transaction.
    conn.execute(
        r"set lock_timeout = '2s';
          update kms_data_key_version set key = '\x0a', root_key_version_id = 'krkv_2_a'
          where private_id = 'kdkv_1_a'",
    );
}

/// A new data key version takes turns with whoever holds the root key for a
/// change, and foreign key checks on the root key don't wait for either.
#[test]
fn a_new_version_waits_for_the_root_key_and_foreign_keys_do_not() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut holder = database.migrated();
    holder.create_scope("a");
    holder.execute("begin");
    assert_eq!(lock_for_change(&mut holder, false, &["krk_a"]), "ok");
    let mut conn = database.connect();
    conn.execute("set lock_timeout = '50ms'");
    conn.execute(
        "insert into kms_data_key (private_id, root_key_id, purpose) values ('n', 'krk_a', 'n')",
    );
    let blob = conn.blob();
    let insert = format!(
        "insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
         values ('v', 'kdk_a', 'krkv_1_a', {blob})"
    );
    conn.refusal(&insert);
    holder.execute("commit");
    conn.execute(&insert);
}

/// Both begin with the collection version: neither order of the two can
/// deadlock.
#[test]
fn deleting_scopes_and_changing_them_at_once_does_not_deadlock() {
    let Some(database) = TestDatabase::postgres() else {
        return;
    };
    let mut conn = database.migrated();
    let scopes: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
    for scope in &scopes {
        conn.create_scope(scope);
    }
    let (database, scopes) = (&database, &scopes);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let mut conn = database.connect();
            for scope in scopes {
                conn.execute(&format!(
                    "delete from kms_root_key where scope_id = '{scope}'"
                ));
            }
        });
        threads.spawn(move || {
            let mut conn = database.connect();
            for scope in scopes {
                conn.execute("begin");
                let id = format!("krk_{scope}");
                assert_eq!(lock_for_change(&mut conn, true, &[&id]), "ok");
                conn.execute(&format!(
                    r"update kms_root_key_version set key = '\x0a' where root_key_id = '{id}'; commit;"
                ));
            }
        });
    });
    assert_eq!(conn.key_rows(), [0, 0, 0, 0]);
}

fn lock_for_change(conn: &mut Connection, bump: bool, root_key_ids: &[&str]) -> String {
    let ids = root_key_ids.join(",");
    conn.value(
        &format!("kms_lock_for_change({bump}, '{{{ids}}}')"),
        "generate_series(1, 1)",
    )
}

fn lock_key_version(conn: &mut Connection, id: &str) -> String {
    conn.value(
        &format!("kms_lock_key_version('{id}')"),
        "generate_series(1, 1)",
    )
}

fn wait_until(conn: &mut Connection, condition: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let sessions = format!("pg_stat_activity where datname = current_database() and {condition}");
    while conn.count(&sessions) == 0 {
        assert!(Instant::now() < deadline, "{condition}");
        std::thread::yield_now();
    }
}
