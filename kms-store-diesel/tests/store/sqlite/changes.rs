//! What is told of changes since a collection version.

use kms_core::Repository as _;
use kms_store_diesel::SqliteRepository;

use super::on_sqlite;
use crate::application::Database as _;
use crate::changes;
use crate::starting::counted_pool;

#[test]
fn changes_are_asked_for_with_one_statement() {
    on_sqlite(async |application| {
        let (pool, sent) = counted_pool(application.database.path());
        let repository = SqliteRepository::from_pool(pool);
        changes::are_asked_for_with_one_statement(&application, &repository, &sent).await;
    });
}

#[test]
fn changes_are_not_told_across_a_gap() {
    on_sqlite(async |application| changes::are_not_told_across_a_gap(&application).await);
}

#[test]
fn changes_are_told_up_to_a_limit() {
    on_sqlite(async |application| changes::are_told_up_to_a_limit(&application).await);
}

#[test]
fn changes_by_hand_are_told_with_the_next_move() {
    on_sqlite(async |application| changes::by_hand_are_told_with_the_next_move(&application).await);
}

/// Go's trigger writes local time, a time of another client's may have its zone with it, and some are no time at all:
/// they are compared as they are read.
#[test]
fn times_in_any_format_are_told_from_each_other() {
    on_sqlite(async |application| {
        let repository = SqliteRepository::builder(application.database.path())
            .build()
            .unwrap();
        application
            .database
            .execute("drop trigger update_time_column_kms_collection_version");
        for time in [
            "2023-11-14 23:13:20.000000000+01:00",
            "2023-11-14 22:13:20.123",
            "2023-11-14 23:13:20 +0100 CET m=+0.012",
            "2023-11-14T22:13:20Z",
            "no time",
        ] {
            application.database.execute(&format!(
                "update kms_collection_version set version = version + 1, update_time = '{time}'"
            ));
            let since = repository.load(&[]).await.unwrap().collection;
            application.database.execute(
                "update kms_collection_version set version = version + 1, update_time = '2024-01-01 00:00:00'",
            );
            let steps = repository
                .collection_version(Some(since))
                .await
                .unwrap()
                .steps
                .unwrap();
            assert_eq!(steps.len(), 1, "{time}");
        }
    });
}
