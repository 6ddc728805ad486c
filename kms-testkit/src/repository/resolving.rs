//! What became of a change set whose commit was not answered.

use std::sync::Arc;

use kms_core::{ChangeSet, KeyVersionId, Proof, Purpose, Repository, Resolution, ScopeRows};

use super::Fixture;
use super::setup::{DATABASE, OIDC, Picture, applied, apply, new_scope, with_keys};
use crate::change_sets;

type Make = fn(&ScopeRows) -> ChangeSet;

/// Every operation on a scope that has keys.
const CHANGES: [Make; 7] = [
    change_sets::rotate,
    change_sets::rotate_and_rewrap,
    change_sets::rewrap,
    |rows| change_sets::reconcile(rows, &[Purpose::from_static("more")]),
    |rows| {
        let old = rows.data_keys[0].versions[0].id.clone();
        change_sets::revoke(rows, old, Proof::Skipped)
    },
    |rows| {
        let change = change_sets::rewrap(rows);
        ChangeSet {
            update: kms_core::Updates {
                root_key_versions: Vec::new(),
                ..change.update
            },
            ..change
        }
    },
    |rows| change_sets::delete(rows, Proof::Skipped),
];

/// A change set that was committed is resolved as applied, one that never was as not applied; and
/// resolving changes nothing.
pub async fn a_change_is_told_from_one_that_never_was(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    for (number, make) in CHANGES.into_iter().enumerate() {
        let keys = rotated(fixture, &format!("o_{number}")).await;
        let change = make(&keys);
        let operation = change.operation;
        let before = Picture::take(&*repository).await;
        assert_eq!(
            resolve(&*repository, &change).await,
            Resolution::NotApplied,
            "{operation:?} that was not"
        );
        before.assert_unchanged(&*repository).await;
        let _ = apply(&*repository, change.clone()).await.unwrap();
        assert_eq!(
            resolve(&*repository, &change).await,
            Resolution::Applied,
            "{operation:?} that was"
        );
    }
}

/// A creation is told by its own root key: another creator's is not it, and neither is none.
pub async fn a_creation_is_told_by_its_own_root_key(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let scope = new_scope(fixture, "o_1").await;
    let mine = change_sets::create(&scope, &[DATABASE]);
    let theirs = change_sets::create(&scope, &[DATABASE]);
    assert_eq!(resolve(&*repository, &mine).await, Resolution::NotApplied);
    let _ = applied(&*repository, theirs.clone()).await;
    assert_eq!(resolve(&*repository, &mine).await, Resolution::NotApplied);
    assert_eq!(resolve(&*repository, &theirs).await, Resolution::Applied);
}

/// A change that was applied is still resolved as applied when later ones went over it, as long as
/// anything of it is there.
pub async fn a_change_is_still_told_after_later_ones(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let changes: [Make; 3] = [
        change_sets::rotate,
        change_sets::rotate_and_rewrap,
        |rows| change_sets::reconcile(rows, &[Purpose::from_static("more")]),
    ];
    for (number, make) in changes.into_iter().enumerate() {
        let keys = rotated(fixture, &format!("o_{number}")).await;
        let change = make(&keys);
        let keys = applied(&*repository, change.clone()).await;
        let keys = applied(&*repository, change_sets::rotate_and_rewrap(&keys)).await;
        let _ = applied(&*repository, change_sets::rewrap(&keys)).await;
        let resolution = resolve(&*repository, &change).await;
        assert_eq!(resolution, Resolution::Applied, "{:?}", change.operation);
    }
}

/// A rotation or reconciliation that another one overtook is not applied: its place is taken.
pub async fn a_change_whose_place_is_taken_is_not_applied(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let changes: [Make; 3] = [
        change_sets::rotate,
        change_sets::rotate_and_rewrap,
        |rows| change_sets::reconcile(rows, &[Purpose::from_static("more")]),
    ];
    for (number, make) in changes.into_iter().enumerate() {
        let keys = rotated(fixture, &format!("o_{number}")).await;
        let change = make(&keys);
        let _ = applied(&*repository, make(&keys)).await;
        let resolution = resolve(&*repository, &change).await;
        assert_eq!(resolution, Resolution::NotApplied, "{:?}", change.operation);
    }
}

/// A rewrap is not applied as long as any wrapped key that it replaces is still there, whatever else
/// changed.
pub async fn a_rewrap_whose_old_wrapped_keys_are_still_there_is_not_applied(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_1").await;
    let change = change_sets::rewrap(&keys);
    let _ = applied(&*repository, change_sets::rotate(&keys)).await;
    assert_eq!(resolve(&*repository, &change).await, Resolution::NotApplied);
}

