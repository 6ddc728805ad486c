//! Reads of single scopes are done where they are called.

use std::sync::mpsc;
use std::time::Duration;

use kms_core::Repository;
use kms_store_diesel::SqliteRepository;
use kms_testkit::change_sets;

use super::{fixture, on_sqlite};
use crate::keys::{apply, rows, scope, with_keys};

#[test]
fn a_scope_is_read_without_another_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let application = fixture().await;
        let keys = with_keys(&application, "o_1").await;
        let repository = SqliteRepository::builder(application.database.path())
            .build()
            .unwrap();
        // The first read opens a connection, which may block.
        assert!(rows(&repository, &keys.scope).await.is_some());
        let (end, ended) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || ended.recv());
        let read = async {
            assert!(rows(&repository, &keys.scope).await.is_some());
            assert!(rows(&repository, &scope("o_2")).await.is_none());
            repository.collection_version().await.unwrap();
        };
        let read = tokio::time::timeout(Duration::from_secs(60), read).await;
        drop(end);
        let _ = busy.await.unwrap();
        read.expect("the reads waited for a thread");
    });
}

#[test]
fn what_was_committed_is_in_the_next_read() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let repository = SqliteRepository::builder(application.database.path())
            .build()
            .unwrap();
        let mut before = rows(&repository, &keys.scope).await.unwrap();
        for _ in 0..20 {
            let change = change_sets::rotate_and_rewrap(&before);
            let _ = apply(&repository, change).await.unwrap();
            let after = rows(&repository, &keys.scope).await.unwrap();
            assert_eq!(
                after.root_key_versions.len(),
                before.root_key_versions.len() + 1
            );
            before = after;
        }
    });
}
