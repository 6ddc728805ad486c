//! The way from one collection version to another: which scopes a cache has to read again.
//!
//! A repository may decline to tell ([`Feature::Telling`]), and then its caches read more. What it does tell must be
//! complete.

use std::time::Duration;

use kms_core::{
    ChangeSet, Changes, CollectionVersion, ErrorKind, Proof, Purpose, Repository, ScopeId,
    ScopeRows, Step,
};

use super::fixture::{Feature, Fixture, can};
use super::setup::{
    DATABASE, applied, apply, collection, find_rows, many_with_keys, new_scope, refused, with_keys,
};
use crate::change_sets;

/// What changed since: the scope that did, and not one that rested.
pub async fn a_change_names_its_scope_and_no_other(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let other = with_keys(fixture, "o_2").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let since = collection(&*repository).await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    let steps = told(&*repository, since).await;
    assert_eq!(steps.len(), 1);
    assert!(steps[0].scopes.contains(&keys.scope), "{steps:?}");
    assert!(!steps[0].scopes.contains(&other.scope), "{steps:?}");
}

/// Whatever changes a scope's rows names it.
pub async fn every_operation_names_its_scope(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let mut keys = with_keys(fixture, "o_1").await;
    let changes: [fn(&ScopeRows) -> ChangeSet; 7] = [
        change_sets::rotate,
        change_sets::rotate_and_rewrap,
        change_sets::rewrap,
        |rows| change_sets::reconcile(rows, &[Purpose::from_static("more")]),
        |rows| {
            let old = rows.data_keys[0].versions[0].id.clone();
            change_sets::revoke(rows, old, Proof::Skipped)
        },
        |rows| {
            let old = rows.root_key_versions[0].id.clone();
            change_sets::revoke(rows, old, Proof::Skipped)
        },
        |rows| change_sets::delete(rows, Proof::Skipped),
    ];
    for change in changes {
        // Two changes of another scope, so that nothing before them counts with what comes.
        let quiet = with_keys(
            fixture,
            &format!("q_{}", collection(&*repository).await.version),
        )
        .await;
        let quiet = applied(&*repository, change_sets::rotate(&quiet)).await;
        let _ = applied(&*repository, change_sets::rotate(&quiet)).await;
        let since = collection(&*repository).await;
        let change = change(&keys);
        let operation = change.operation;
        let _ = apply(&*repository, change).await.unwrap();
        let steps = told(&*repository, since).await;
        let last = steps.last().expect("it moved the collection version");
        assert!(
            last.scopes.contains(&keys.scope),
            "{operation:?}: {steps:?}"
        );
        match find_rows(&*repository, &keys.scope).await {
            Some(rows) => keys = rows,
            None => return,
        }
    }
    panic!("{} is deleted", keys.scope);
}

/// Every move of the collection version is a step, in their order, with what it moved to; from any of them the rest is
/// told.
pub async fn the_way_across_changes_is_told_in_order(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let mut scopes = many_with_keys(fixture, "o_", 4).await;
    // So that their creation doesn't count.
    let _ = applied(&*repository, change_sets::rotate(&scopes[3])).await;
    let mut passed = vec![collection(&*repository).await];
    for rows in &mut scopes[..3] {
        *rows = applied(&*repository, change_sets::rotate(rows)).await;
        passed.push(collection(&*repository).await);
    }
    let steps = told(&*repository, passed[0]).await;
    let versions: Vec<_> = steps.iter().map(|step| step.collection).collect();
    assert_eq!(versions, passed[1..]);
    for (position, step) in steps.iter().enumerate() {
        assert!(step.scopes.contains(&scopes[position].scope), "{steps:?}");
        for later in &scopes[position + 1..3] {
            assert!(!step.scopes.contains(&later.scope), "{steps:?}");
        }
    }
    for (position, since) in passed.iter().enumerate() {
        let rest = told(&*repository, *since).await;
        let versions: Vec<_> = rest.iter().map(|step| step.collection).collect();
        assert_eq!(versions, passed[position + 1..]);
    }
}

