//! Files and folders that can't be written to.

use std::error::Error as _;

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::sqlite::SqliteConnection;
use kms_core::{ErrorKind, Repository as _, ScopeRows};
use kms_store_diesel::SqliteRepository;
use kms_testkit::change_sets;

use super::on_sqlite;
use crate::application::Database as _;
use crate::keys::{apply, with_keys};

/// All that an engine asks which only decrypts, and that a change is refused.
async fn reads_and_refuses_to_write(repository: &SqliteRepository, keys: &ScopeRows) {
    repository.validate_schema().await.unwrap();
    repository.root_checks().await.unwrap();
    repository.collection_version(None).await.unwrap();
    let found = repository
        .load(std::slice::from_ref(&keys.scope))
        .await
        .unwrap();
    assert!(found.scopes[0].same_keys(keys));
    let error = apply(repository, change_sets::rotate(keys))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseReadOnly, "{error}");
    let source = error.source().unwrap().to_string();
    assert!(source.contains("readonly database"), "{source}");
}

fn open(path: &str, query: &str) -> SqliteRepository {
    let path = path.replace(' ', "%20");
    SqliteRepository::builder(format!("file:{path}?{query}"))
        .build()
        .unwrap()
}

#[test]
fn a_file_that_is_opened_to_read_only_is_read() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        reads_and_refuses_to_write(&open(&application.database.path(), "mode=ro"), &keys).await;
    });
}

#[test]
fn a_file_without_the_write_ahead_log_that_is_opened_to_read_only_is_read() {
    let (_folder, path, keys) = closed("delete");
    kms_testkit::repository::run(async {
        reads_and_refuses_to_write(&open(&path, "mode=ro"), &keys).await;
    });
}

#[test]
fn a_file_that_nobody_changes_is_read() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application
            .database
            .execute("pragma wal_checkpoint(truncate)");
        reads_and_refuses_to_write(&open(&application.database.path(), "immutable=1"), &keys).await;
    });
}

/// A database of one scope that no process has open.
fn closed(mode: &str) -> (tempfile::TempDir, String, ScopeRows) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sqlite3");
    let path = path.to_str().unwrap().to_owned();
    let mut keys = None;
    on_sqlite(async |application| {
        keys = Some(with_keys(&application, "o_1").await);
        application
            .database
            .execute(&format!("vacuum into '{path}'"));
    });
    SqliteConnection::establish(&path)
        .unwrap()
        .batch_execute(&format!("pragma journal_mode = {mode}"))
        .unwrap();
    (folder, path, keys.unwrap())
}

/// Rights of files and folders, which root does not have to heed: then the thread, and those that it starts, is
/// nobody's for as long as it touches them.
#[cfg(target_os = "linux")]
mod folders {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use nix::unistd::{Uid, User, setfsuid};

    use super::*;

    /// Runs the work as somebody who can't write to the folder of the database.
    fn as_somebody_who_only_reads(folder: &Path, work: impl AsyncFnOnce() + Send) {
        for entry in fs::read_dir(folder).unwrap() {
            fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(0o444)).unwrap();
        }
        fs::set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if Uid::effective().is_root() {
                    let nobody = User::from_name("nobody").unwrap().unwrap();
                    setfsuid(nobody.uid);
                }
                fs::write(folder.join("new"), "").expect_err("the folder can't be written to");
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(work());
            });
        });
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_file_without_the_write_ahead_log_is_read() {
        let (folder, path, keys) = closed("delete");
        as_somebody_who_only_reads(folder.path(), async || {
            let repository = SqliteRepository::builder(&path).build().unwrap();
            reads_and_refuses_to_write(&repository, &keys).await;
        });
    }

    #[test]
    fn a_file_whose_log_is_open_elsewhere_is_read() {
        let (folder, path, keys) = closed("wal");
        let mut elsewhere = SqliteConnection::establish(&path).unwrap();
        elsewhere
            .batch_execute("create table begins_the_log (id text)")
            .unwrap();
        as_somebody_who_only_reads(folder.path(), async || {
            let repository = SqliteRepository::builder(&path).build().unwrap();
            reads_and_refuses_to_write(&repository, &keys).await;
        });
    }

    #[test]
    fn a_file_whose_log_is_not_there_is_refused_as_sqlite_does_and_read_as_immutable() {
        let (folder, path, keys) = closed("wal");
        as_somebody_who_only_reads(folder.path(), async || {
            let repository = SqliteRepository::builder(&path).build().unwrap();
            let error = repository.validate_schema().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
            let source = error.source().unwrap().to_string();
            assert!(
                source.contains("attempt to write a readonly database"),
                "{source}"
            );
            reads_and_refuses_to_write(&open(&path, "immutable=1"), &keys).await;
        });
    }
}
