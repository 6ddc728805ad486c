//! Taking over a database while changes are under way.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;
#[path = "support/go.rs"]
mod go;

use std::time::{Duration, Instant};

use database::Connection;
use go::made_by_go;
use kms_migrations::ErrorKind;

/// Each in the order in which Go, or a cascade, takes its locks. Adoption begins
/// to wait between the two halves.
const CHANGES: [(&str, &str); 3] = [
    (
        "begin; update kms_collection_version set version = version + 1",
        "insert into kms_root_key_version (private_id, root_key_id, key) values ('krkv_3_g', 'krk_g', 'x');
         insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
           values ('kdkv_3_g', 'kdk_g', 'krkv_3_g', 'x');
         commit",
    ),
    (
        "begin; delete from kms_root_key where false",
        "delete from kms_root_key where scope_id = 'g'; commit",
    ),
    (
        "begin; select 1 from kms_root_key",
        "select 1 from kms_root_key_version; select 1 from kms_data_key; select 1 from kms_data_key_version; commit",
    ),
];

#[test]
fn adoption_waits_for_what_is_under_way_and_does_not_deadlock() {
    for (first_half, second_half) in CHANGES {
        let Some((database, mut change)) = made_by_go(true) else {
            return;
        };
        change.execute("set deadlock_timeout = '10s'");
        change.execute(first_half);
        let mut conn = database.connect();
        conn.execute("set deadlock_timeout = '10ms'");
        let adopting = std::thread::spawn(move || {
            let adoption = conn.adopt();
            (conn, adoption)
        });
        wait_until_adoption_waits(&mut database.connect());
        change.execute(second_half);
        let (mut conn, adoption) = adopting.join().unwrap();
        assert!(!adoption.unwrap().already_adopted, "{first_half}");
        assert!(conn.verify().unwrap().is_ok());
    }
}

/// As far as it may wait, everybody else waits behind it.
#[test]
fn with_a_lock_timeout_adoption_gives_up_and_has_changed_nothing() {
    let Some((database, mut change)) = made_by_go(true) else {
        return;
    };
    change.execute(CHANGES[0].0);
    let mut conn = database.connect();
    let before = conn.catalogue().unwrap();
    conn.execute("set lock_timeout = '20ms'");
    let error = conn.adopt().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Database);
    assert_eq!(conn.catalogue().unwrap(), before);
    change.execute("commit");
    conn.adopt().unwrap();
}

#[test]
fn a_sqlite_file_is_switched_to_the_write_ahead_log() {
    let (database, mut conn) = made_by_go(false).unwrap();
    assert_eq!(conn.value("journal_mode", "pragma_journal_mode"), "delete");
    // Again on a database that is ours already.
    for mode in ["delete", "wal"] {
        conn.execute(&format!("pragma journal_mode = {mode}"));
        let adoption = conn.adopt().unwrap();
        assert_eq!(adoption.journal_mode.as_deref(), Some("wal"));
        let mut another = database.connect();
        assert_eq!(another.value("journal_mode", "pragma_journal_mode"), "wal");
    }
}

#[test]
fn inside_a_transaction_a_sqlite_file_stays_in_its_mode() {
    let (_database, mut conn) = made_by_go(false).unwrap();
    let Connection::Sqlite(sqlite) = &mut conn else {
        panic!("it is a file");
    };
    let adoption = sqlite.immediate_transaction(kms_migrations::sqlite::adopt);
    assert_eq!(adoption.unwrap().journal_mode, None);
    assert!(conn.verify().unwrap().is_ok());
    assert_eq!(conn.value("journal_mode", "pragma_journal_mode"), "delete");
}

fn wait_until_adoption_waits(conn: &mut Connection) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while conn
        .count("pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")
        == 0
    {
        assert!(Instant::now() < deadline, "adoption does not wait");
        std::thread::sleep(Duration::from_millis(5));
    }
}
