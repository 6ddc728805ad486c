//! Encrypting into the serialized form and decrypting from it: the same as by way of a `Blob`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kms_core::{Blob, DataKeyWrapper, ErrorKind, Rewrap, SecretBytes};
use support::{World, scope};

const AAD: &[u8] = b"row:1";

async fn wrapper() -> DataKeyWrapper {
    let world = World::with_scope("o_1").await;
    world.wrapper(&scope("o_1")).await
}

/// The same blob as somebody else may serialize it: with a field that nobody knows.
fn in_another_form(blob: &[u8]) -> Vec<u8> {
    let mut other = blob.to_vec();
    other.extend([0xfa, 0x07, 1, 0]);
    other
}

#[tokio::test]
async fn what_is_encrypted_into_the_serialized_form_reads_as_a_blob() {
    let wrapper = wrapper().await;
    for size in [0, 1, 100, 1000, 20_000] {
        let plaintext = vec![7; size];
        let stored = wrapper.encrypt_to_vec(&plaintext, AAD).unwrap();
        let blob = Blob::decode(&stored).unwrap();
        assert_eq!(blob.encode(), stored);
        assert_eq!(blob.key_id(), wrapper.key_version_id().as_str());
        assert_eq!(wrapper.decrypt(&blob, AAD).unwrap().expose(), plaintext);
    }
}

#[tokio::test]
async fn a_serialized_blob_opens_in_every_way_and_whoever_serialized_it() {
    let wrapper = wrapper().await;
    for plaintext in [&b""[..], b"secret", &[7; 5000]] {
        let ours = wrapper.encrypt(plaintext, AAD).unwrap().encode();
        for mut stored in [in_another_form(&ours), ours] {
            let secret = wrapper.decrypt_encoded(&stored, AAD).unwrap();
            assert_eq!(secret.expose(), plaintext);
            let mut buffer = SecretBytes::new(b"what was there before".to_vec());
            wrapper.decrypt_into(&stored, AAD, &mut buffer).unwrap();
            assert_eq!(buffer.expose(), plaintext);
            let in_place = wrapper.decrypt_in_place(&mut stored, AAD).unwrap();
            assert_eq!(in_place, plaintext);
        }
    }
}

#[tokio::test]
async fn appending_leaves_what_was_there() {
    let wrapper = wrapper().await;
    let mut rows = b"before".to_vec();
    wrapper.encrypt_into(b"one", AAD, &mut rows).unwrap();
    let (before, blob) = rows.split_at(6);
    assert_eq!(before, b"before");
    assert_eq!(wrapper.decrypt_encoded(blob, AAD).unwrap().expose(), b"one");
}

#[tokio::test]
async fn old_versions_decrypt_the_serialized_form_too() {
    let world = World::with_scope("o_1").await;
    let old = world.wrapper(&scope("o_1")).await;
    let stored = old.encrypt_to_vec(b"secret", AAD).unwrap();
    world
        .kms
        .rotate_keys(&scope("o_1"), Rewrap::Yes)
        .await
        .unwrap();
    let new = world.wrapper(&scope("o_1")).await;
    assert_ne!(new.key_version_id(), old.key_version_id());
    assert_eq!(
        new.decrypt_encoded(&stored, AAD).unwrap().expose(),
        b"secret"
    );
    // The other way about, the version is not known yet.
    let stored = new.encrypt_to_vec(b"secret", AAD).unwrap();
    let error = old.decrypt_encoded(&stored, AAD).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
}

#[tokio::test]
async fn a_decrypt_only_engine_does_not_encrypt_into_the_serialized_form() {
    let world = World::with_scope("o_1").await;
    let kms = world.builder().decrypt_only().build().await.unwrap();
    let wrapper = kms.wrapper(&scope("o_1"), &support::OIDC).await.unwrap();
    let mut rows = Vec::new();
    for error in [
        wrapper.encrypt_to_vec(b"secret", AAD).unwrap_err(),
        wrapper.encrypt_into(b"secret", AAD, &mut rows).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::DecryptOnly);
    }
    assert!(rows.is_empty());
}

#[tokio::test]
async fn what_does_not_open_leaves_no_plaintext_behind() {
    const SECRET: &[u8] = b"a secret that is long enough to be recognised";
    let wrapper = wrapper().await;
    let ours = wrapper.encrypt_to_vec(SECRET, AAD).unwrap();
    for stored in [in_another_form(&ours), ours] {
        let mut buffer = SecretBytes::new(SECRET.to_vec());
        let error = wrapper
            .decrypt_into(&stored, b"row:2", &mut buffer)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
        assert!(buffer.is_empty());

        let mut place = stored.clone();
        let error = wrapper.decrypt_in_place(&mut place, b"row:2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
        assert!(
            place
                .windows(8)
                .all(|part| !SECRET.windows(8).any(|secret| secret == part))
        );

        let error = wrapper.decrypt_encoded(&stored, b"row:2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_and_any_cut_is_refused_in_every_way() {
    let wrapper = wrapper().await;
    let stored = wrapper.encrypt_to_vec(b"secret", AAD).unwrap();
    let flipped = (0..stored.len() * 8).map(|bit| {
        let mut flipped = stored.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    let cut = (0..stored.len()).map(|length| stored[..length].to_vec());
    for bad in flipped.chain(cut) {
        let kind = wrapper.decrypt_encoded(&bad, AAD).unwrap_err().kind();
        let by_blob = Blob::decode(&bad).and_then(|blob| wrapper.decrypt(&blob, AAD));
        assert_eq!(kind, by_blob.unwrap_err().kind(), "{bad:?}");
        let mut buffer = SecretBytes::default();
        assert!(wrapper.decrypt_into(&bad, AAD, &mut buffer).is_err());
        assert!(wrapper.decrypt_in_place(&mut bad.clone(), AAD).is_err());
    }
}
