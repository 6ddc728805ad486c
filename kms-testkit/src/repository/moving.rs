//! Keys that come from another database, and scopes that get another id.

use std::sync::Arc;

use kms_core::{
    ChangeSet, ErrorKind, OnDelete, Operation, Proof, Receipt, Repository, Resolution, RootChange,
    RootName, ScopeId, ScopeRows, Step,
};

use super::fixture::can;
use super::setup::{
    DATABASE, OIDC, apply, assert_consistent, assert_same, collection, data_version, data_versions,
    find_rows, new_scope, refused, rows, with_keys,
};
use super::{Feature, Fixture};
use crate::change_sets;

/// A scope comes with all its versions in one change, numbered in their order from 1 on.
pub async fn keys_of_another_database_keep_their_ids_and_order(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let moved = elsewhere(fixture).await;
    let change = change_sets::import(&moved);
    let receipt = apply(&*repository, change.clone()).await.unwrap();
    assert_eq!(receipt.operation(), Operation::Import);
    let here = rows(&*repository, &moved.scope).await;
    assert_consistent(&here);
    assert_eq!(ids(&here), ids(&moved));
    for (row, new) in here
        .root_key_versions
        .iter()
        .zip(&change.insert.root_key_versions)
    {
        assert_eq!((row.version, &row.key), (new.version, &new.key));
    }
    // It is a scope like any other.
    let _ = apply(&*repository, change_sets::rotate_and_rewrap(&here))
        .await
        .unwrap();
    assert_consistent(&rows(&*repository, &moved.scope).await);
}

/// Keys of another database are refused where the scope has keys, and nothing of them stays.
pub async fn keys_of_another_database_are_refused_where_the_scope_has_keys(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let moved = elsewhere(fixture).await;
    let change = change_sets::create(&moved.scope, &[DATABASE]);
    let _ = apply(&*repository, change).await.unwrap();
    let import = change_sets::import(&moved);
    let _ = refused(&*repository, import, ErrorKind::AlreadyExists).await;
}

/// Ids that are here under another scope are a conflict.
pub async fn keys_that_are_here_under_another_scope_are_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let here = with_keys(fixture, "o_1").await;
    let mut again = here.clone();
    again.scope = new_scope(fixture, "o_2").await;
    let import = change_sets::import(&again);
    let _ = refused(&*repository, import, ErrorKind::Conflict).await;
    again.root_key = kms_core::RootKeyId::generate();
    let import = change_sets::import(&again);
    let _ = refused(&*repository, import, ErrorKind::Conflict).await;
}

/// A renamed scope has its keys under the new id, with every other id and number, and none under the former one.
pub async fn a_renamed_scope_has_its_keys_under_the_new_id_alone(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let other = with_keys(fixture, "o_3").await;
    let before = with_many_versions(fixture, "o_1").await;
    let to = new_scope(fixture, "o_2").await;
    let change = change_sets::rename(&before, &to);
    let receipt = apply(&*repository, change.clone()).await.unwrap();
    assert_eq!(receipt.operation(), Operation::Rename);
    assert_eq!(
        (receipt.scope(), receipt.renamed_to()),
        (&before.scope, Some(&to))
    );
    assert!(find_rows(&*repository, &before.scope).await.is_none());
    let after = rows(&*repository, &to).await;
    assert_eq!(ids(&after), ids(&before));
    assert_eq!(numbers(&after), numbers(&before));
    for (id, key) in &change.update.root_key_versions {
        let row = after.root_key_versions.iter().find(|row| row.id == *id);
        assert_eq!(row.unwrap().key, *key);
    }
    let id = data_version(&after, 0).id.clone();
    assert_eq!(
        repository.scope_of(&id.into()).await.unwrap().as_ref(),
        Some(&to)
    );
    assert_same(&other, &rows(&*repository, &other.scope).await);
    // The former id is free, and the new one is that of a scope like any other.
    let _ = apply(&*repository, change_sets::create(&before.scope, &[OIDC]))
        .await
        .unwrap();
    let _ = apply(&*repository, change_sets::rotate(&after))
        .await
        .unwrap();
    let _ = apply(
        &*repository,
        change_sets::delete(&rows(&*repository, &to).await, Proof::Skipped),
    )
    .await
    .unwrap();
}

