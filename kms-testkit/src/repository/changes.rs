//! Rotating, rewrapping and reconciling: what they write, and what they leave alone.

use kms_core::{Proof, Purpose, ScopeRows};

use super::Fixture;
use super::setup::{
    DATABASE, OIDC, applied, apply, assert_consistent, assert_same, data_key, data_versions,
    find_rows, new_scope, newest_root, rows, with_keys,
};
use crate::change_sets;

/// A rotation adds one version to every key, wrapped by the new root key version, and leaves the
/// older ones as they were.
pub async fn a_rotation_adds_one_version_to_every_key(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let before = with_keys(fixture, "o_1").await;
    let change = change_sets::rotate(&before);
    let after = applied(&*repository, change.clone()).await;

    assert_consistent(&after);
    let newest = newest_root(&after);
    let new = &change.insert.root_key_versions[0];
    assert_eq!(
        (&newest.id, newest.version, &newest.key),
        (&new.id, 2, &new.key)
    );
    for key in &after.data_keys {
        let [old, new] = &key.versions[..] else {
            panic!("two versions: {key:#?}");
        };
        assert_eq!(old.root_key_version, before.root_key_versions[0].id);
        assert_eq!((new.version, &new.root_key_version), (2, &newest.id));
    }
    assert_old_rows_kept(&before, &after);
}

/// A rotation that also rewraps moves every data key version under the new root key version.
pub async fn a_rotation_with_rewrap_leaves_nothing_under_an_old_root_key_version(
    fixture: &dyn Fixture,
) {
    let repository = fixture.repository();
    let before = with_keys(fixture, "o_1").await;
    let change = change_sets::rotate_and_rewrap(&before);
    let after = applied(&*repository, change.clone()).await;

    assert_consistent(&after);
    let newest = newest_root(&after);
    assert!(data_versions(&after).all(|row| row.root_key_version == newest.id));
    for (id, key) in &change.update.root_key_versions {
        let row = after.root_key_versions.iter().find(|row| row.id == *id);
        assert_eq!(row.map(|row| &row.key), Some(key));
    }
    for new in &change.update.data_key_versions {
        let row = data_versions(&after).find(|row| row.id == new.id);
        assert_eq!(row.map(|row| &row.key), Some(&new.key));
    }
}

/// A rewrap replaces wrapped keys, and neither ids nor numbers nor times.
pub async fn a_rewrap_replaces_wrapped_keys_and_nothing_else(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let before = with_keys(fixture, "o_1").await;
    let before = applied(&*repository, change_sets::rotate(&before)).await;
    let after = applied(&*repository, change_sets::rewrap(&before)).await;

    assert_eq!(after.create_time, before.create_time);
    assert_eq!(after.root_key_versions.len(), 2);
    for (after, before) in after
        .root_key_versions
        .iter()
        .zip(&before.root_key_versions)
    {
        assert_eq!((&after.id, after.version), (&before.id, before.version));
        assert_eq!(after.create_time, before.create_time);
        assert_ne!(after.key, before.key);
    }
    let newest = newest_root(&after).id.clone();
    assert_eq!(data_versions(&after).count(), 4);
    for (after, before) in data_versions(&after).zip(data_versions(&before)) {
        assert_eq!((&after.id, after.version), (&before.id, before.version));
        assert_eq!(after.create_time, before.create_time);
        assert_eq!(after.root_key_version, newest);
        assert_ne!(after.key, before.key);
    }
}

/// A change set that rewraps some rows leaves the others as they are.
pub async fn a_rewrap_of_some_rows_leaves_the_others(fixture: &dyn Fixture) {
    let before = with_keys(fixture, "o_1").await;
    let mut change = change_sets::rewrap(&before);
    change.update.root_key_versions.clear();
    change.update.data_key_versions.truncate(1);
    let rewrapped = change.update.data_key_versions[0].clone();
    let after = applied(&*fixture.repository(), change).await;
    assert_eq!(newest_root(&after).key, newest_root(&before).key);
    for (after, before) in data_versions(&after).zip(data_versions(&before)) {
        let expected = if after.id == rewrapped.id {
            &rewrapped.key
        } else {
            &before.key
        };
        assert_eq!(after.key, *expected);
    }
}

/// Reconciling adds the data keys that a scope lacks, each with its first version, and nothing else.
pub async fn reconciling_adds_the_data_keys_that_lack(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let scope = new_scope(fixture, "o_1").await;
    let before = applied(&*repository, change_sets::create(&scope, &[DATABASE])).await;
    let before = applied(&*repository, change_sets::rotate(&before)).await;
    let secrets = Purpose::from_static("client secrets");
    let change = change_sets::reconcile(&before, &[OIDC, secrets.clone()]);
    let after = applied(&*repository, change).await;

    assert_consistent(&after);
    assert_eq!(after.data_keys.len(), 3);
    for purpose in [&OIDC, &secrets] {
        let key = data_key(&after, purpose);
        assert_eq!(key.versions.len(), 1);
        assert_eq!(key.versions[0].root_key_version, newest_root(&after).id);
    }
    assert_eq!(data_key(&after, &DATABASE).versions.len(), 2);
    assert_old_rows_kept(&before, &after);
}

/// A change of one scope leaves every other scope as it is.
pub async fn a_change_of_one_scope_leaves_the_others(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut keys = with_keys(fixture, "o_1").await;
    let other = with_keys(fixture, "o_2").await;
    for change in [change_sets::rotate_and_rewrap, change_sets::rewrap] {
        keys = applied(&*repository, change(&keys)).await;
    }
    let deletion = change_sets::delete(&keys, Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    assert!(find_rows(&*repository, &keys.scope).await.is_none());
    assert_same(&rows(&*repository, &other.scope).await, &other);
}

#[track_caller]
fn assert_old_rows_kept(before: &ScopeRows, after: &ScopeRows) {
    for old in &before.root_key_versions {
        let kept = after.root_key_versions.iter().find(|row| row.id == old.id);
        let kept = kept.map(|row| (row.version, &row.key, row.create_time));
        assert_eq!(kept, Some((old.version, &old.key, old.create_time)));
    }
    for old in data_versions(before) {
        let kept = data_versions(after).find(|row| row.id == old.id);
        let kept = kept.map(|row| {
            (
                row.version,
                &row.key,
                &row.root_key_version,
                row.create_time,
            )
        });
        let old = (
            old.version,
            &old.key,
            &old.root_key_version,
            old.create_time,
        );
        assert_eq!(kept, Some(old));
    }
}
