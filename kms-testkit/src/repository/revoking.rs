//! Deleting one key version, and the proof that nothing is lost by it.
//!
//! That the newest version is kept is the engine's rule: a repository is not asked to do otherwise.

use kms_core::{DataKeyVersionId, ErrorKind, KeyVersionId, OnDelete, Proof, ScopeRows};

use super::fixture::{Feature, Fixture, can};
use super::setup::{
    DATABASE, applied, assert_same, data_key, data_version, data_versions, refused, rows, with_keys,
};
use crate::change_sets;

/// A scope with two versions of every key, the older root key version still wrapping.
async fn rotated(fixture: &dyn Fixture, id: &str) -> ScopeRows {
    let keys = with_keys(fixture, id).await;
    applied(&*fixture.repository(), change_sets::rotate(&keys)).await
}

/// The older version of the data key for `database`.
fn old(rows: &ScopeRows) -> DataKeyVersionId {
    data_version(rows, 0).id.clone()
}

/// A root key version that wraps nothing any more is deleted, and needs no table of the application to
/// prove anything.
pub async fn a_root_key_version_that_wraps_nothing_is_revoked(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rewrap(&keys)).await;
    let id = keys.root_key_versions[0].id.clone();
    let change = change_sets::revoke(&keys, id.clone(), Proof::Required);
    let after = applied(&*repository, change).await;
    assert_eq!(after.root_key_versions.len(), 1);
    assert_eq!(after.root_key_versions[0].id, keys.root_key_versions[1].id);
    assert_eq!(
        data_versions(&after).count(),
        4,
        "no data key version went along"
    );
    assert_eq!(repository.scope_of(&id.into()).await.unwrap(), None);
}

/// A root key version that still wraps a data key version is in use, also for the dangerous form: the
/// error names the table, and no data key version goes along.
pub async fn a_root_key_version_that_still_wraps_is_in_use(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_1").await;
    for proof in [Proof::Required, Proof::Skipped] {
        let id = keys.root_key_versions[0].id.clone();
        let change = change_sets::revoke(&keys, id, proof);
        let error = refused(&*repository, change, ErrorKind::InUse).await;
        assert_names_table(&error, "kms_data_key_version");
    }
}

/// The number of a revoked version is not given again while a newer one is there.
pub async fn numbers_go_on_after_a_revocation(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_1").await;
    let change = change_sets::revoke(&keys, old(&keys), Proof::Skipped);
    let keys = applied(&*repository, change).await;
    assert_eq!(data_version(&keys, 0).version, 2);
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let numbers: Vec<_> = data_key(&keys, &DATABASE)
        .versions
        .iter()
        .map(|row| row.version)
        .collect();
    assert_eq!(numbers, [2, 3]);
}

/// A data key version that no row references is deleted, where a restricting foreign key could have
/// stood against it.
pub async fn an_unreferenced_data_key_version_is_revoked(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let repository = fixture.repository();
    for (name, on_delete) in [
        ("restricting", OnDelete::Restrict),
        ("inactive", OnDelete::NoAction),
    ] {
        fixture.add_referencer(name, on_delete).await;
        let keys = rotated(fixture, &format!("o_{name}")).await;
        // The newest is in use, which is no reason to keep the older one.
        let newest = data_version(&keys, 1).id.clone();
        fixture.add_reference(name, &newest).await;
        let change = change_sets::revoke(&keys, old(&keys), Proof::Required);
        let after = applied(&*repository, change).await;
        assert_eq!(data_key(&after, &DATABASE).versions.len(), 1);
        assert_eq!(data_version(&after, 0).id, newest);
        fixture.drop_referencer(name).await;
    }
}

/// A data key version that a row of the application references is in use, by the table that the error
/// names; once the row is gone it is deleted.
pub async fn a_referenced_data_key_version_is_in_use(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let repository = fixture.repository();
    for (name, on_delete) in [
        ("restricting", OnDelete::Restrict),
        ("inactive", OnDelete::NoAction),
    ] {
        fixture.add_referencer(name, on_delete).await;
        let keys = rotated(fixture, &format!("o_{name}")).await;
        let id = old(&keys);
        fixture.add_reference(name, &id).await;
        for proof in [Proof::Required, Proof::Skipped] {
            let change = change_sets::revoke(&keys, id.clone(), proof);
            let error = refused(&*repository, change, ErrorKind::InUse).await;
            assert_names_table(&error, name);
        }
        fixture.drop_reference(name, &id).await;
        let change = change_sets::revoke(&keys, id, Proof::Required);
        let _ = applied(&*repository, change).await;
        fixture.drop_referencer(name).await;
    }
}

