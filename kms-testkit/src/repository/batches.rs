//! Many change sets in one transaction, each for itself.

use std::sync::Arc;

use kms_core::{ChangeSet, ErrorKind, Operation, Proof, Purpose};

use super::Fixture;
use super::setup::{
    DATABASE, OIDC, Picture, all_rows, applied, assert_consistent, assert_same, find_rows,
    many_with_keys, new_scope, rows, with_keys,
};
use crate::change_sets;

/// An empty batch is fine.
pub async fn an_empty_batch_changes_nothing(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let _ = with_keys(fixture, "o_1").await;
    let before = Picture::take(&*repository).await;
    assert!(repository.apply(Arc::new([])).await.unwrap().is_empty());
    before.assert_unchanged(&*repository).await;
}

/// A batch of many scopes changes each of them, in one call.
pub async fn a_batch_changes_every_scope(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let before = many_with_keys(fixture, "o_", 100).await;
    let changes: Arc<[_]> = before.iter().map(change_sets::rotate_and_rewrap).collect();
    let outcomes = repository.apply(Arc::clone(&changes)).await.unwrap();
    assert_eq!(outcomes.len(), changes.len());
    for (outcome, change) in outcomes.iter().zip(&*changes) {
        assert_eq!(outcome.as_ref().unwrap().scope(), &change.scope);
    }
    let scopes: Vec<_> = before.iter().map(|rows| rows.scope.clone()).collect();
    let after = all_rows(&*repository, &scopes).await;
    for (after, change) in after.iter().zip(&*changes) {
        assert_consistent(after);
        let new = &change.insert.root_key_versions[0];
        assert_eq!(after.root_key_versions[1].id, new.id);
        assert_eq!(after.root_key_versions[1].key, new.key);
        let old = &change.update.data_key_versions[0];
        assert_eq!(after.data_keys[0].versions[0].key, old.key);
    }
}

/// Change sets of every operation go together in one batch.
pub async fn a_batch_may_hold_every_operation(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut keys = Vec::new();
    for number in 0..5 {
        let scope = with_keys(fixture, &format!("o_{number}")).await;
        keys.push(applied(&*repository, change_sets::rotate(&scope)).await);
    }
    let new = new_scope(fixture, "o_new").await;
    let revoked = keys[3].data_keys[0].versions[0].id.clone();
    let changes: [ChangeSet; 6] = [
        change_sets::rotate(&keys[0]),
        change_sets::create(&new, &[DATABASE]),
        change_sets::rewrap(&keys[1]),
        change_sets::reconcile(&keys[2], &[Purpose::from_static("more")]),
        change_sets::revoke(&keys[3], revoked, Proof::Skipped),
        change_sets::delete(&keys[4], Proof::Skipped),
    ];
    let operations = changes.clone().map(|change| change.operation);
    let outcomes = repository.apply(Arc::new(changes)).await.unwrap();
    let done: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap().operation())
        .collect();
    assert_eq!(done, operations);
    assert_eq!(done[1], Operation::Create);
    assert_eq!(
        rows(&*repository, &keys[0].scope)
            .await
            .root_key_versions
            .len(),
        3
    );
    let rewrapped = rows(&*repository, &keys[1].scope).await;
    assert_ne!(
        rewrapped.root_key_versions[0].key,
        keys[1].root_key_versions[0].key
    );
    assert_eq!(rows(&*repository, &keys[2].scope).await.data_keys.len(), 3);
    let revoked = rows(&*repository, &keys[3].scope).await;
    assert_eq!(revoked.data_keys[0].versions.len(), 1);
    assert!(find_rows(&*repository, &keys[4].scope).await.is_none());
    assert!(find_rows(&*repository, &new).await.is_some());
}

/// A change set that is refused, wherever it stands in the batch and whatever refuses it, does not stop
/// the others; the outcomes come in the order of the change sets.
pub async fn a_refused_change_set_does_not_stop_the_others(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    // Not in the order of their ids, nor of their root keys' ids.
    let names = ["o_5", "o_1", "o_4", "o_2", "o_3"];
    let mut keys = Vec::new();
    for name in names {
        keys.push(with_keys(fixture, name).await);
    }
    let mut stale = keys[1].clone();
    stale.root_key_versions[0].key.push(1);
    let wrapping = keys[3].root_key_versions[0].id.clone();
    let changes: Arc<[_]> = Arc::new([
        change_sets::create(&keys[0].scope, &[OIDC]),
        change_sets::rotate(&stale),
        change_sets::rotate(&keys[2]),
        change_sets::revoke(&keys[3], wrapping, Proof::Required),
        change_sets::rotate_and_rewrap(&keys[4]),
    ]);
    let outcomes = repository.apply(Arc::clone(&changes)).await.unwrap();
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().err().map(kms_core::Error::kind))
        .collect();
    let expected = [
        Some(ErrorKind::AlreadyExists),
        Some(ErrorKind::Conflict),
        None,
        Some(ErrorKind::InUse),
        None,
    ];
    assert_eq!(kinds, expected);
    for (before, refused) in keys.iter().zip(expected) {
        let after = rows(&*repository, &before.scope).await;
        if refused.is_some() {
            assert_same(&after, before);
        } else {
            assert_eq!(after.root_key_versions.len(), 2, "{}", after.scope);
        }
    }
}

/// A change set that fails at its last row leaves none of its rows, in a batch where others succeed.
pub async fn a_change_set_is_all_or_nothing(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let whole = with_keys(fixture, "o_1").await;
    let failing = with_keys(fixture, "o_2").await;
    let mut change = change_sets::rotate_and_rewrap(&failing);
    change.insert.data_key_versions[1].version = 99;
    let changes = Arc::new([change, change_sets::rotate(&whole)]);
    let outcomes = repository.apply(changes).await.unwrap();
    let error = outcomes[0].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(outcomes[1].is_ok());
    assert_same(&rows(&*repository, &failing.scope).await, &failing);
    assert_eq!(
        rows(&*repository, &whole.scope)
            .await
            .root_key_versions
            .len(),
        2
    );
}
