//! A change set applies to the rows it was prepared from, and to no others.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kms_core::{
    ChangeSet, DataKeyId, DataKeyVersionId, ErrorKind, Proof, Purpose, RootKeyId, RootKeyVersionId,
    ScopeRows,
};

use super::Fixture;
use super::setup::{
    DATABASE, OIDC, Picture, applied, apply, assert_consistent, assert_same, refused, rows,
    second_repository, with_keys,
};
use crate::change_sets;

type Edit = (&'static str, fn(&mut ScopeRows));

/// Every way in which rows can differ from what was expected.
const DIFFERENCES: &[Edit] = &[
    ("another root key", |rows| {
        rows.root_key = RootKeyId::generate();
    }),
    ("a root key version of another id", |rows| {
        rows.root_key_versions[0].id = RootKeyVersionId::generate();
    }),
    ("a root key version of another number", |rows| {
        rows.root_key_versions[1].version += 1;
    }),
    ("one bit of a root key version's wrapped key", |rows| {
        rows.root_key_versions[0].key[5] ^= 1;
    }),
    ("a byte more of a root key version's wrapped key", |rows| {
        rows.root_key_versions[0].key.push(0);
    }),
    ("two root key versions' wrapped keys exchanged", |rows| {
        let (one, other) = rows.root_key_versions.split_at_mut(1);
        std::mem::swap(&mut one[0].key, &mut other[0].key);
    }),
    ("a root key version less", |rows| {
        rows.root_key_versions.remove(0);
    }),
    ("a root key version more", |rows| {
        let mut more = rows.root_key_versions[1].clone();
        more.id = RootKeyVersionId::generate();
        more.version += 1;
        rows.root_key_versions.push(more);
    }),
    ("a data key of another id", |rows| {
        rows.data_keys[0].id = DataKeyId::generate();
    }),
    ("a data key of another purpose", |rows| {
        rows.data_keys[0].purpose = Purpose::from_static("another");
    }),
    ("a data key less", |rows| {
        rows.data_keys.pop();
    }),
    ("a data key more", |rows| {
        let mut more = rows.data_keys[0].clone();
        more.id = DataKeyId::generate();
        more.purpose = Purpose::from_static("zz");
        more.versions.clear();
        rows.data_keys.push(more);
    }),
    ("a data key version of another id", |rows| {
        rows.data_keys[1].versions[0].id = DataKeyVersionId::generate();
    }),
    ("a data key version of another number", |rows| {
        rows.data_keys[0].versions[1].version += 1;
    }),
    (
        "a data key version wrapped by another root key version",
        |rows| {
            let other = rows.root_key_versions[1].id.clone();
            rows.data_keys[0].versions[0].root_key_version = other;
        },
    ),
    ("one bit of a data key version's wrapped key", |rows| {
        rows.data_keys[0].versions[0].key[5] ^= 1;
    }),
    ("two purposes' wrapped keys exchanged", |rows| {
        let (one, other) = rows.data_keys.split_at_mut(1);
        std::mem::swap(&mut one[0].versions[0].key, &mut other[0].versions[0].key);
    }),
    ("a data key version less", |rows| {
        rows.data_keys[1].versions.remove(0);
    }),
    ("a data key version more", |rows| {
        let mut more = rows.data_keys[1].versions[1].clone();
        more.id = DataKeyVersionId::generate();
        more.version += 1;
        rows.data_keys[1].versions.push(more);
    }),
];

fn every_change(rows: &ScopeRows) -> Vec<ChangeSet> {
    let old = rows.data_keys[0].versions[0].id.clone();
    vec![
        change_sets::rotate(rows),
        change_sets::rotate_and_rewrap(rows),
        change_sets::rewrap(rows),
        change_sets::reconcile(rows, &[Purpose::from_static("more")]),
        change_sets::revoke(rows, old, Proof::Skipped),
        change_sets::delete(rows, Proof::Skipped),
    ]
}

/// Any difference between the rows that were expected and those that are there is a conflict, whatever
/// the change, and nothing is written.
pub async fn every_difference_from_the_expected_rows_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let before = Picture::take(&*repository).await;
    for (name, edit) in DIFFERENCES {
        for mut change in every_change(&keys) {
            let operation = change.operation;
            edit(change.expected.as_mut().unwrap());
            let error = apply(&*repository, change)
                .await
                .expect_err(&format!("{operation:?} with {name} was applied"));
            assert_eq!(error.kind(), ErrorKind::Conflict, "{name}: {error}");
            assert!(error.is_retryable());
        }
    }
    before.assert_unchanged(&*repository).await;
}

