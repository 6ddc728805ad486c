//! A tenant gets another id, and every blob that it has opens under it.

use std::time::Duration;

use kms_core::{Binding, ErrorKind, Repository as _, Rewrap};

use crate::support::instrumented::Process;
use crate::support::{OIDC, World, scope};
use crate::{Arc, assert_opens, tenant};

#[tokio::test]
async fn every_blob_opens_under_the_new_id_and_none_under_the_former() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let to = scope("o_new");
    let before = world.kms.list_keys(&id).await.unwrap();
    world.kms.wrapper(&id, &OIDC).await.unwrap();
    world.kms.rename_scope(&id, &to).await.unwrap();
    // In this process at once.
    let error = world.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
    let error = world.kms.decrypt(&id, &OIDC, &blobs[0], b"").await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::UnknownScope);
    for kms in [&world.kms, &world.another_process().await] {
        for blob in &blobs {
            let plaintext = kms.decrypt(&to, &OIDC, blob, b"").await.unwrap();
            assert_eq!(plaintext.expose(), b"o_1");
        }
        let after = kms.list_keys(&to).await.unwrap();
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((&before.id, &after.scope), (&after.id, &to));
            let versions = |key: &kms_core::Key| -> Vec<_> {
                let versions = key.versions.iter();
                versions.map(|row| (row.id.clone(), row.version)).collect()
            };
            assert_eq!(versions(before), versions(after));
        }
    }
    world.kms.rotate_keys(&to, Rewrap::Yes).await.unwrap();
    // The former id is free.
    world.kms.create_keys(&id, &[OIDC]).await.unwrap();
    assert!(world.kms.decrypt(&id, &OIDC, &blobs[0], b"").await.is_err());
}

#[tokio::test]
async fn other_processes_know_of_it_within_their_freshness_and_others_tenants_cost_nothing() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let (other, others) = tenant(&world, "o_2").await;
    let process = Process::new(&world).await;
    process.kms.wrapper(&id, &OIDC).await.unwrap();
    assert_opens(&process.kms, &other, &others).await;
    let to = scope("o_new");
    world.kms.rename_scope(&id, &to).await.unwrap();
    process.clock.advance(Duration::from_secs(2));
    let _ = (process.root_calls(), process.queries());
    assert_opens(&process.kms, &other, &others).await;
    assert_eq!((process.root_calls(), process.queries().load), ((0, 0), 0));
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
    process
        .kms
        .decrypt(&to, &OIDC, &blobs[0], b"")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_renaming_takes_one_call_each_way_for_each_root_key_version() {
    let world = World::new().await;
    let (id, _) = tenant(&world, "o_1").await;
    let process = Process::new(&world).await;
    process.kms.rename_scope(&id, &scope("o_2")).await.unwrap();
    assert_eq!(process.root_calls(), (3, 3));
}

#[tokio::test]
async fn what_can_not_be_renamed_is_told_and_stays_as_it_is() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let (other, _) = tenant(&world, "o_2").await;
    let process = Process::new(&world).await;
    for (from, to, kind) in [
        (&id, &other, ErrorKind::AlreadyExists),
        (&scope("o_9"), &scope("o_8"), ErrorKind::UnknownScope),
        (&scope("o_9"), &scope("o_9"), ErrorKind::UnknownScope),
    ] {
        let error = process.kms.rename_scope(from, to).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.context("scope"), Some(from.as_str()));
        assert_eq!(error.context("to"), Some(to.as_str()));
    }
    process.kms.rename_scope(&id, &id).await.unwrap();
    assert_eq!(process.root_calls(), (0, 0));
    assert_opens(&process.kms, &id, &blobs).await;

    world
        .repository
        .tamper(|scopes| scopes[0].data_keys[0].versions[0].key[20] ^= 1);
    let before = world.repository_rows(&id).await;
    let error = process.kms.rename_scope(&id, &scope("o_3")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TamperedKey);
    assert!(before.same_keys(&world.repository_rows(&id).await));
}

#[tokio::test]
async fn a_tenant_renamed_by_hand_has_no_keys_that_open() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let to = scope("o_new");
    world
        .repository
        .tamper(|scopes| scopes[0].scope = to.clone());
    let kms = world.another_process().await;
    assert!(kms.decrypt(&to, &OIDC, &blobs[0], b"").await.is_err());
    let error = kms.rename_scope(&to, &id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
}

#[tokio::test]
async fn a_change_applied_by_the_application_is_seen_with_its_receipt() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let to = scope("o_new");
    let process = Process::new(&world).await;
    process.kms.wrapper(&id, &OIDC).await.unwrap();
    let prepared = process.kms.prepare_rename_scope(&id, &to).await.unwrap();
    let change = prepared.unwrap().into_change_set();
    let outcomes = world.repository.apply(Arc::new([change])).await.unwrap();
    let receipts: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    process.kms.accept(&receipts);
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
    process
        .kms
        .decrypt(&to, &OIDC, &blobs[0], b"")
        .await
        .unwrap();
}

/// The new id was a tenant's before, and is cached still.
#[tokio::test]
async fn a_tenant_that_had_the_new_id_before_is_not_taken_for_the_renamed_one() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let (to, _) = tenant(&world, "o_2").await;
    let process = Process::new(&world).await;
    process.kms.wrapper(&to, &OIDC).await.unwrap();
    world.kms.dangerous().delete_keys(&to).await.unwrap();
    process.kms.rename_scope(&id, &to).await.unwrap();
    let wrapper = process.kms.wrapper(&to, &OIDC).await.unwrap();
    assert_eq!(wrapper.key_version_id().as_str(), blobs[1].key_id());
}

#[tokio::test]
async fn unbound_keys_stay_unbound_for_go() {
    let world = World::new().await;
    let go = world.builder().binding(Binding::GoCompatible);
    let go = go.build().await.unwrap();
    let (id, to) = (scope("o_1"), scope("o_new"));
    go.create_keys(&id, &[OIDC]).await.unwrap();
    go.rename_scope(&id, &to).await.unwrap();
    go.wrapper(&to, &OIDC).await.unwrap();
    let rows = world.repository_rows(&to).await;
    let blob = kms_core::Blob::decode(&rows.root_key_versions[0].key).unwrap();
    assert!(world.root.decrypt(&blob, b"").await.is_ok());
}
