//! Rows that somebody deleted by hand, with the collection version counted up, as scripts and Go's own test helpers do.
#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kms_kit::prelude::*;
use kms_kit::{ErrorKind, RewrapKeys, Scopes};
use support::{DATABASE, OIDC, World};

on_both_databases! {
    a_data_key_deleted_by_hand_is_an_unknown_purpose_and_reconciling_makes_another
    a_data_key_without_versions_is_refused_by_name_and_the_others_work
    a_root_key_without_versions_is_refused_by_name
    root_keys_deleted_by_hand_leave_unknown_scopes
}

/// Deletes, and counts as every change does, so that caches look at the rows again.
fn delete(world: &World, what: &str) {
    world.database.execute(&format!(
        "delete from {what}; update kms_collection_version set version = version + 1"
    ));
}

/// An engine that has the keys of the scope in its cache and asks the database on every call.
async fn with_cached_keys(world: &World, scope: &ScopeId) -> Kms {
    let builder = world.builder().freshness(Freshness::Always);
    let kms = builder.build().await.unwrap();
    for purpose in [DATABASE, OIDC] {
        let wrapper = kms.wrapper(scope, &purpose).await.unwrap();
        wrapper.encrypt(b"x", b"").unwrap();
    }
    kms
}

async fn a_data_key_deleted_by_hand_is_an_unknown_purpose_and_reconciling_makes_another(
    world: &World,
) {
    let scope = world.scope("o_1").await;
    let kms = with_cached_keys(world, &scope).await;
    let old = kms.wrapper(&scope, &OIDC).await.unwrap();
    let blob = old.encrypt(b"lost", b"").unwrap();
    delete(world, "kms_data_key where purpose = 'oidc'");

    let error = kms.wrapper(&scope, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPurpose);
    assert_eq!(error.context("purpose"), Some("oidc"));
    kms.wrapper(&scope, &DATABASE).await.unwrap();

    let scopes = [scope.clone()];
    let purposes = [OIDC, DATABASE];
    let outcome = kms.reconcile_keys(Scopes::Only(&scopes), &purposes);
    let created = outcome.await.unwrap().created;
    assert_eq!(created, [(scope.clone(), vec![OIDC])]);
    let new = kms.wrapper(&scope, &OIDC).await.unwrap();
    assert_ne!(new.key_version_id(), old.key_version_id());
    let error = kms.decrypt(&scope, &OIDC, &blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
}

async fn a_data_key_without_versions_is_refused_by_name_and_the_others_work(world: &World) {
    let scope = world.scope("o_1").await;
    let kms = with_cached_keys(world, &scope).await;
    delete(
        world,
        "kms_data_key_version where data_key_id in (select private_id from kms_data_key where purpose = 'oidc')",
    );
    let wrapper = kms.wrapper(&scope, &OIDC).await;
    let encrypted = wrapper.and_then(|wrapper| wrapper.encrypt(b"x", b""));
    let error = encrypted.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
    assert_eq!(error.context("purpose"), Some("oidc"), "{error}");
    let wrapper = kms.wrapper(&scope, &DATABASE).await.unwrap();
    wrapper.encrypt(b"x", b"").unwrap();
    // A rotation gives it a version again.
    kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    let wrapper = kms.wrapper(&scope, &OIDC).await.unwrap();
    wrapper.encrypt(b"x", b"").unwrap();
}

async fn a_root_key_without_versions_is_refused_by_name(world: &World) {
    let scope = world.scope("o_1").await;
    let kms = with_cached_keys(world, &scope).await;
    delete(world, "kms_data_key_version");
    delete(world, "kms_root_key_version");
    let wrapper = kms.wrapper(&scope, &OIDC).await;
    let encrypted = wrapper.and_then(|wrapper| wrapper.encrypt(b"x", b""));
    assert_eq!(encrypted.unwrap_err().kind(), ErrorKind::UnknownKeyVersion);
    let root_key = kms.root_key_wrapper(&scope).await.unwrap();
    let error = root_key.encrypt(b"x", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
    assert!(error.to_string().contains("the root key has no version"));

    let before = world.database.dump();
    for error in [
        kms.rewrap_keys(&scope, RewrapKeys::All).await.unwrap_err(),
        kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TamperedKey);
        assert_eq!(error.context("scope"), Some("o_1"));
        assert!(error.to_string().contains("the root key has no version"));
    }
    assert_eq!(world.database.dump(), before);
}

async fn root_keys_deleted_by_hand_leave_unknown_scopes(world: &World) {
    let scopes = [world.scope("o_1").await, world.scope("o_2").await];
    let kms = with_cached_keys(world, &scopes[0]).await;
    delete(world, "kms_root_key");
    for scope in &scopes {
        for error in [
            kms.wrapper(scope, &OIDC).await.map(drop).unwrap_err(),
            kms.root_key_wrapper(scope).await.map(drop).unwrap_err(),
            kms.list_keys(scope).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::UnknownScope);
            assert_eq!(error.context("scope"), Some(scope.as_str()));
        }
        kms.create_keys(scope, &[OIDC]).await.unwrap();
        kms.wrapper(scope, &OIDC).await.unwrap();
    }
}