/// A scope doesn't get the id of one that has keys.
pub async fn a_scope_is_not_renamed_to_one_that_has_keys(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let other = with_keys(fixture, "o_2").await;
    let change = change_sets::rename(&keys, &other.scope);
    let _ = refused(&*repository, change, ErrorKind::AlreadyExists).await;
}

/// In a batch, a renaming that is refused does not stop the others.
pub async fn a_batch_may_rename_scopes(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = [
        with_keys(fixture, "o_1").await,
        with_keys(fixture, "o_2").await,
    ];
    let other = with_keys(fixture, "o_3").await;
    let to = new_scope(fixture, "o_4").await;
    let outcomes = repository
        .apply(Arc::new([
            change_sets::rename(&keys[0], &other.scope),
            change_sets::rename(&keys[1], &to),
            change_sets::rotate(&other),
        ]))
        .await
        .unwrap();
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().err().map(kms_core::Error::kind))
        .collect();
    assert_eq!(kinds, [Some(ErrorKind::AlreadyExists), None, None]);
    assert_same(&keys[0], &rows(&*repository, &keys[0].scope).await);
    assert!(find_rows(&*repository, &keys[1].scope).await.is_none());
    assert_eq!(ids(&rows(&*repository, &to).await), ids(&keys[1]));
}

/// A renaming that was prepared from other rows is a conflict.
pub async fn a_renaming_prepared_before_another_change_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let to = new_scope(fixture, "o_2").await;
    let _ = apply(&*repository, change_sets::rotate(&keys))
        .await
        .unwrap();
    let change = change_sets::rename(&keys, &to);
    let _ = refused(&*repository, change, ErrorKind::Conflict).await;
    let now = rows(&*repository, &keys.scope).await;
    let _ = renamed(&*repository, &now, &to).await;
    // And so is every change that was prepared before the renaming.
    for change in [change_sets::rotate(&now), change_sets::rename(&now, &to)] {
        let _ = refused(&*repository, change, ErrorKind::Conflict).await;
    }
}

/// Rows of the application go on referencing the versions of a renamed scope.
pub async fn references_stay_when_a_scope_is_renamed(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let repository = fixture.repository();
    for (number, on_delete) in [OnDelete::Restrict, OnDelete::NoAction, OnDelete::Cascade]
        .into_iter()
        .enumerate()
    {
        let table = format!("table_{number}");
        fixture.add_referencer(&table, on_delete).await;
        let keys = with_many_versions(fixture, &format!("o_{number}")).await;
        let used = data_version(&keys, 0).id.clone();
        fixture.add_reference(&table, &used).await;
        let to = new_scope(fixture, &format!("o_new_{number}")).await;
        let after = renamed(&*repository, &keys, &to).await;
        if on_delete.restricts() {
            let change = change_sets::revoke(&after, used.clone(), Proof::Skipped);
            let _ = refused(&*repository, change, ErrorKind::InUse).await;
        }
        fixture.drop_reference(&table, &used).await;
        fixture.drop_referencer(&table).await;
    }
}

/// The named root of a scope stays its root.
pub async fn the_root_stays_when_a_scope_is_renamed(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let root = RootName::new("customer-1").unwrap();
    let assignment = change_sets::assign_root(&keys, RootChange::Assign(root.clone()));
    let _ = apply(&*repository, assignment).await.unwrap();
    let keys = rows(&*repository, &keys.scope).await;
    let to = new_scope(fixture, "o_2").await;
    assert_eq!(renamed(&*repository, &keys, &to).await.root, Some(root));
}

