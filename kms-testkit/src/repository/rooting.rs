//! Named roots: which root of trust a scope has, and how that changes together with its keys.

use std::sync::Arc;

use kms_core::{ErrorKind, Operation, Proof, Purpose, RootChange, RootName, Step};

use super::setup::{
    DATABASE, all_rows, applied, apply, assert_same, collection, find_rows, many_with_keys,
    new_scope, refused, rows, second_repository, with_keys,
};
use super::{Feature, Fixture};
use crate::change_sets;

/// A scope has no named root until it gets one.
pub async fn a_scope_has_no_named_root_until_it_gets_one(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let before = with_keys(fixture, "o_1").await;
    assert_eq!(before.root, None);
    let after = applied(&*repository, change_sets::rotate(&before)).await;
    assert_eq!(after.root, None);
}

/// An assignment writes the name together with the new wrapped keys, and no other scope is touched.
pub async fn an_assignment_changes_the_root_and_the_wrapped_keys_together(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let other = with_keys(fixture, "o_2").await;
    let before = with_keys(fixture, "o_1").await;
    let change = change_sets::assign_root(&before, assign("customer-1"));
    let after = applied(&*repository, change.clone()).await;
    assert_eq!(after.root, Some(name("customer-1")));
    let wrapped = &after.root_key_versions[0];
    assert_eq!(
        change.update.root_key_versions,
        [(wrapped.id.clone(), wrapped.key.clone())]
    );
    assert_same(&other, &rows(&*repository, &other.scope).await);
    let second = second_repository(fixture).await;
    assert_same(&after, &rows(&*second, &after.scope).await);
}

/// A root is replaced by another one, and given up for the engine's own.
pub async fn a_root_is_replaced_and_given_up(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut keys = with_keys(fixture, "o_1").await;
    for (root, expected) in [
        (assign("one"), Some("one")),
        (assign("another"), Some("another")),
        (RootChange::Unassign, None),
        (assign("one"), Some("one")),
    ] {
        keys = applied(&*repository, change_sets::assign_root(&keys, root)).await;
        assert_eq!(keys.root.as_ref().map(RootName::as_str), expected);
    }
}

/// No other change alters the root that a scope has.
pub async fn every_other_change_leaves_the_root(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let root = Some(name("customer-1"));
    let mut keys = applied(
        &*repository,
        change_sets::assign_root(&keys, assign("customer-1")),
    )
    .await;
    for change in [
        change_sets::rotate,
        change_sets::rotate_and_rewrap,
        change_sets::rewrap,
        |rows: &_| change_sets::reconcile(rows, &[Purpose::from_static("more")]),
        |rows: &kms_core::ScopeRows| {
            let old = rows.root_key_versions[0].id.clone();
            change_sets::revoke(rows, old, Proof::Skipped)
        },
    ] {
        keys = applied(&*repository, change(&keys)).await;
        assert_eq!(keys.root, root);
    }
}

/// Keys can be created under a named root.
pub async fn a_scope_is_created_under_a_named_root(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let scope = new_scope(fixture, "o_1").await;
    let mut change = change_sets::create(&scope, &[DATABASE]);
    change.root = assign("customer-1");
    let keys = applied(&*repository, change.clone()).await;
    assert_eq!(keys.root, Some(name("customer-1")));
    let _ = refused(&*repository, change, ErrorKind::AlreadyExists).await;
}

/// A change that was prepared under another root is a conflict, whether the wrapped keys differ or not.
pub async fn a_change_prepared_under_another_root_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let before = with_keys(fixture, "o_1").await;
    let after = applied(
        &*repository,
        change_sets::assign_root(&before, assign("one")),
    )
    .await;
    let stale = [
        change_sets::rotate(&before),
        change_sets::assign_root(&before, assign("another")),
    ];
    for change in stale {
        let _ = refused(&*repository, change, ErrorKind::Conflict).await;
    }
    for root in [None, Some(name("another"))] {
        let mut expected = after.clone();
        expected.root = root;
        for change in [
            change_sets::rotate(&expected),
            change_sets::assign_root(&expected, RootChange::Unassign),
            change_sets::delete(&expected, Proof::Skipped),
        ] {
            let _ = refused(&*repository, change, ErrorKind::Conflict).await;
        }
    }
    let _ = applied(&*repository, change_sets::rotate(&after)).await;
}

