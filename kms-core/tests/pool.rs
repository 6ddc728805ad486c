//! Moving from one root key to another.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use kms_core::{
    Blob, CampaignOptions, ErrorKind, KeyBytes, Kms, Ownership, PooledWrapper, Rewrap, RewrapKeys,
    Wrapper,
};
use kms_wrapper_aead::AeadWrapper;
use support::{OIDC, World, root, scope};

fn pool(encrypting: &Arc<dyn Wrapper>, decrypting: &Arc<dyn Wrapper>) -> Arc<dyn Wrapper> {
    let pool = PooledWrapper::new(Arc::clone(encrypting))
        .with_decrypting(Arc::clone(decrypting))
        .unwrap();
    Arc::new(pool)
}

#[tokio::test]
async fn a_fleet_moves_to_another_root_key_in_four_steps_without_a_gap() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    world.kms.create_keys(&scope("o_2"), &[OIDC]).await.unwrap();
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let (old, new) = (Arc::clone(&world.root), root("new"));
    let process = async |root: Arc<dyn Wrapper>| -> Kms {
        world.builder().root_wrapper(root).build().await.unwrap()
    };
    let blob = world.encrypt(&id, b"before").await;

    let step_1 = process(pool(&old, &new)).await;
    let step_2 = process(pool(&new, &old)).await;
    // The new root encrypts in some processes already: those of step 1 read it.
    step_2.rotate_keys(&id, Rewrap::No).await.unwrap();
    for kms in [&step_1, &step_2] {
        kms.decrypt(&id, &OIDC, &blob, b"").await.unwrap();
        kms.wrapper(&id, &OIDC)
            .await
            .unwrap()
            .encrypt(b"x", b"")
            .unwrap();
    }
    let census = step_2.census().await.unwrap();
    assert_eq!(census.by_root_key.get("root"), Some(&3));
    assert_eq!(census.by_root_key.get("new"), Some(&1));
    assert_eq!(census.not_current, 3);

    let outcome = step_2
        .rewrap_all(
            &CampaignOptions::new("move"),
            RewrapKeys::ForeignRoot,
            |_| {},
        )
        .await
        .unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (2, 0));
    let census = step_2.census().await.unwrap();
    assert_eq!(census.by_root_key.get("root"), None);
    assert_eq!(census.not_current, 0);

    let step_4 = process(new).await;
    let plain = step_4.decrypt(&id, &OIDC, &blob, b"").await.unwrap();
    assert_eq!(plain.expose(), b"before");
    let gone = process(old).await;
    let error = gone.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
}

#[tokio::test]
async fn a_pool_refuses_two_wrappers_with_one_id() {
    let pool = PooledWrapper::new(root("same"));
    let error = pool.with_decrypting(root("same")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
}

#[tokio::test]
async fn a_pool_asks_only_members_that_may_own_the_blob() {
    let (first, second, stranger) = (root("first"), root("second"), root("stranger"));
    let pool = pool(&first, &second);
    let blob = second.encrypt(b"x", b"a").await.unwrap();
    assert_eq!(pool.owns(&blob), Ownership::Yes);
    assert_eq!(pool.is_current(&blob), Ownership::No);
    assert_eq!(pool.decrypt(&blob, b"a").await.unwrap().expose(), b"x");
    let error = pool.decrypt(&blob, b"b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    let foreign = stranger.encrypt(b"x", b"").await.unwrap();
    assert_eq!(pool.owns(&foreign), Ownership::No);
    let error = pool.decrypt(&foreign, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
}

#[tokio::test]
async fn invariant_11_a_blob_that_names_a_key_is_not_opened_with_it_unless_it_is_the_configured_one()
 {
    let attacker_key = KeyBytes::from_slice(&[7; 32]).unwrap();
    let attacker = AeadWrapper::builder("root")
        .key(attacker_key)
        .build()
        .unwrap();
    let configured = root("root");
    let blob = attacker.encrypt(b"planted", b"").await.unwrap();
    assert_eq!(blob.key_id(), "root");
    let error = configured.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    let renamed = Blob::new(blob.ciphertext().to_vec(), "elsewhere");
    assert!(configured.decrypt(&renamed, b"").await.is_err());
}
