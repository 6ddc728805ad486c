//! What a blob is, and whose.

use std::sync::Arc;

use data_encoding::BASE64;
use kms_core::{Blob, ErrorKind, Ownership, PooledWrapper, Wrapper};
use kms_wrapper_vault::Auth;
use serde_json::json;

use super::fixture::{Key, NAME};

#[tokio::test]
async fn a_blob_is_the_service_s_string_under_the_version_s_id() {
    let Some(key) = Key::new().await else { return };
    let wrapper = key.wrapper();
    assert_eq!((wrapper.kind(), wrapper.key_id()), ("transit", None));
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    assert!(blob.ciphertext().starts_with(b"vault:v1:"));
    assert_eq!(blob.key_id(), "v1");
    assert_eq!(wrapper.key_id().as_deref(), Some("v1"));
    assert_eq!(
        (blob.mechanism(), blob.iv(), blob.wrapped_key()),
        (0, &[][..], &[][..])
    );
}

#[tokio::test]
async fn after_a_rotation_the_newest_version_encrypts_and_the_older_ones_decrypt() {
    let Some(key) = Key::new().await else { return };
    let builder = key.builder().auth(Auth::token(key.vault.token()));
    let wrapper = builder.key_id_prefix("root-").build().unwrap();
    let old = wrapper.encrypt(b"old", b"aad").await.unwrap();
    key.rotate().await;
    let new = wrapper.encrypt(b"new", b"aad").await.unwrap();
    assert_eq!((old.key_id(), new.key_id()), ("root-v1", "root-v2"));
    assert_eq!(wrapper.key_id().as_deref(), Some("root-v2"));
    assert_eq!(
        wrapper.decrypt(&old, b"aad").await.unwrap().expose(),
        b"old"
    );
    assert_eq!(
        wrapper.decrypt(&new, b"aad").await.unwrap().expose(),
        b"new"
    );
    assert_eq!(wrapper.owns(&old), Ownership::Yes);
    assert_eq!(wrapper.is_current(&old), Ownership::Yes);
}

#[tokio::test]
async fn what_go_wrote_opens_without_an_aad_and_not_with_one() {
    let Some(key) = Key::new().await else { return };
    // As Go's wrapper does it: no associated data, and the version of the ciphertext as key id.
    let path = format!("{}/encrypt/{NAME}", key.mount);
    let written = key
        .vault
        .write(&path, json!({ "plaintext": BASE64.encode(b"from Go") }))
        .await;
    let ciphertext = written["data"]["ciphertext"].as_str().unwrap();
    let blob = Blob::new(ciphertext.as_bytes().to_vec(), "v1");
    let wrapper = key.wrapper();
    assert_eq!(
        wrapper.decrypt(&blob, b"").await.unwrap().expose(),
        b"from Go"
    );
    let error = wrapper.decrypt(&blob, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
}

#[tokio::test]
async fn the_version_in_the_key_id_and_in_the_ciphertext_must_be_the_same() {
    let Some(key) = Key::new().await else { return };
    key.rotate().await;
    let wrapper = key.wrapper();
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    for id in ["v1", "v02", "", "v2 ", "root-v2"] {
        let renamed = Blob::new(blob.ciphertext().to_vec(), id);
        let error = wrapper.decrypt(&renamed, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBlob, "{id:?}");
    }
}

#[tokio::test]
async fn parts_that_transit_does_not_make_are_refused() {
    let Some(key) = Key::new().await else { return };
    let wrapper = key.wrapper();
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    for altered in [
        blob.clone().with_iv([1]),
        blob.clone().with_wrapped_key(0, vec![1]),
        blob.with_wrapped_key(1, vec![]),
    ] {
        let error = wrapper.decrypt(&altered, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBlob);
    }
}

#[tokio::test]
async fn ownership_is_exact_with_a_prefix_and_a_guess_without() {
    let Some(key) = Key::new().await else { return };
    let builder = key.builder().auth(Auth::token("unused"));
    let prefixed = builder.clone().key_id_prefix("a-").build().unwrap();
    let plain = builder.build().unwrap();
    for (id, of_prefixed, of_plain) in [
        ("a-v1", Ownership::Yes, Ownership::No),
        ("a-v4294967295", Ownership::Yes, Ownership::No),
        ("v1", Ownership::No, Ownership::Unknown),
        ("v12", Ownership::No, Ownership::Unknown),
        ("b-v1", Ownership::No, Ownership::No),
        ("a-", Ownership::No, Ownership::No),
        ("a-v0", Ownership::No, Ownership::No),
        ("a-v1x", Ownership::No, Ownership::No),
        ("a-a-v1", Ownership::No, Ownership::No),
        ("v", Ownership::No, Ownership::No),
        ("", Ownership::No, Ownership::No),
        (
            "arn:aws:kms:eu-west-1:1:key/v1",
            Ownership::No,
            Ownership::No,
        ),
    ] {
        let blob = Blob::new(vec![1], id);
        assert_eq!(prefixed.owns(&blob), of_prefixed, "{id}");
        assert_eq!(plain.owns(&blob), of_plain, "{id}");
    }
}

#[tokio::test]
async fn blobs_of_two_keys_without_prefix_find_theirs_in_a_pool() {
    let Some(old) = Key::new().await else { return };
    let new = Key::on(&old.vault).await;
    let (old, new) = (old.wrapper(), new.wrapper());
    let blob = old.encrypt(b"plaintext", b"aad").await.unwrap();
    new.encrypt(b"so that it knows its id", b"").await.unwrap();
    let pool = PooledWrapper::new(Arc::new(new))
        .with_decrypting(Arc::new(old))
        .unwrap();
    let back = pool.decrypt(&blob, b"aad").await.unwrap();
    assert_eq!(back.expose(), b"plaintext");
}

#[tokio::test]
async fn a_blob_tells_the_version_that_made_it_and_the_service_the_newest() {
    let Some(key) = Key::new().await else { return };
    let token = key.token(&["encrypt"], serde_json::json!({})).await;
    let builder = key.builder().key_id_prefix("main-");
    let wrapper = builder.auth(Auth::token(token)).build().unwrap();
    assert_eq!(wrapper.newest_version_seen(), None);
    let old = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    key.rotate().await;
    assert_eq!(wrapper.newest_version_seen(), Some(1));
    assert_eq!(wrapper.newest_version().await.unwrap(), 2);
    assert_eq!(wrapper.newest_version_seen(), Some(2));
    assert_eq!(wrapper.version_named_by(&old), Some(1));
    let new = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    assert_eq!(wrapper.version_named_by(&new), Some(2));
    let foreign = key.wrapper().encrypt(b"plaintext", b"").await.unwrap();
    assert_eq!(wrapper.version_named_by(&foreign), None, "it has no prefix");
}
