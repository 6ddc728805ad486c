//! The way from one collection version to another: which scopes a cache has to read again.
//!
//! A repository may decline to tell, and then its caches read more. What it does tell must be complete.

use std::time::Duration;

use kms_core::{
    ChangeSet, Changes, CollectionVersion, Proof, Purpose, Repository, ScopeId, ScopeRows,
};

use super::fixture::{Feature, Fixture, can};
use super::setup::{applied, apply, collection, many_with_keys, refused, rows, with_keys};
use crate::change_sets;

/// Every operation that moves the collection version names the scope that it changed.
pub async fn every_change_names_its_scope(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut keys = with_keys(fixture, "o_1").await;
    let changes: [fn(&ScopeRows) -> ChangeSet; 6] = [
        change_sets::rotate,
        change_sets::rotate_and_rewrap,
        change_sets::rewrap,
        |rows| change_sets::reconcile(rows, &[Purpose::from_static("more")]),
        |rows| {
            let old = rows.data_keys[0].versions[0].id.clone();
            change_sets::revoke(rows, old, Proof::Skipped)
        },
        |rows| change_sets::delete(rows, Proof::Skipped),
    ];
    for (position, change) in changes.iter().enumerate() {
        let before = collection(&*repository).await;
        let change = change(&keys);
        let operation = change.operation;
        let _ = apply(&*repository, change).await.unwrap();
        let changes = since(&*repository, before).await;
        assert_names(&changes, &[&keys.scope], &format!("{operation:?}"));
        if position + 1 < 6 {
            keys = rows(&*repository, &keys.scope).await;
        }
    }
}

/// A scope that was left alone is not named, once what came before is a few steps away.
pub async fn scopes_that_were_left_alone_are_not_named(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = many_with_keys(fixture, "o_", 4).await;
    let mut changed = keys[0].clone();
    for _ in 0..2 {
        changed = applied(&*repository, change_sets::rotate(&changed)).await;
    }
    let before = collection(&*repository).await;
    let _ = applied(&*repository, change_sets::rotate(&changed)).await;
    let _ = applied(&*repository, change_sets::rotate(&keys[1])).await;
    let changes = since(&*repository, before).await;
    assert_names(&changes, &[&keys[0].scope, &keys[1].scope], "two rotations");
    for left_alone in &keys[2..] {
        assert!(!names(&changes).contains(&left_alone.scope));
    }
}

/// Each move of the collection version is a step, in their order; what a caller knows of the way is left out.
pub async fn the_way_is_told_step_by_step(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = many_with_keys(fixture, "o_", 5).await;
    let mut versions = vec![collection(&*repository).await];
    for keys in &keys {
        let _ = applied(&*repository, change_sets::rotate(keys)).await;
        versions.push(collection(&*repository).await);
    }
    for (known, version) in versions.iter().enumerate() {
        let changes = since(&*repository, *version).await;
        assert_eq!(changes.collection, versions[5]);
        let Some(steps) = changes.steps else {
            continue;
        };
        let told: Vec<_> = steps.iter().map(|step| step.collection).collect();
        assert_eq!(told, versions[known + 1..]);
        for (step, keys) in steps.iter().zip(&keys[known..]) {
            assert!(step.scopes.contains(&keys.scope));
        }
    }
}

/// A batch is one step that names all of its scopes.
pub async fn a_batch_names_all_of_its_scopes(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = many_with_keys(fixture, "o_", 20).await;
    let before = collection(&*repository).await;
    let changes: Vec<_> = keys.iter().map(change_sets::rotate).collect();
    for outcome in repository.apply(changes.into()).await.unwrap() {
        let _ = outcome.unwrap();
    }
    let changes = since(&*repository, before).await;
    let scopes: Vec<_> = keys.iter().map(|keys| &keys.scope).collect();
    assert_names(&changes, &scopes, "a batch");
}

/// Of a collection version that did not move there is nothing to tell, also after a change that was refused.
pub async fn where_nothing_moved_the_way_is_empty(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    refused(
        &*repository,
        change_sets::rewrap(&keys),
        kms_core::ErrorKind::Conflict,
    )
    .await;
    let now = collection(&*repository).await;
    let changes = since(&*repository, now).await;
    assert_eq!(changes.collection, now);
    assert!(changes.steps.is_none_or(|steps| steps.is_empty()));
}

/// Nothing is told about a version that is none of this database's history: one with another time (another history
/// had the same number), one that is not reached yet, one that never was, or none.
pub async fn nothing_is_told_about_another_history(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let before = collection(&*repository).await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    let now = collection(&*repository).await;
    let other_times = [before, now].map(|version| CollectionVersion {
        update_time: version.update_time - Duration::from_secs(60),
        ..version
    });
    let beyond = CollectionVersion {
        version: now.version + 5,
        ..now
    };
    let never = CollectionVersion {
        version: before.version - 1_000_000,
        ..before
    };
    for unknown in [other_times[0], other_times[1], beyond, never] {
        assert_eq!(since(&*repository, unknown).await, Changes::untold(now));
    }
    let asked = repository.collection_version(None).await.unwrap();
    assert_eq!(asked, Changes::untold(now));
}

/// After scrambling nothing is told about what was before, and what comes after is.
pub async fn after_scrambling_nothing_is_told_about_before(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let start = collection(&*repository).await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let before = collection(&*repository).await;
    repository.scramble_collection_version().await.unwrap();
    let scrambled = collection(&*repository).await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    for old in [start, before] {
        let now = collection(&*repository).await;
        assert_eq!(since(&*repository, old).await, Changes::untold(now));
    }
    let changes = since(&*repository, scrambled).await;
    assert_names(&changes, &[&keys.scope], "a rotation after it");
}

/// Keys that are deleted by hand, or with the application's row, are named.
pub async fn a_scope_whose_keys_were_deleted_is_named(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    if can(fixture, Feature::Tampering) {
        let keys = with_keys(fixture, "o_1").await;
        let before = collection(&*repository).await;
        fixture.delete_root_key(&keys.scope).await;
        let changes = since(&*repository, before).await;
        assert_names(&changes, &[&keys.scope], "by hand");
    }
    if can(fixture, Feature::ApplicationScopes) {
        let keys = with_keys(fixture, "o_2").await;
        let before = collection(&*repository).await;
        fixture.delete_scope(&keys.scope).await;
        let changes = since(&*repository, before).await;
        assert_names(&changes, &[&keys.scope], "by cascade");
    }
}

async fn since(repository: &dyn Repository, version: CollectionVersion) -> Changes {
    repository.collection_version(Some(version)).await.unwrap()
}

fn names(changes: &Changes) -> Vec<ScopeId> {
    let steps = changes.steps.iter().flatten();
    steps.flat_map(|step| step.scopes.clone()).collect()
}

/// If the way is told, these scopes are on it.
fn assert_names(changes: &Changes, scopes: &[&ScopeId], what: &str) {
    if changes.steps.is_some() {
        let named = names(changes);
        for scope in scopes {
            assert!(
                named.contains(scope),
                "{what}: {scope} is not among {named:?}"
            );
        }
    }
}