/// Where later changes took away every trace, the rows allow both, and the answer says so: a rewrap
/// that another one went over, a rotation whose versions may have been revoked since, and anything but
/// creation and deletion in a scope that is gone.
pub async fn a_change_without_trace_is_unknown(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_rewrapped").await;
    let change = change_sets::rewrap(&keys);
    let _ = applied(&*repository, change_sets::rewrap(&keys)).await;
    assert_eq!(resolve(&*repository, &change).await, Resolution::Unknown);

    let mut keys = rotated(fixture, "o_revoked").await;
    let change = change_sets::rotate(&keys);
    keys = applied(&*repository, change.clone()).await;
    keys = applied(&*repository, change_sets::rotate_and_rewrap(&keys)).await;
    let roots = change.insert.root_key_versions.iter();
    let data = change.insert.data_key_versions.iter();
    let new: Vec<KeyVersionId> = roots
        .map(|new| new.id.clone().into())
        .chain(data.map(|new| new.id.clone().into()))
        .collect();
    for id in new {
        let revocation = change_sets::revoke(&keys, id, Proof::Skipped);
        keys = applied(&*repository, revocation).await;
    }
    assert_eq!(resolve(&*repository, &change).await, Resolution::Unknown);

    let keys = rotated(fixture, "o_gone").await;
    let changes = [
        change_sets::rotate(&keys),
        change_sets::rewrap(&keys),
        change_sets::reconcile(&keys, &[Purpose::from_static("more")]),
    ];
    let deletion = change_sets::delete(&keys, Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    for change in &changes {
        let resolution = resolve(&*repository, change).await;
        assert_eq!(resolution, Resolution::Unknown, "{:?}", change.operation);
    }
    // Created anew, the scope has other keys, which say no more.
    let anew = change_sets::create(&keys.scope, &[DATABASE, OIDC]);
    let _ = applied(&*repository, anew).await;
    for change in &changes {
        let resolution = resolve(&*repository, change).await;
        assert_eq!(resolution, Resolution::Unknown, "{:?}", change.operation);
    }
}

/// A deletion is applied when its target is gone, also if the scope has new keys since.
pub async fn a_deletion_is_told_by_its_target(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = rotated(fixture, "o_1").await;
    let deletion = change_sets::delete(&keys, Proof::Skipped);
    let old = keys.data_keys[0].versions[0].id.clone();
    let revocation = change_sets::revoke(&keys, old, Proof::Skipped);
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    assert_eq!(
        resolve(&*repository, &deletion).await,
        Resolution::NotApplied
    );
    assert_eq!(
        resolve(&*repository, &revocation).await,
        Resolution::NotApplied
    );
    let other = change_sets::delete(&keys, Proof::Skipped);
    let _ = apply(&*repository, other).await.unwrap();
    let anew = change_sets::create(&keys.scope, &[DATABASE, OIDC]);
    let _ = applied(&*repository, anew).await;
    assert_eq!(resolve(&*repository, &deletion).await, Resolution::Applied);
    assert_eq!(
        resolve(&*repository, &revocation).await,
        Resolution::Applied
    );
}

/// Of a batch each change set is resolved for itself, in their order.
pub async fn a_batch_is_resolved_one_by_one(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let done = rotated(fixture, "o_z_done").await;
    let open = rotated(fixture, "o_a_open").await;
    let changes: Arc<[_]> = Arc::new([change_sets::rotate(&done), change_sets::rotate(&open)]);
    let _ = apply(&*repository, changes[0].clone()).await.unwrap();
    let resolutions = repository.resolve(changes).await.unwrap();
    assert_eq!(resolutions, [Resolution::Applied, Resolution::NotApplied]);
    assert_eq!(repository.resolve(Arc::new([])).await.unwrap(), []);
}

async fn rotated(fixture: &dyn Fixture, id: &str) -> ScopeRows {
    let keys = with_keys(fixture, id).await;
    applied(&*fixture.repository(), change_sets::rotate(&keys)).await
}

async fn resolve(repository: &dyn Repository, change: &ChangeSet) -> Resolution {
    let changes = Arc::new([change.clone()]);
    let resolutions = repository.resolve(changes).await.unwrap();
    let [resolution] = resolutions[..] else {
        panic!("one resolution: {resolutions:?}");
    };
    resolution
}
