//! A file that is removed, or another one put in its place, under a process that has it open.

use std::fs;

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::sqlite::SqliteConnection;
use kms_core::{ErrorKind, Repository, ScopeId};
use kms_store_diesel::SqliteRepository;
use kms_testkit::change_sets;

use crate::keys::{DATABASE, apply, rows, scope};

/// A database in a folder of its own, with these scopes.
async fn database(folder: &tempfile::TempDir, name: &str, scopes: &[&str]) -> String {
    let path = folder.path().join(name).to_str().unwrap().to_owned();
    kms_migrations::sqlite::run(&mut SqliteConnection::establish(&path).unwrap()).unwrap();
    let repository = open(&path);
    for id in scopes {
        create(&repository, &scope(id)).await;
    }
    path
}

fn open(path: &str) -> SqliteRepository {
    SqliteRepository::builder(path).build().unwrap()
}

async fn create(repository: &dyn Repository, scope: &ScopeId) {
    let change = change_sets::create(scope, &[DATABASE]);
    let _ = apply(repository, change).await.unwrap();
}

async fn has(repository: &dyn Repository, id: &str) -> bool {
    rows(repository, &scope(id)).await.is_some()
}

/// As one should: the log goes with its file.
fn put_in_place(new: &str, of: &str) {
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{of}{end}"));
    }
    fs::rename(new, of).unwrap();
}

fn is_sound(path: &str) {
    let mut connection = SqliteConnection::establish(path).unwrap();
    let check: String = sql::<Text>("pragma integrity_check")
        .get_result(&mut connection)
        .unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn another_file_in_the_place_is_opened_and_written_to() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = database(&folder, "app.sqlite3", &["o_1", "o_2"]).await;
        let backup = database(&folder, "backup.sqlite3", &["o_1"]).await;
        let repository = open(&path);
        assert!(has(&repository, "o_2").await);
        assert_eq!(repository.server_changes(), 0);
        put_in_place(&backup, &path);
        assert!(!has(&repository, "o_2").await);
        assert_eq!(repository.server_changes(), 1, "the engine can tell");
        create(&repository, &scope("o_3")).await;
        drop(repository);
        is_sound(&path);
        assert!(has(&open(&path), "o_3").await);
    });
}

#[test]
fn a_file_that_is_gone_is_unreachable_until_there_is_one() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = database(&folder, "app.sqlite3", &["o_1"]).await;
        let repository = open(&path);
        let keys = rows(&repository, &scope("o_1")).await.unwrap();
        let away = folder.path().join("away").to_str().unwrap().to_owned();
        fs::rename(&path, &away).unwrap();
        for error in [
            repository.load(&[scope("o_1")]).await.unwrap_err(),
            repository.collection_version(None).await.unwrap_err(),
            apply(&repository, change_sets::rotate(&keys))
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
            assert!(error.to_string().contains("app.sqlite3"), "{error}");
        }
        assert!(!fs::exists(&path).unwrap(), "none was made");
        fs::rename(&away, &path).unwrap();
        let _ = apply(&repository, change_sets::rotate(&keys))
            .await
            .unwrap();
        assert_eq!(repository.server_changes(), 0, "it is the same one");
    });
}

#[test]
fn a_link_that_leads_to_another_file_is_followed() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let one = database(&folder, "one.sqlite3", &["o_1"]).await;
        let two = database(&folder, "two.sqlite3", &["o_2"]).await;
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(one, &link).unwrap();
        let repository = open(link.to_str().unwrap());
        assert!(has(&repository, "o_1").await);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(two, &link).unwrap();
        assert!(has(&repository, "o_2").await);
        assert!(!has(&repository, "o_1").await);
    });
}

#[test]
fn the_log_of_the_former_file_does_not_damage_the_new_one() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = database(&folder, "app.sqlite3", &["o_1", "o_2"]).await;
        let backup = database(&folder, "backup.sqlite3", &["o_3"]).await;
        let repository = open(&path);
        create(&repository, &scope("o_4")).await;
        let log = format!("{path}-wal");
        assert!(fs::metadata(&log).unwrap().len() > 0);
        fs::rename(&backup, &path).unwrap();
        for _ in 0..2 {
            let error = repository.load(&[scope("o_3")]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
            assert!(error.to_string().contains("app.sqlite3-wal"), "{error}");
        }
        fs::remove_file(&log).unwrap();
        fs::remove_file(format!("{path}-shm")).unwrap();
        assert!(has(&repository, "o_3").await);
        assert!(!has(&repository, "o_4").await);
        drop(repository);
        is_sound(&path);
    });
}

/// As `.restore` of SQLite's shell does: into the file, through its locks.
#[test]
fn a_backup_that_is_written_into_the_file_is_seen() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = database(&folder, "app.sqlite3", &["o_1"]).await;
        let repository = open(&path);
        let backup = folder.path().join("backup").to_str().unwrap().to_owned();
        SqliteConnection::establish(&path)
            .unwrap()
            .batch_execute(&format!("vacuum into '{backup}'"))
            .unwrap();
        create(&repository, &scope("o_2")).await;
        let restored = std::process::Command::new("sqlite3")
            .args([&path, &format!(".restore '{backup}'")])
            .status();
        // SQLite's shell is no part of this project, and its backup interface is not in diesel.
        let Ok(status) = restored else {
            eprintln!("skipped: sqlite3 (there is no such command)");
            return;
        };
        assert!(status.success());
        assert!(!has(&repository, "o_2").await);
        assert_eq!(repository.server_changes(), 0);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn no_connection_keeps_the_former_file_open() {
    kms_testkit::repository::run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = database(&folder, "app.sqlite3", &["o_1"]).await;
        let backup = database(&folder, "backup.sqlite3", &["o_1"]).await;
        let repository = open(&path);
        // As many connections as the pool has.
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let repository = repository.clone();
                tokio::spawn(async move { has(&repository, "o_1").await })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap());
        }
        put_in_place(&backup, &path);
        assert!(has(&repository, "o_1").await);
        let former = format!("{path} (deleted)");
        let started = std::time::Instant::now();
        let is_open = || {
            fs::read_dir("/proc/self/fd").unwrap().any(|entry| {
                fs::read_link(entry.unwrap().path())
                    .is_ok_and(|file| file.to_str() == Some(&former))
            })
        };
        while is_open() {
            assert!(started.elapsed().as_secs() < 20, "it is still open");
            std::thread::yield_now();
        }
    });
}
