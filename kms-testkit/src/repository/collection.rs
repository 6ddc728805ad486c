//! The collection version: how other processes see that something changed.

use std::time::SystemTime;

use kms_core::{ChangeSet, ErrorKind, Proof, Purpose, ScopeRows};

use super::fixture::{Feature, Fixture, can};
use super::setup::{
    Picture, applied, apply, assert_same, collection, find_rows, refused, rows, with_keys,
};
use crate::change_sets;

/// Every operation but creation moves the collection version forward, together with its rows.
pub async fn every_change_but_creation_moves_the_collection_version(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut keys = with_keys(fixture, "o_1").await;
    let changes: [fn(&ScopeRows) -> ChangeSet; 5] = [
        change_sets::rotate,
        change_sets::rotate_and_rewrap,
        change_sets::rewrap,
        |rows| change_sets::reconcile(rows, &[Purpose::from_static("more")]),
        |rows| {
            let old = rows.data_keys[0].versions[0].id.clone();
            change_sets::revoke(rows, old, Proof::Skipped)
        },
    ];
    for change in changes {
        let change = change(&keys);
        let operation = change.operation;
        let before = collection(&*repository).await;
        let _ = apply(&*repository, change).await.unwrap();
        let snapshot = repository
            .load(std::slice::from_ref(&keys.scope))
            .await
            .unwrap();
        assert!(
            snapshot.collection.version > before.version,
            "{operation:?}"
        );
        assert_eq!(snapshot.collection, collection(&*repository).await);
        keys = rows(&*repository, &keys.scope).await;
    }
    let before = collection(&*repository).await;
    let deletion = change_sets::delete(&keys, Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    assert!(
        collection(&*repository).await.version > before.version,
        "delete"
    );
}

/// The time of the last change goes with the counter, and is the database's.
pub async fn the_update_time_follows_every_change(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let before = collection(&*repository).await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    let after = collection(&*repository).await;
    assert!(after.update_time >= before.update_time);
    assert!(after.update_time > SystemTime::UNIX_EPOCH);
}

/// A change that is refused leaves the collection version alone, so that no cache anywhere is checked
/// for nothing.
pub async fn a_refused_change_leaves_the_collection_version_alone(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    refused(
        &*repository,
        change_sets::rewrap(&keys),
        ErrorKind::Conflict,
    )
    .await;
}

/// A root key deleted by hand moves the collection version: a trigger sees to it.
pub async fn a_root_key_deleted_by_hand_moves_the_collection_version(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Tampering) {
        return;
    }
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let other = with_keys(fixture, "o_2").await;
    let before = collection(&*repository).await;
    fixture.delete_root_key(&keys.scope).await;
    assert!(collection(&*repository).await.version > before.version);
    assert!(find_rows(&*repository, &keys.scope).await.is_none());
    assert_same(&rows(&*repository, &other.scope).await, &other);
}

/// A scope deleted by the application takes all its keys along, whatever their number, and moves the
/// collection version.
pub async fn a_scope_deleted_by_the_application_moves_the_collection_version(
    fixture: &dyn Fixture,
) {
    if !can(fixture, Feature::ApplicationScopes) {
        return;
    }
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let other = with_keys(fixture, "o_2").await;
    let before = collection(&*repository).await;
    fixture.delete_scope(&keys.scope).await;
    assert!(collection(&*repository).await.version > before.version);
    assert!(find_rows(&*repository, &keys.scope).await.is_none());
    for id in [
        keys.root_key_versions[0].id.clone().into(),
        keys.data_keys[1].versions[1].id.clone().into(),
    ] {
        assert_eq!(repository.scope_of(&id).await.unwrap(), None);
    }
    assert_same(&rows(&*repository, &other.scope).await, &other);
}

/// Scrambling moves the collection version somewhere else, changes no row, and leaves room to count on.
pub async fn scrambling_moves_the_collection_version_and_nothing_else(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let mut seen = vec![collection(&*repository).await.version];
    for _ in 0..3 {
        repository.scramble_collection_version().await.unwrap();
        let version = collection(&*repository).await.version;
        assert!(version > 0);
        assert!(!seen.contains(&version), "{version} again: {seen:?}");
        seen.push(version);
    }
    let before = Picture::take(&*repository).await;
    before.assert_unchanged(&*repository).await;
    assert_same(&rows(&*repository, &keys.scope).await, &keys);
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    assert!(collection(&*repository).await.version > seen[3]);
}