/// Of an assignment and a rotation from the same rows, one is a conflict.
pub async fn of_an_assignment_and_a_rotation_one_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let second = second_repository(fixture).await;
    let keys = with_keys(fixture, "o_1").await;
    let assignment = change_sets::assign_root(&keys, assign("one"));
    let (one, other) = tokio::join!(
        apply(&*repository, assignment),
        apply(&*second, change_sets::rotate(&keys)),
    );
    let assigned = one.is_ok();
    let lost = if assigned { other } else { one };
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Conflict);
    let after = rows(&*repository, &keys.scope).await;
    assert_eq!(after.root.is_some(), assigned);
    assert_eq!(after.root_key_versions.len(), if assigned { 1 } else { 2 });
}

/// A refused assignment writes neither name nor keys, and does not stop the others of its batch.
pub async fn a_batch_may_assign_roots_and_a_refused_one_leaves_nothing(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = many_with_keys(fixture, "o_", 4).await;
    let _ = applied(&*repository, change_sets::rotate(&keys[2])).await;
    let picture = rows(&*repository, &keys[2].scope).await;
    let mut changes: Vec<_> = keys
        .iter()
        .map(|keys| change_sets::assign_root(keys, assign(keys.scope.as_str())))
        .collect();
    changes[3] = change_sets::rotate(&keys[3]);
    let outcomes = repository.apply(Arc::from(changes)).await.unwrap();
    let applied: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(applied, [true, true, false, true]);
    let scopes: Vec<_> = keys.iter().map(|keys| keys.scope.clone()).collect();
    let after = all_rows(&*repository, &scopes).await;
    for (position, after) in after.iter().enumerate() {
        let root = (position < 2).then(|| name(after.scope.as_str()));
        assert_eq!(after.root, root);
    }
    assert_same(&picture, &after[2]);
}

/// An assignment moves the collection version and names its scope, as every change of keys does.
pub async fn an_assignment_is_a_change_that_caches_notice(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let _ = with_keys(fixture, "o_2").await;
    let keys = with_keys(fixture, "o_1").await;
    // A step may name what the step before it named, and creations.
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    for root in [assign("one"), RootChange::Unassign] {
        let keys = rows(&*repository, &keys.scope).await;
        let before = collection(&*repository).await;
        let receipt = apply(&*repository, change_sets::assign_root(&keys, root))
            .await
            .unwrap();
        assert_eq!(receipt.operation(), Operation::AssignRoot);
        let changes = repository.collection_version(Some(before)).await.unwrap();
        assert_ne!(changes.collection, before);
        let Some([Step { scopes, .. }]) = changes.steps.as_deref() else {
            panic!("one step: {changes:?}");
        };
        assert_eq!(scopes[..], *std::slice::from_ref(&keys.scope));
    }
}

/// The name goes with the keys: a scope that is created anew has the engine's own root.
pub async fn a_scope_that_is_deleted_and_created_anew_has_no_named_root(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::assign_root(&keys, assign("one"))).await;
    let deletion = change_sets::delete(&keys, Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    assert!(find_rows(&*repository, &keys.scope).await.is_none());
    let keys = applied(&*repository, change_sets::create(&keys.scope, &[])).await;
    assert_eq!(keys.root, None);
    if fixture.unsupported().contains(&Feature::Tampering) {
        return;
    }
    let _ = applied(&*repository, change_sets::assign_root(&keys, assign("one"))).await;
    fixture.delete_root_key(&keys.scope).await;
    let keys = applied(&*repository, change_sets::create(&keys.scope, &[])).await;
    assert_eq!(keys.root, None);
}

/// Names of any text come back as they were written.
pub async fn names_of_roots_round_trip(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut keys = with_keys(fixture, "o_1").await;
    for text in [
        "a",
        "日本 ü 🦀",
        "it's \"quoted\" \\ ; --",
        &"ü".repeat(127),
    ] {
        keys = applied(&*repository, change_sets::assign_root(&keys, assign(text))).await;
        assert_eq!(keys.root, Some(name(text)));
    }
}

/// Whether an assignment took effect is told from the rows.
pub async fn the_fate_of_an_assignment_is_told(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let change = change_sets::assign_root(&keys, assign("one"));
    let resolve = async || {
        let changes = Arc::new([change.clone()]);
        repository.resolve(changes).await.unwrap().remove(0)
    };
    assert_eq!(resolve().await, kms_core::Resolution::NotApplied);
    let _ = applied(&*repository, change.clone()).await;
    assert_eq!(resolve().await, kms_core::Resolution::Applied);
}

fn name(name: &str) -> RootName {
    RootName::new(name).unwrap()
}

fn assign(root: &str) -> RootChange {
    RootChange::Assign(name(root))
}