/// Any one of several tables keeps a version, not the first or the last alone.
pub async fn any_of_several_tables_keeps_a_data_key_version(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let repository = fixture.repository();
    let tables = ["a_table", "b_table", "c_table"];
    for table in tables {
        fixture.add_referencer(table, OnDelete::NoAction).await;
    }
    let keys = rotated(fixture, "o_1").await;
    for table in tables {
        fixture.add_reference(table, &old(&keys)).await;
        let change = change_sets::revoke(&keys, old(&keys), Proof::Required);
        let error = refused(&*repository, change, ErrorKind::InUse).await;
        assert_names_table(&error, table);
        fixture.drop_reference(table, &old(&keys)).await;
    }
    let change = change_sets::revoke(&keys, old(&keys), Proof::Required);
    let _ = applied(&*repository, change).await;
}

/// Without any table that references data key versions, nothing proves one unused.
pub async fn without_a_referencing_table_nothing_proves_a_version_unused(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_1").await;
    let change = change_sets::revoke(&keys, old(&keys), Proof::Required);
    refused(&*repository, change, ErrorKind::UseNotProven).await;
}

/// A foreign key that would take its rows along, or empty them, proves nothing, also beside one that
/// restricts; the error names it.
pub async fn a_foreign_key_that_gives_way_proves_nothing(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_1").await;
    fixture.add_referencer("strict", OnDelete::NoAction).await;
    for on_delete in [OnDelete::Cascade, OnDelete::SetNull, OnDelete::SetDefault] {
        fixture.add_referencer("loose", on_delete).await;
        let change = change_sets::revoke(&keys, old(&keys), Proof::Required);
        let error = refused(&*repository, change, ErrorKind::UseNotProven).await;
        assert_names_table(&error, "loose");
        fixture.drop_referencer("loose").await;
    }
    assert_same(&rows(&*repository, &keys.scope).await, &keys);
}

/// The dangerous form deletes what nothing restricts, proof or no proof: unreferenced without any
/// table, and referenced by a foreign key that gives way.
pub async fn the_dangerous_form_deletes_without_proof(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_1").await;
    let id = old(&keys);
    let change = change_sets::revoke(&keys, id.clone(), Proof::Skipped);
    let after = applied(&*repository, change).await;
    assert!(data_versions(&after).all(|row| row.id != id));
    if !can(fixture, Feature::Referencers) {
        return;
    }
    for (name, on_delete) in [
        ("cascading", OnDelete::Cascade),
        ("emptied", OnDelete::SetNull),
    ] {
        fixture.add_referencer(name, on_delete).await;
        let keys = rotated(fixture, &format!("o_{name}")).await;
        let id = old(&keys);
        fixture.add_reference(name, &id).await;
        let change = change_sets::revoke(&keys, id.clone(), Proof::Skipped);
        let after = applied(&*repository, change).await;
        assert!(data_versions(&after).all(|row| row.id != id));
        let id = KeyVersionId::from(id);
        assert_eq!(repository.scope_of(&id).await.unwrap(), None);
        fixture.drop_referencer(name).await;
    }
}

/// After a revocation was refused, the repository goes on working, and the same change set applies once
/// what stood against it is gone.
pub async fn a_refused_revocation_applies_unchanged_once_nothing_stands_against_it(
    fixture: &dyn Fixture,
) {
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let repository = fixture.repository();
    fixture
        .add_referencer("oidc_client", OnDelete::NoAction)
        .await;
    let keys = rotated(fixture, "o_1").await;
    fixture.add_reference("oidc_client", &old(&keys)).await;
    let change = change_sets::revoke(&keys, old(&keys), Proof::Required);
    refused(&*repository, change.clone(), ErrorKind::InUse).await;
    fixture.drop_reference("oidc_client", &old(&keys)).await;
    let _ = applied(&*repository, change).await;
}

#[track_caller]
pub(super) fn assert_names_table(error: &kms_core::Error, table: &str) {
    let named = error.context("table");
    assert!(
        named.is_some_and(|named| named.contains(table)),
        "the context \"table\" names {table}: {error}"
    );
}
