//! Loading: complete, in order, one consistent snapshot.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use kms_core::{MAX_NAME_BYTES, Purpose, ScopeId};

use super::fixture::{Feature, Fixture, can};
use super::setup::{
    DATABASE, OIDC, all_rows, applied, apply, assert_consistent, assert_same, data_key,
    many_with_keys, new_scope, rows, with_keys,
};
use crate::change_sets;

/// Every row that a change set wrote is read back as it was written.
pub async fn every_row_is_read_back_as_it_was_written(fixture: &dyn Fixture) {
    let scope = new_scope(fixture, "o_1").await;
    let change = change_sets::create(&scope, &[OIDC, DATABASE]);
    let found = applied(&*fixture.repository(), change.clone()).await;

    assert_eq!((&found.scope, &found.root_key), (&scope, &change.root_key));
    let [root] = &found.root_key_versions[..] else {
        panic!("one root key version: {found:#?}");
    };
    let new = &change.insert.root_key_versions[0];
    assert_eq!((&root.id, root.version, &root.key), (&new.id, 1, &new.key));
    assert_eq!(found.data_keys.len(), 2);
    for (key, version) in change
        .insert
        .data_keys
        .iter()
        .zip(&change.insert.data_key_versions)
    {
        let row = data_key(&found, &key.purpose);
        assert_eq!(row.id, key.id);
        let [row] = &row.versions[..] else {
            panic!("one version: {row:#?}");
        };
        assert_eq!((&row.id, row.version), (&version.id, 1));
        assert_eq!(row.root_key_version, root.id);
        assert_eq!(row.key, version.key);
    }
}

/// Times are the database's, and read in the right time zone.
pub async fn times_are_set_and_near_now(fixture: &dyn Fixture) {
    let found = with_keys(fixture, "o_1").await;
    assert_near_now(found.create_time);
    assert_near_now(found.root_key_versions[0].create_time);
    for key in &found.data_keys {
        assert_near_now(key.create_time);
        assert_near_now(key.versions[0].create_time);
    }
    assert_near_now(
        fixture
            .repository()
            .collection_version(None)
            .await
            .unwrap()
            .collection
            .update_time,
    );
}

/// Data keys come by purpose and versions by number, also past nine.
pub async fn rows_come_in_the_order_that_they_are_compared_in(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut found = with_keys(fixture, "o_1").await;
    for _ in 0..11 {
        found = applied(&*repository, change_sets::rotate(&found)).await;
    }
    assert_eq!(found.root_key_versions.len(), 12);
    assert_consistent(&found);
    let mut sorted = found.clone();
    sorted.sort();
    assert_same(&found, &sorted);
}

/// Scopes without keys are absent from the answer, the others are there.
pub async fn a_scope_without_keys_is_absent(fixture: &dyn Fixture) {
    let with = with_keys(fixture, "o_with").await;
    let without = new_scope(fixture, "o_without").await;
    let unknown = ScopeId::new("o_unknown").unwrap();
    let asked = [without, with.scope.clone(), unknown];
    let snapshot = fixture.repository().load(&asked).await.unwrap();
    let [found] = &snapshot.scopes[..] else {
        panic!("one scope: {snapshot:#?}");
    };
    assert_same(found, &with);
}

/// A scope that is asked for twice is answered once.
pub async fn a_scope_that_is_asked_for_twice_comes_once(fixture: &dyn Fixture) {
    let keys = with_keys(fixture, "o_1").await;
    let asked = [keys.scope.clone(), keys.scope.clone()];
    let snapshot = fixture.repository().load(&asked).await.unwrap();
    assert_eq!(snapshot.scopes.len(), 1);
    assert_same(&snapshot.scopes[0], &keys);
}

/// Asking for no scope gives the collection version alone.
pub async fn asking_for_no_scope_gives_the_collection_version(fixture: &dyn Fixture) {
    let _ = with_keys(fixture, "o_1").await;
    let repository = fixture.repository();
    let snapshot = repository.load(&[]).await.unwrap();
    assert!(snapshot.scopes.is_empty());
    assert_eq!(
        snapshot.collection,
        repository
            .collection_version(None)
            .await
            .unwrap()
            .collection
    );
}

/// Many scopes at once: each with its own rows, none mixed up.
pub async fn a_load_of_many_scopes_gives_each_its_own_rows(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let many = many_with_keys(fixture, "o_", 400).await;
    let scopes: Vec<_> = many.iter().map(|rows| rows.scope.clone()).collect();
    let together = all_rows(&*repository, &scopes).await;
    for (together, scope) in together.iter().zip(&scopes).step_by(37) {
        let alone = rows(&*repository, scope).await;
        assert_same(together, &alone);
        assert_eq!(
            (alone.root_key_versions.len(), alone.data_keys.len()),
            (1, 1)
        );
    }
}