/// A renaming moves the collection version, and names both ids.
pub async fn a_renaming_names_both_ids(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let other = with_keys(fixture, "o_3").await;
    let to = new_scope(fixture, "o_2").await;
    // A step may name what the step before it named, and creations.
    for keys in [&keys, &other] {
        let _ = apply(&*repository, change_sets::rotate(keys))
            .await
            .unwrap();
    }
    let _ = apply(
        &*repository,
        change_sets::rotate(&rows(&*repository, &keys.scope).await),
    )
    .await
    .unwrap();
    let keys = rows(&*repository, &keys.scope).await;
    let before = collection(&*repository).await;
    let _ = renamed(&*repository, &keys, &to).await;
    let changes = repository.collection_version(Some(before)).await.unwrap();
    assert_ne!(changes.collection, before);
    if !can(fixture, Feature::Telling) {
        return;
    }
    let Some([Step { scopes, .. }]) = changes.steps.as_deref() else {
        panic!("one step: {changes:?}");
    };
    let mut scopes = scopes.clone();
    scopes.sort();
    assert_eq!(scopes, [keys.scope, to]);
}

/// Whether a renaming took effect is told from the rows.
pub async fn the_fate_of_a_renaming_is_told(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let to = new_scope(fixture, "o_2").await;
    let change = change_sets::rename(&keys, &to);
    let resolve = async || {
        let changes: Arc<[ChangeSet]> = Arc::new([change.clone()]);
        repository.resolve(changes).await.unwrap().remove(0)
    };
    assert_eq!(resolve().await, Resolution::NotApplied);
    let _: Receipt = apply(&*repository, change.clone()).await.unwrap();
    assert_eq!(resolve().await, Resolution::Applied);
    // What came after it hides it no more than any change.
    let after = rows(&*repository, &to).await;
    let _ = apply(&*repository, change_sets::rotate(&after))
        .await
        .unwrap();
    assert_eq!(resolve().await, Resolution::Applied);
}

/// The rows of a scope as another database has them: with gaps that revocations left.
async fn elsewhere(fixture: &dyn Fixture) -> ScopeRows {
    let mut rows = with_many_versions(fixture, "o_1").await;
    let repository = fixture.repository();
    let deletion = change_sets::delete(&rows, Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    for key in &mut rows.data_keys {
        key.versions.remove(1);
    }
    assert_eq!(numbers(&rows)[3..5], [1, 3]);
    rows
}

/// Three versions of each key, each wrapped by the root key version of its time.
async fn with_many_versions(fixture: &dyn Fixture, id: &str) -> ScopeRows {
    let repository = fixture.repository();
    let mut keys = with_keys(fixture, id).await;
    for _ in 0..2 {
        let _ = apply(&*repository, change_sets::rotate(&keys))
            .await
            .unwrap();
        keys = rows(&*repository, &keys.scope).await;
    }
    keys
}

async fn renamed(repository: &dyn Repository, keys: &ScopeRows, to: &ScopeId) -> ScopeRows {
    let _ = apply(repository, change_sets::rename(keys, to))
        .await
        .unwrap();
    rows(repository, to).await
}

fn ids(rows: &ScopeRows) -> Vec<String> {
    let root = rows.root_key_versions.iter().map(|row| row.id.to_string());
    let data = rows.data_keys.iter().flat_map(|key| {
        let versions = key.versions.iter().map(|row| row.id.to_string());
        [key.id.to_string(), key.purpose.to_string()]
            .into_iter()
            .chain(versions)
    });
    [rows.root_key.to_string()]
        .into_iter()
        .chain(root)
        .chain(data)
        .collect()
}

fn numbers(rows: &ScopeRows) -> Vec<i64> {
    let root = rows.root_key_versions.iter().map(|row| row.version);
    root.chain(data_versions(rows).map(|row| row.version))
        .collect()
}
