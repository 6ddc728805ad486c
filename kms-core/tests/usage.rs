//! How encryptions are counted, and what a hostile blob can put into an error.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kms_core::{Blob, ErrorKind, Rewrap, RewrapKeys};
use support::{OIDC, World, scope};

#[tokio::test]
async fn encryptions_are_counted_by_key_version_whatever_becomes_of_the_keys_in_memory() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let wrapper = world.wrapper(&id).await;
    for _ in 0..2000 {
        wrapper.encrypt(b"x", b"").unwrap();
    }
    assert_eq!(wrapper.encryptions(), 2000);
    world.kms.rewrap_keys(&id, RewrapKeys::All).await.unwrap();
    assert_eq!(world.wrapper(&id).await.encryptions(), 2000);
    let keys = world.kms.list_keys(&id).await.unwrap();
    let old = keys[0].versions[0].id.clone();
    world.kms.revoke_key_version(&old).await.unwrap();
    let wrapper = world.wrapper(&id).await;
    wrapper.encrypt(b"x", b"").unwrap();
    assert_eq!(wrapper.encryptions(), 2001);
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    assert_eq!(
        world.wrapper(&id).await.encryptions(),
        0,
        "of the new version"
    );
}

#[tokio::test]
async fn a_blob_with_a_key_id_of_ten_megabytes_gives_a_short_error() {
    let world = World::with_scope("o_1").await;
    let blob = Blob::new(vec![0; 40], "x".repeat(10_000_000));
    let wrapper = world.wrapper(&scope("o_1")).await;
    for error in [
        wrapper.decrypt(&blob, b"").unwrap_err(),
        world
            .kms
            .decrypt(&scope("o_1"), &OIDC, &blob, b"")
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
        assert!(error.to_string().len() < 1000);
        assert!(format!("{error:?}").len() < 2000);
    }
}
