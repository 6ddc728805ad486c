//! What a process asks before it is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::r2d2::{ConnectionManager, Pool, R2D2Connection};
use kms_core::{ErrorKind, Repository};
use kms_migrations::EXTENSION_VERSION;
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use crate::application::{Application, Database};
use crate::keys::{DATABASE, apply, rows, scope, with_keys};
use crate::statements::{Statement, Watched};

/// A pool of one connection, and the number of statements that it has sent.
pub(crate) fn counted_pool<C: R2D2Connection + 'static>(
    url: String,
) -> (Pool<ConnectionManager<C>>, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let watched = Watched::new(move |statement| {
        if statement == Statement::Any {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let pool = Pool::builder()
        .max_size(1)
        .min_idle(Some(0))
        .test_on_check_out(false)
        .connection_customizer(Box::new(watched))
        .build_unchecked(ConnectionManager::new(url));
    (pool, sent)
}

/// All that building an engine asks is one statement, each time.
pub(crate) async fn takes_one_statement(repository: &dyn Repository, sent: &AtomicUsize) {
    for engines in 1..=3 {
        repository.validate_schema().await.unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), engines);
    }
}

/// A migration that adds something leaves processes running that don't know it. What they need must be there.
pub(crate) async fn accepts_a_later_extension_and_no_earlier_one<D: Database>(
    application: &Application<D>,
) {
    let repository = application.repository();
    let extension = async |version: &str| {
        application.database.execute(&format!(
            "update kms_extension_version set version = '{version}'"
        ));
        repository.validate_schema().await
    };
    for accepted in [EXTENSION_VERSION, "v5", "v10", "v4294967295"] {
        let version = extension(accepted).await.unwrap();
        assert_eq!(version, kms_core::SCHEMA_VERSION);
    }
    for refused in [
        "v4", "v2", "v1", "v0", "v", "", "2", "v-3", "v+3", "v2.1", "v2 ", "V3", "none",
    ] {
        let error = extension(refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaVersion, "{refused}");
        assert_eq!(error.context("expected"), Some(EXTENSION_VERSION));
        assert_eq!(error.context("found"), Some(refused));
        assert!(
            error.to_string().contains("kms_extension_version"),
            "{error}"
        );
    }
    application
        .database
        .execute("delete from kms_extension_version");
    let error = repository.validate_schema().await.unwrap_err();
    assert_eq!(error.context("found"), Some("none"));
}

/// A test suite that truncates all tables but diesel's leaves tables with one row without it. Keys that are created then,
/// nobody could read.
pub(crate) async fn without_its_one_row_nothing_is_created_and_repair_is_named<D: Database>(
    application: &Application<D>,
    repair: impl Fn(),
) {
    let keys = with_keys(application, "o_1").await;
    application.add_scope(&scope("o_2")).await;
    let repository = application.repository();
    let create = || {
        apply(
            &*repository,
            change_sets::create(&scope("o_2"), &[DATABASE]),
        )
    };
    for table in [
        "kms_collection_version",
        "kms_schema_version",
        "kms_extension_version",
    ] {
        application
            .database
            .execute(&format!("delete from {table}"));
        let mut errors = vec![create().await.unwrap_err()];
        if table == "kms_collection_version" {
            errors.push(repository.load(&[scope("o_1")]).await.unwrap_err());
            errors.push(repository.collection_version(None).await.unwrap_err());
            let rotation = apply(&*repository, change_sets::rotate(&keys)).await;
            errors.push(rotation.unwrap_err());
        } else {
            errors.push(repository.validate_schema().await.unwrap_err());
        }
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::SchemaVersion, "{table}: {error}");
            assert_eq!(error.context("found"), Some("none"), "{table}: {error}");
            assert!(error.to_string().contains("`repair`"), "{table}: {error}");
        }
        repair();
        repository.validate_schema().await.unwrap();
        assert!(rows(&*repository, &scope("o_2")).await.is_none(), "{table}");
    }
    let _ = create().await.unwrap();
    let _ = apply(&*repository, change_sets::rotate(&keys))
        .await
        .unwrap();
}
