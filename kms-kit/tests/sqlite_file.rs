//! A running engine whose SQLite file is removed, replaced by a backup, or can only be read.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::error::Error as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kms_kit::prelude::*;
use kms_kit::{ErrorKind, SqliteRepository};
use support::process::{child, engine, order};
use support::{DATABASE, Database};

/// A file with the schema, and with no table of an application's.
fn database() -> Database {
    let database = Database::empty_sqlite();
    let support::Connection::Sqlite(mut connection) = database.connect() else {
        unreachable!()
    };
    kms_kit::migrations::sqlite::run(&mut connection).unwrap();
    database
}

fn path(database: &Database) -> &str {
    match database {
        Database::Sqlite { path, .. } => path,
        Database::Postgres { .. } => unreachable!(),
    }
}

fn back_up(database: &Database) -> String {
    let backup = format!("{}.backup", path(database));
    database.execute(&format!("vacuum into '{backup}'"));
    backup
}

/// As one should: the log goes with its file.
fn put_in_place(backup: &str, of: &Database) {
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", path(of)));
    }
    fs::rename(backup, path(of)).unwrap();
}

fn scope(id: &str) -> ScopeId {
    ScopeId::new(id).unwrap()
}

async fn running(database: &Database) -> Kms {
    let builder = engine(database).freshness(Freshness::Always);
    builder.build().await.unwrap()
}

/// A process that read keys made after the backup forgets them when the backup is in the place of its file.
async fn restored(announced: bool) {
    let database = database();
    let kms = running(&database).await;
    kms.create_keys(&scope("o_1"), &[DATABASE]).await.unwrap();
    let backup = back_up(&database);
    kms.create_keys(&scope("o_2"), &[DATABASE]).await.unwrap();
    kms.wrapper(&scope("o_2"), &DATABASE).await.unwrap();

    put_in_place(&backup, &database);
    if announced {
        assert!(child(&database, &["announce"]).status().unwrap().success());
    }
    let error = kms.wrapper(&scope("o_2"), &DATABASE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope, "{error}");
    kms.wrapper(&scope("o_1"), &DATABASE).await.unwrap();

    kms.create_keys(&scope("o_2"), &[DATABASE]).await.unwrap();
    let here = kms.wrapper(&scope("o_2"), &DATABASE).await.unwrap();
    let elsewhere = running(&database).await;
    let there = elsewhere.wrapper(&scope("o_2"), &DATABASE).await.unwrap();
    assert_eq!(here.key_version_id(), there.key_version_id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_restored_backup_has_not_are_not_used() {
    restored(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_restored_backup_has_not_are_not_used_after_another_process_announced_it() {
    restored(true).await;
}

/// What another process does. In the parent it is an ordinary test that has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child() {
    if let Some((database, [_])) = order::<1>() {
        let kms = engine(&database).build().await.unwrap();
        kms.announce_restore().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_file_an_engine_says_that_the_database_is_unreachable() {
    let database = database();
    let kms = running(&database).await;
    kms.create_keys(&scope("o_1"), &[DATABASE]).await.unwrap();
    kms.wrapper(&scope("o_1"), &DATABASE).await.unwrap();
    let away = format!("{}.away", path(&database));
    fs::rename(path(&database), &away).unwrap();

    let error = kms.wrapper(&scope("o_1"), &DATABASE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
    let source = error.source().unwrap().to_string();
    assert!(source.contains("can't be reached"), "{source}");
    let error = kms
        .create_keys(&scope("o_2"), &[DATABASE])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");

    fs::rename(&away, path(&database)).unwrap();
    kms.create_keys(&scope("o_2"), &[DATABASE]).await.unwrap();
    kms.list_keys(&scope("o_2")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_after_a_replacement_is_in_the_new_file() {
    const CREATORS: usize = 4;
    const EACH: usize = 20;
    let database = database();
    let kms = running(&database).await;
    let backup = back_up(&database);
    let replaced = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let creators: Vec<_> = (0..CREATORS)
        .map(|creator| {
            let (kms, replaced, done) = (kms.clone(), Arc::clone(&replaced), Arc::clone(&done));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                let mut number = 0;
                while acknowledged.len() < EACH {
                    number += 1;
                    let scope = scope(&format!("o_{creator}_{number}"));
                    let after = replaced.load(Ordering::SeqCst);
                    let created = kms.create_keys(&scope, &[DATABASE]).await;
                    done.fetch_add(1, Ordering::SeqCst);
                    if after && created.is_ok() {
                        acknowledged.push(scope);
                    }
                }
                acknowledged
            })
        })
        .collect();
    while done.load(Ordering::SeqCst) < CREATORS * 2 {
        tokio::task::yield_now().await;
    }
    put_in_place(&backup, &database);
    replaced.store(true, Ordering::SeqCst);
    let elsewhere = running(&database).await;
    for creator in creators {
        for scope in creator.await.unwrap() {
            let here = kms.wrapper(&scope, &DATABASE).await.unwrap();
            let there = elsewhere.wrapper(&scope, &DATABASE).await.unwrap();
            assert_eq!(here.key_version_id(), there.key_version_id());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_only_decrypts_works_on_a_file_that_can_only_be_read() {
    let database = database();
    let writing = running(&database).await;
    let scope = scope("o_1");
    writing.create_keys(&scope, &[DATABASE]).await.unwrap();
    let wrapper = writing.wrapper(&scope, &DATABASE).await.unwrap();
    let blob = wrapper.encrypt(b"secret", b"row").unwrap();
    drop(writing);
    database.execute("pragma wal_checkpoint(truncate)");
    for query in ["mode=ro", "immutable=1"] {
        let repository = SqliteRepository::builder(format!("file:{}?{query}", path(&database)));
        let kms = support::process::engine_on(Arc::new(repository.build().unwrap()))
            .decrypt_only()
            .build()
            .await
            .unwrap();
        kms.preflight().await.unwrap();
        let opened = kms.decrypt(&scope, &DATABASE, &blob, b"row").await.unwrap();
        assert_eq!(opened.expose(), b"secret");
    }
}
