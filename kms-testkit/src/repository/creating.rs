//! The first keys of a scope.

use std::sync::Arc;

use futures_util::future::join;
use kms_core::{ErrorKind, Proof, Repository};

use super::Fixture;
use super::setup::{
    DATABASE, OIDC, Picture, applied, apply, assert_same, collection, find_rows, new_scope,
    refused, rows, second_repository, with_keys,
};
use crate::change_sets;

/// A scope may have a root key and no data key yet.
pub async fn a_scope_without_purposes_gets_a_root_key_alone(fixture: &dyn Fixture) {
    let scope = new_scope(fixture, "o_1").await;
    let found = applied(&*fixture.repository(), change_sets::create(&scope, &[])).await;
    assert_eq!(found.root_key_versions.len(), 1);
    assert!(found.data_keys.is_empty());
}

/// Creation leaves the collection version alone: it makes no cache stale, and transactions that create
/// scopes must not wait for each other.
pub async fn creating_leaves_the_collection_version_alone(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let before = collection(&*repository).await;
    let _ = with_keys(fixture, "o_1").await;
    let _ = with_keys(fixture, "o_2").await;
    assert_eq!(collection(&*repository).await, before);
}

/// A scope that has keys can't get its first ones again.
pub async fn creating_a_scope_twice_is_refused_and_changes_nothing(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let again = change_sets::create(&keys.scope, &[DATABASE]);
    let error = refused(&*repository, again, ErrorKind::AlreadyExists).await;
    assert_eq!(error.context("scope"), Some("o_1"));
    assert_same(&rows(&*repository, &keys.scope).await, &keys);
}

/// Of two that create the same scope at the same time, exactly one wins; the other is told that the
/// scope has keys, and leaves nothing behind.
pub async fn of_two_creators_at_once_exactly_one_wins(fixture: &dyn Fixture) {
    let here = fixture.repository();
    let there = second_repository(fixture).await;
    for round in 0..10 {
        let scope = new_scope(fixture, &format!("o_{round}")).await;
        let changes = [
            change_sets::create(&scope, &[DATABASE, OIDC]),
            change_sets::create(&scope, &[DATABASE, OIDC]),
        ];
        let creating = |repository: Arc<dyn Repository>, change| {
            tokio::spawn(async move { apply(&*repository, change).await })
        };
        let (one, other) = join(
            creating(Arc::clone(&here), changes[0].clone()),
            creating(Arc::clone(&there), changes[1].clone()),
        )
        .await;
        let outcomes = [one.unwrap(), other.unwrap()];
        let winner = outcomes.iter().position(Result::is_ok).expect("one wins");
        let error = outcomes[1 - winner]
            .as_ref()
            .expect_err("the other doesn't");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        let found = rows(&*here, &scope).await;
        assert_eq!(found.root_key, changes[winner].root_key);
        assert_eq!(found.data_keys.len(), 2);
    }
}

/// An id that another scope has is refused, and the half of the change that could be done is not.
pub async fn an_id_that_is_taken_is_refused_and_leaves_nothing_behind(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let other = with_keys(fixture, "o_other").await;
    let scope = new_scope(fixture, "o_1").await;
    let mut change = change_sets::create(&scope, &[DATABASE]);
    change.insert.data_key_versions[0].id = other.data_keys[0].versions[0].id.clone();
    let before = Picture::take(&*repository).await;
    let _ = apply(&*repository, change).await.unwrap_err();
    before.assert_unchanged(&*repository).await;
    assert!(find_rows(&*repository, &scope).await.is_none());
}

/// A scope whose keys were deleted may get keys again, numbered from one.
pub async fn a_deleted_scope_may_be_created_anew(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let deletion = change_sets::delete(&keys, Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    let anew = applied(&*repository, change_sets::create(&keys.scope, &[DATABASE])).await;
    assert_ne!(anew.root_key, keys.root_key);
    assert_eq!(anew.root_key_versions[0].version, 1);
    assert_eq!(anew.data_keys[0].versions[0].version, 1);
}