/// A batch is one transaction: all its scopes are named by its steps, also where some were refused.
pub async fn each_scope_of_a_batch_is_named(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let scopes = many_with_keys(fixture, "o_", 30).await;
    let rested = with_keys(fixture, "p_1").await;
    let stale = change_sets::rotate(&rested);
    let rested = applied(&*repository, change_sets::rotate(&rested)).await;
    let quiet = with_keys(fixture, "q_1").await;
    let _ = applied(&*repository, change_sets::rotate(&quiet)).await;
    let since = collection(&*repository).await;
    let changes: Vec<_> = scopes
        .iter()
        .map(change_sets::rotate_and_rewrap)
        .chain([stale])
        .collect();
    let outcomes = repository.apply(changes.into()).await.unwrap();
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        30
    );
    let steps = told(&*repository, since).await;
    let named: Vec<_> = steps.iter().flat_map(|step| &step.scopes).collect();
    for rows in &scopes {
        assert!(named.contains(&&rows.scope), "{}", rows.scope);
    }
    assert!(!named.contains(&&rested.scope), "{steps:?}");
}

/// Creation moves nothing, and so is no step.
pub async fn creation_is_no_step(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let since = collection(&*repository).await;
    let created = with_keys(fixture, "o_2").await;
    assert_eq!(told(&*repository, since).await, []);
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    let steps = told(&*repository, since).await;
    assert_eq!(steps.len(), 1);
    assert!(steps[0].scopes.contains(&keys.scope), "{steps:?}");
    // What comes after it, is.
    let since = collection(&*repository).await;
    let _ = applied(&*repository, change_sets::rotate(&created)).await;
    let steps = told(&*repository, since).await;
    assert!(steps[0].scopes.contains(&created.scope), "{steps:?}");
}

/// A scope that was created without data keys may be known to caches, so its first data keys are a change.
pub async fn data_keys_added_to_a_scope_without_any_name_it(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let scope = new_scope(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::create(&scope, &[])).await;
    let since = collection(&*repository).await;
    let _ = applied(&*repository, change_sets::reconcile(&keys, &[DATABASE])).await;
    let steps = told(&*repository, since).await;
    assert_eq!(steps.len(), 1);
    assert!(steps[0].scopes.contains(&scope), "{steps:?}");
}

/// A change that is refused is no step.
pub async fn a_refused_change_leaves_no_step(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    let since = collection(&*repository).await;
    let stale = change_sets::rewrap(&keys);
    refused(&*repository, stale, ErrorKind::Conflict).await;
    assert_eq!(told(&*repository, since).await, []);
}

/// A scope whose root key was deleted by hand is named: a trigger sees to it.
pub async fn a_root_key_deleted_by_hand_is_named(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    if !can(fixture, Feature::Tampering) {
        return;
    }
    let repository = fixture.repository();
    let (deleted, rested) = deleted_and_rested(fixture).await;
    let since = collection(&*repository).await;
    fixture.delete_root_key(&deleted).await;
    assert_names(&told(&*repository, since).await, &deleted, &rested);
}

/// A scope that the application deleted, and the keys with it, is named.
pub async fn a_scope_deleted_by_the_application_is_named(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    if !can(fixture, Feature::ApplicationScopes) {
        return;
    }
    let repository = fixture.repository();
    let (deleted, rested) = deleted_and_rested(fixture).await;
    let since = collection(&*repository).await;
    fixture.delete_scope(&deleted).await;
    assert_names(&told(&*repository, since).await, &deleted, &rested);
}

/// From a version to itself the way is known, and empty; also where there is no history yet.
pub async fn from_a_version_to_itself_there_is_no_step(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let at_first = collection(&*repository).await;
    assert_eq!(told(&*repository, at_first).await, []);
    let keys = with_keys(fixture, "o_1").await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    let now = collection(&*repository).await;
    assert_eq!(told(&*repository, now).await, []);
    repository.scramble_collection_version().await.unwrap();
    let now = collection(&*repository).await;
    assert_eq!(told(&*repository, now).await, []);
    let nothing_known = repository.collection_version(None).await.unwrap();
    assert_eq!(nothing_known, Changes::untold(now));
}

