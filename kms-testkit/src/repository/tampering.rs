//! What somebody with access to the database did is seen, not hidden: a repository keeps nothing to
//! itself, and judges nothing. Whether a row opens is for the engine to say.

use kms_core::{ErrorKind, Proof};

use super::fixture::{Feature, Fixture, can};
use super::revoking::assert_names_table;
use super::setup::{applied, assert_same, collection, data_version, refused, rows, with_keys};
use crate::change_sets;

/// Rows edited by hand are loaded as they are, and what was prepared before is a conflict.
pub async fn rows_edited_by_hand_are_loaded_as_they_are(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Tampering) {
        return;
    }
    let repository = fixture.repository();
    let before = with_keys(fixture, "o_1").await;
    let before = applied(&*repository, change_sets::rotate(&before)).await;
    let root = before.root_key_versions[0].id.clone();
    let data = data_version(&before, 0).id.clone();

    fixture.set_key(&root.clone().into(), b"forged").await;
    let now = rows(&*repository, &before.scope).await;
    assert_eq!(now.root_key_versions[0].key, b"forged");
    refused(
        &*repository,
        change_sets::rotate(&before),
        ErrorKind::Conflict,
    )
    .await;

    fixture.set_key(&data.clone().into(), &[0, 0xff, 0]).await;
    let now = rows(&*repository, &before.scope).await;
    assert_eq!(data_version(&now, 0).key, [0, 0xff, 0]);

    let newer = before.root_key_versions[1].id.clone();
    fixture.set_wrapping(&data, &newer).await;
    let now = rows(&*repository, &before.scope).await;
    assert_eq!(data_version(&now, 0).root_key_version, newer);

    // An old version renumbered as the newest comes last.
    fixture.set_version(&data.clone().into(), 9).await;
    fixture.set_version(&root.clone().into(), 7).await;
    let now = rows(&*repository, &before.scope).await;
    assert_eq!(
        (&data_version(&now, 1).id, data_version(&now, 1).version),
        (&data, 9)
    );
    assert_eq!(
        (
            &now.root_key_versions[1].id,
            now.root_key_versions[1].version
        ),
        (&root, 7)
    );

    // Prepared from what is there, a change applies: the number follows the highest.
    let now = applied(&*repository, change_sets::rotate(&now)).await;
    assert_eq!(now.root_key_versions[2].version, 8);
    assert_eq!(data_version(&now, 2).version, 10);
}

/// Editing rows by hand does not move the collection version, which is why entries are checked now and
/// then all the same.
pub async fn rows_edited_by_hand_leave_the_collection_version_alone(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Tampering) {
        return;
    }
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let before = collection(&*repository).await;
    let id = keys.root_key_versions[0].id.clone();
    fixture.set_key(&id.into(), b"forged").await;
    assert_eq!(collection(&*repository).await, before);
}

/// A root key version that was made to wrap another scope's data key version is in use by that row, and
/// the row is still loaded with its own scope.
pub async fn a_data_key_version_moved_under_another_scope_is_seen(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Tampering) {
        return;
    }
    let repository = fixture.repository();
    let one = with_keys(fixture, "o_1").await;
    let one = applied(&*repository, change_sets::rotate_and_rewrap(&one)).await;
    let other = with_keys(fixture, "o_2").await;
    let old = one.root_key_versions[0].id.clone();
    let moved = data_version(&other, 0).id.clone();
    fixture.set_wrapping(&moved, &old).await;

    let now = rows(&*repository, &other.scope).await;
    assert_eq!(data_version(&now, 0).root_key_version, old);
    assert_same(&rows(&*repository, &one.scope).await, &one);
    let change = change_sets::revoke(&one, old, Proof::Required);
    let error = refused(&*repository, change, ErrorKind::InUse).await;
    assert_names_table(&error, "kms_data_key_version");
}
