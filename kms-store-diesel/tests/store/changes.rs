//! What is told of changes since a collection version, beyond what the suite asks of every repository.

use std::sync::atomic::{AtomicUsize, Ordering};

use kms_core::{CollectionVersion, Repository, Step};
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use crate::application::{Application, Database};
use crate::keys::{apply, with_keys};

const MOVE: &str = "update kms_collection_version set version = version + 1";

/// One statement each, whether the collection version moved or not, and whether there is anything to tell.
pub(crate) async fn are_asked_for_with_one_statement<D: Database>(
    application: &Application<D>,
    repository: &dyn Repository,
    sent: &AtomicUsize,
) {
    let first = collection(repository).await;
    let keys = with_keys(application, "o_1").await;
    let _ = apply(&*application.repository(), change_sets::rotate(&keys))
        .await
        .unwrap();
    let now = collection(repository).await;
    let before = sent.load(Ordering::SeqCst);
    for (asked, since) in [None, Some(now), Some(first)].into_iter().enumerate() {
        repository.collection_version(since).await.unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), before + asked + 1);
    }
}

/// Where a former version is missing, the way from before it is not told.
pub(crate) async fn are_not_told_across_a_gap<D: Database>(application: &Application<D>) {
    let repository = application.repository();
    let mut passed = Vec::new();
    for _ in 0..4 {
        passed.push(collection(&*repository).await);
        application.database.execute(MOVE);
    }
    let lengths = async || {
        let mut lengths = Vec::new();
        for since in &passed {
            lengths.push(told(&*repository, *since).await.map(|steps| steps.len()));
        }
        lengths
    };
    assert_eq!(lengths().await, [Some(4), Some(3), Some(2), Some(1)]);
    application.database.execute(&format!(
        "delete from kms_collection_history where version = {}",
        passed[1].version
    ));
    assert_eq!(lengths().await, [None, None, Some(2), Some(1)]);
}

/// A thousand steps and ten thousand scopes, and not one more: reading all rows anew is cheaper then.
pub(crate) async fn are_told_up_to_a_limit<D: Database>(application: &Application<D>) {
    let repository = application.repository();
    application.database.execute(MOVE);
    let first = collection(&*repository).await;
    for _ in 0..1_000 {
        application.database.execute(MOVE);
    }
    let steps = told(&*repository, first).await.unwrap();
    assert_eq!(steps.len(), 1_000);
    application.database.execute(MOVE);
    assert_eq!(told(&*repository, first).await, None);

    let since = steps[997].collection;
    application.database.execute(&format!(
        "insert into kms_scope_change (collection_version, scope_id)
           with recursive s (n) as (select 1 union all select n + 1 from s where n < 10000)
           select {}, 's_' || n from s",
        since.version + 1
    ));
    let scopes = told(&*repository, since).await.unwrap()[0].scopes.len();
    assert_eq!(scopes, 10_000);
    application.database.execute(&format!(
        "insert into kms_scope_change (collection_version, scope_id) values ({}, 'one_more')",
        since.version + 2
    ));
    assert_eq!(told(&*repository, since).await, None);
}

/// A change that moved nothing, by hand, counts with the next move.
pub(crate) async fn by_hand_are_told_with_the_next_move<D: Database>(application: &Application<D>) {
    let repository = application.repository();
    let edited = with_keys(application, "o_1").await;
    let other = with_keys(application, "o_2").await;
    application.database.execute(MOVE);
    application.database.execute(MOVE);
    let since = collection(&*repository).await;
    let id = edited.root_key_versions[0].id.clone().into();
    application.set_key(&id, b"forged").await;
    assert_eq!(told(&*repository, since).await, Some(Vec::new()));
    let _ = apply(&*repository, change_sets::rotate(&other))
        .await
        .unwrap();
    let steps = told(&*repository, since).await.unwrap();
    assert_eq!(steps.len(), 1);
    for rows in [&edited, &other] {
        assert!(steps[0].scopes.contains(&rows.scope), "{steps:?}");
    }
}

async fn told(repository: &dyn Repository, since: CollectionVersion) -> Option<Vec<Step>> {
    repository
        .collection_version(Some(since))
        .await
        .unwrap()
        .steps
}

async fn collection(repository: &dyn Repository) -> CollectionVersion {
    // With the rows, as a cache learns it: the times must be the same on both ways.
    repository.load(&[]).await.unwrap().collection
}