/// After a restore is announced, nobody is told anything about before; what comes after it is told again.
pub async fn nothing_is_told_about_before_a_scrambling(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let mut before = vec![collection(&*repository).await];
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    before.push(collection(&*repository).await);
    repository.scramble_collection_version().await.unwrap();
    let scrambled = collection(&*repository).await;
    for since in &before {
        assert_untold(&*repository, *since).await;
    }
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    for since in &before {
        assert_untold(&*repository, *since).await;
    }
    let steps = told(&*repository, scrambled).await;
    assert_eq!(steps.len(), 1);
    assert!(steps[0].scopes.contains(&keys.scope), "{steps:?}");
}

/// Nothing is told about a version that never was: a number not reached yet, none at all, or the number of a former or
/// the present version with another time.
pub async fn a_version_that_never_was_is_untold(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let former = collection(&*repository).await;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    let now = collection(&*repository).await;
    assert_eq!(told(&*repository, former).await.len(), 1);
    for known in [former, now] {
        for microseconds in [1, 1_000_000] {
            let other = Duration::from_micros(microseconds);
            for update_time in [known.update_time + other, known.update_time - other] {
                let since = CollectionVersion {
                    update_time,
                    ..known
                };
                assert_untold(&*repository, since).await;
            }
        }
    }
    for version in [i64::MIN, -1, 0, now.version + 1, i64::MAX - 1, i64::MAX] {
        for known in [former, now] {
            assert_untold(&*repository, CollectionVersion { version, ..known }).await;
        }
    }
}

/// What one process is told, another one is too: it is the database that knows.
pub async fn another_repository_is_told_the_same(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Telling) {
        return;
    }
    if !can(fixture, Feature::AnotherRepository) {
        return;
    }
    let repository = fixture.repository();
    let another = fixture.another_repository().await;
    let keys = with_keys(fixture, "o_1").await;
    let since = another
        .load(std::slice::from_ref(&keys.scope))
        .await
        .unwrap()
        .collection;
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    let steps = told(&*another, since).await;
    assert_eq!(steps, told(&*repository, since).await);
    assert!(steps[0].scopes.contains(&keys.scope), "{steps:?}");
}

/// The steps since, which must be told, be consecutive and end at the present version.
async fn told(repository: &dyn Repository, since: CollectionVersion) -> Vec<Step> {
    let changes = repository.collection_version(Some(since)).await.unwrap();
    assert_eq!(changes.collection, collection(repository).await);
    let steps = changes.steps.expect("the way is told");
    let last = steps.last().map_or(since, |step| step.collection);
    assert_eq!(last, changes.collection);
    for (step, version) in steps.iter().zip(since.version + 1..) {
        assert_eq!(step.collection.version, version);
    }
    steps
}

async fn assert_untold(repository: &dyn Repository, since: CollectionVersion) {
    let now = collection(repository).await;
    let changes = repository.collection_version(Some(since)).await.unwrap();
    assert_eq!(changes, Changes::untold(now), "since {since:?}");
}

/// One scope that is going to be deleted, and one that rests.
async fn deleted_and_rested(fixture: &dyn Fixture) -> (ScopeId, ScopeId) {
    let deleted = with_keys(fixture, "o_1").await;
    let rested = with_keys(fixture, "o_2").await;
    let quiet = with_keys(fixture, "q_1").await;
    let _ = applied(&*fixture.repository(), change_sets::rotate(&quiet)).await;
    (deleted.scope, rested.scope)
}

fn assert_names(steps: &[Step], changed: &ScopeId, rested: &ScopeId) {
    let named: Vec<_> = steps.iter().flat_map(|step| &step.scopes).collect();
    assert!(named.contains(&changed), "{steps:?}");
    assert!(!named.contains(&rested), "{steps:?}");
}
