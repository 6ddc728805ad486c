//! Deleting all keys of a scope: crypto-shredding.

use kms_core::{ErrorKind, OnDelete, Proof};

use super::fixture::{Feature, Fixture, can};
use super::revoking::assert_names_table;
use super::setup::{
    applied, apply, assert_same, data_version, find_rows, refused, rows, with_keys,
};
use crate::change_sets;

/// Where a restricting foreign key could have stood against it and doesn't, every key of the scope goes,
/// and no other scope's.
pub async fn an_unreferenced_scope_is_deleted(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let repository = fixture.repository();
    fixture
        .add_referencer("oidc_client", OnDelete::NoAction)
        .await;
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let other = with_keys(fixture, "o_2").await;
    fixture
        .add_reference("oidc_client", &data_version(&other, 0).id)
        .await;
    let change = change_sets::delete(&keys, Proof::Required);
    let _ = apply(&*repository, change).await.unwrap();
    assert!(find_rows(&*repository, &keys.scope).await.is_none());
    for id in [
        keys.root_key_versions[1].id.clone().into(),
        keys.data_keys[0].versions[0].id.clone().into(),
    ] {
        assert_eq!(repository.scope_of(&id).await.unwrap(), None);
    }
    assert_same(&rows(&*repository, &other.scope).await, &other);
}

/// A scope is in use while a row of the application references any of its data key versions, by the
/// table that the error names; also for the dangerous form, since the database refuses.
pub async fn a_referenced_scope_is_in_use(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let repository = fixture.repository();
    for (name, on_delete) in [
        ("restricting", OnDelete::Restrict),
        ("inactive", OnDelete::NoAction),
    ] {
        fixture.add_referencer(name, on_delete).await;
        let keys = with_keys(fixture, &format!("o_{name}")).await;
        let keys = applied(&*repository, change_sets::rotate(&keys)).await;
        let id = keys.data_keys[1].versions[0].id.clone();
        fixture.add_reference(name, &id).await;
        for proof in [Proof::Required, Proof::Skipped] {
            let change = change_sets::delete(&keys, proof);
            let error = refused(&*repository, change, ErrorKind::InUse).await;
            assert_names_table(&error, name);
        }
        fixture.drop_reference(name, &id).await;
        let change = change_sets::delete(&keys, Proof::Required);
        let _ = apply(&*repository, change).await.unwrap();
        fixture.drop_referencer(name).await;
    }
}

/// Without a table that references data key versions, or with a foreign key that gives way, nothing
/// proves the scope unused; the dangerous form deletes it all the same.
pub async fn a_scope_not_proven_unused_is_deleted_by_the_dangerous_form_only(
    fixture: &dyn Fixture,
) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let change = change_sets::delete(&keys, Proof::Required);
    refused(&*repository, change, ErrorKind::UseNotProven).await;
    if can(fixture, Feature::Referencers) {
        fixture.add_referencer("loose", OnDelete::Cascade).await;
        fixture
            .add_reference("loose", &data_version(&keys, 0).id)
            .await;
        let change = change_sets::delete(&keys, Proof::Required);
        let error = refused(&*repository, change, ErrorKind::UseNotProven).await;
        assert_names_table(&error, "loose");
    }
    let change = change_sets::delete(&keys, Proof::Skipped);
    let _ = apply(&*repository, change).await.unwrap();
    assert!(find_rows(&*repository, &keys.scope).await.is_none());
}