/// What was prepared before another change came is a conflict, whatever the two changes are. (A stale
/// rewrap that only compared ids and numbers could put a scope back under an old root wrapper.)
pub async fn a_change_prepared_before_another_one_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut keys = with_keys(fixture, "o_1").await;
    keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let others: [fn(&ScopeRows) -> ChangeSet; 4] = [
        change_sets::rotate,
        change_sets::rewrap,
        |rows| change_sets::reconcile(rows, &[Purpose::from_static("late")]),
        |rows| {
            let old = rows.data_keys[0].versions[0].id.clone();
            change_sets::revoke(rows, old, Proof::Skipped)
        },
    ];
    for other in others {
        let stale = every_change(&keys);
        keys = applied(&*repository, other(&keys)).await;
        for change in stale {
            refused(&*repository, change, ErrorKind::Conflict).await;
        }
        assert_same(&rows(&*repository, &keys.scope).await, &keys);
    }
}

/// A change of a scope that is gone is a conflict, and so is one of a scope that was created anew.
pub async fn a_change_of_a_scope_that_is_gone_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let deletion = change_sets::delete(&keys, Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    for change in every_change(&keys) {
        refused(&*repository, change, ErrorKind::Conflict).await;
    }
    let anew = change_sets::create(&keys.scope, &[DATABASE, OIDC]);
    let anew = applied(&*repository, anew).await;
    for change in every_change(&keys) {
        refused(&*repository, change, ErrorKind::Conflict).await;
    }
    assert_same(&rows(&*repository, &keys.scope).await, &anew);
}

/// Of two rotations prepared from the same rows and applied at the same time, one is applied and the
/// other a conflict.
pub async fn of_two_rotations_from_the_same_rows_one_is_a_conflict(fixture: &dyn Fixture) {
    let here = fixture.repository();
    let there = second_repository(fixture).await;
    let mut keys = with_keys(fixture, "o_1").await;
    for round in 2..=11 {
        let applying = [&here, &there].map(|repository| {
            let repository = Arc::clone(repository);
            let change = change_sets::rotate_and_rewrap(&keys);
            tokio::spawn(async move { apply(&*repository, change).await })
        });
        let outcomes: Vec<_> = join_all(applying).await;
        let refusals: Vec<_> = outcomes
            .into_iter()
            .filter_map(|outcome| outcome.unwrap().err())
            .collect();
        assert_eq!(
            refusals.len(),
            1,
            "one is applied, one is not: {refusals:?}"
        );
        assert_eq!(refusals[0].kind(), ErrorKind::Conflict, "{}", refusals[0]);
        keys = rows(&*here, &keys.scope).await;
        assert_eq!(keys.root_key_versions.len(), round);
        assert_consistent(&keys);
    }
}

/// Times decide nothing: databases round them.
pub async fn times_are_not_compared(fixture: &dyn Fixture) {
    let keys = with_keys(fixture, "o_1").await;
    let mut change = change_sets::rotate(&keys);
    let expected = change.expected.as_mut().unwrap();
    expected.create_time -= Duration::from_secs(60);
    expected.root_key_versions[0].create_time -= Duration::from_secs(60);
    expected.data_keys[0].versions[0].create_time -= Duration::from_secs(60);
    let _ = applied(&*fixture.repository(), change).await;
}

/// Wrapped keys are bound to their version's number, so a number that the database would not assign is
/// a conflict, and nothing of the change stays.
pub async fn a_number_that_the_database_does_not_assign_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    for number in [1, 3] {
        let mut change = change_sets::rotate(&keys);
        change.insert.root_key_versions[0].version = number;
        refused(&*repository, change, ErrorKind::Conflict).await;

        let mut change = change_sets::rotate_and_rewrap(&keys);
        change.insert.data_key_versions[1].version = number;
        refused(&*repository, change, ErrorKind::Conflict).await;
    }
    assert_same(&rows(&*repository, &keys.scope).await, &keys);
}

/// A scope has one data key of each purpose: a second one is a conflict, and nothing of it stays.
pub async fn a_second_data_key_of_one_purpose_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let purposes = [Purpose::from_static("more"), DATABASE];
    let change = change_sets::reconcile(&keys, &purposes);
    refused(&*repository, change, ErrorKind::Conflict).await;
    assert_same(&rows(&*repository, &keys.scope).await, &keys);
}