/// Names beyond ASCII, and such as look like SQL, round-trip, and none is taken for another.
pub async fn names_beyond_ascii_round_trip_and_stay_apart(fixture: &dyn Fixture) {
    let names = [
        "日本 tenant",
        "żółć",
        "Tenant",
        "tenant",
        // One composed, one with a combining accent: other bytes, so another scope.
        "caf\u{e9}",
        "cafe\u{301}",
        "🔑",
        "o'1\"; drop table kms_root_key; --",
        "50%_\\",
        "{a,b}",
        "null",
    ];
    let repository = fixture.repository();
    let purposes: Vec<_> = names
        .iter()
        .map(|name| Purpose::new(name).unwrap())
        .collect();
    let mut scopes = Vec::new();
    for name in names {
        let scope = new_scope(fixture, name).await;
        let _ = apply(&*repository, change_sets::create(&scope, &purposes))
            .await
            .unwrap();
        scopes.push(scope);
    }
    for found in all_rows(&*repository, &scopes).await {
        let mut expected = purposes.clone();
        expected.sort();
        let purposes: Vec<_> = found
            .data_keys
            .iter()
            .map(|key| key.purpose.clone())
            .collect();
        assert_eq!(purposes, expected);
        assert_same(&rows(&*repository, &found.scope).await, &found);
    }
}

/// Names of 255 bytes, the most there may be, round-trip.
pub async fn names_of_255_bytes_round_trip(fixture: &dyn Fixture) {
    let longest = "ü".repeat(MAX_NAME_BYTES / 2) + "x";
    assert_eq!(longest.len(), MAX_NAME_BYTES);
    let scope = new_scope(fixture, &longest).await;
    let purpose = Purpose::new(&longest).unwrap();
    let change = change_sets::create(&scope, std::slice::from_ref(&purpose));
    let found = applied(&*fixture.repository(), change).await;
    assert_eq!(
        (found.scope, &found.data_keys[0].purpose),
        (scope, &purpose)
    );
}

/// A wrapped key of any bytes and of any size that a service may give round-trips.
pub async fn wrapped_keys_of_any_bytes_round_trip(fixture: &dyn Fixture) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    for (number, key) in [every_byte.clone(), every_byte.repeat(256), vec![0]]
        .into_iter()
        .enumerate()
    {
        let scope = new_scope(fixture, &format!("o_{number}")).await;
        let mut change = change_sets::create(&scope, &[DATABASE]);
        change.insert.root_key_versions[0].key.clone_from(&key);
        change.insert.data_key_versions[0].key.clone_from(&key);
        let found = applied(&*fixture.repository(), change).await;
        assert_eq!(found.root_key_versions[0].key, key);
        assert_eq!(found.data_keys[0].versions[0].key, key);
    }
}

/// While another task rotates, each snapshot shows a rotation whole or not at all, and a collection
/// version stands for one state of the rows only.
pub async fn a_snapshot_is_never_torn(fixture: &dyn Fixture) {
    const ROTATIONS: usize = 20;
    let writer = fixture.repository();
    let reader = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let scope = keys.scope.clone();
    let writing = tokio::spawn(async move {
        let mut keys = keys;
        for _ in 0..ROTATIONS {
            keys = applied(&*writer, change_sets::rotate_and_rewrap(&keys)).await;
            tokio::task::yield_now().await;
        }
    });
    let mut seen = HashMap::new();
    let mut last = 0;
    loop {
        let done = writing.is_finished();
        let snapshot = reader.load(std::slice::from_ref(&scope)).await.unwrap();
        let [found] = &snapshot.scopes[..] else {
            panic!("one scope: {snapshot:#?}");
        };
        assert_consistent(found);
        let versions = found.root_key_versions.len();
        let newest = &found.root_key_versions[versions - 1];
        for key in &found.data_keys {
            assert_eq!(key.versions.len(), versions, "a rotation seen in part");
            for row in &key.versions {
                assert_eq!(row.root_key_version, newest.id, "a rewrap seen in part");
            }
        }
        assert!(versions >= last, "a later snapshot is no older");
        last = versions;
        let known = *seen.entry(snapshot.collection.version).or_insert(versions);
        assert_eq!(known, versions, "one collection version, two states");
        if done {
            break;
        }
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    assert_eq!(last, ROTATIONS + 1);
}

/// What one repository committed, another on the same database sees.
pub async fn another_repository_sees_the_same(fixture: &dyn Fixture) {
    if !can(fixture, Feature::AnotherRepository) {
        return;
    }
    let here = fixture.repository();
    let there = fixture.another_repository().await;
    let keys = with_keys(fixture, "o_1").await;
    assert_same(&rows(&*there, &keys.scope).await, &keys);
    let rotated = applied(&*there, change_sets::rotate(&keys)).await;
    assert_same(&rows(&*here, &keys.scope).await, &rotated);
    assert_eq!(
        here.collection_version(None).await.unwrap().collection,
        there.collection_version(None).await.unwrap().collection
    );
}

#[track_caller]
fn assert_near_now(time: SystemTime) {
    const NEAR: Duration = Duration::from_secs(10 * 60);
    let now = SystemTime::now();
    let distance = now
        .duration_since(time)
        .unwrap_or_else(|error| error.duration());
    assert!(distance < NEAR, "{time:?} is far from {now:?}");
}
