//! How many threads a repository has. In a process of its own: threads are counted.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

use diesel::Connection as _;
use diesel::sqlite::SqliteConnection;
use kms_core::Repository as _;
use kms_store_diesel::SqliteRepository;

const SIZE: usize = 4;

#[test]
fn there_are_as_many_threads_as_connections_however_many_calls_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sqlite3");
    let path = path.to_str().unwrap();
    kms_migrations::sqlite::run(&mut SqliteConnection::establish(path).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let before = threads();
        let repository = SqliteRepository::builder(path)
            .pool_size(u32::try_from(SIZE).unwrap())
            .build()
            .unwrap();
        assert_eq!(threads(), before, "building one starts nothing");
        for _ in 0..20 {
            let calls: Vec<_> = (0..50)
                .map(|_| {
                    let repository = repository.clone();
                    tokio::spawn(async move { repository.collection_version(None).await })
                })
                .collect();
            for call in calls {
                call.await.unwrap().unwrap();
            }
            assert!(threads() <= before + SIZE, "{}", threads());
        }
        drop(repository);
        // They end with the repository; the system counts one until it has cleared up after it.
        let dropped = Instant::now();
        while threads() > before {
            assert!(dropped.elapsed() < Duration::from_secs(20), "they go on");
            std::thread::yield_now();
        }
    });
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}
