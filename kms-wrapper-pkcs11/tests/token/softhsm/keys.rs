//! Which key a wrapper takes, and that it is never mistaken for another.

use std::sync::Arc;

use kms_core::{Aead as _, ErrorKind, KeyBytes, Ownership, PooledWrapper, Wrapper as _};
use kms_testkit::service::SoftHsm;
use kms_wrapper_aead::AesGcm;
use kms_wrapper_pkcs11::{Pkcs11Mode, Pkcs11Wrapper};

use super::support::{Key, builder};

#[tokio::test]
async fn another_key_under_the_same_label_and_id_is_not_mistaken_for_the_first() {
    let Some(token) = SoftHsm::shared() else {
        return;
    };
    let key = Key::on(&token);
    let before = builder(&token, &key).build().unwrap();
    let blob = before.encrypt(b"key", b"").await.unwrap();
    let first = before.key_id().unwrap();
    token.destroy_key(&key.label);
    token.create_key(&key.label, 1);

    // The wrapper that knew the first one uses no other.
    for error in [
        before.encrypt(b"key", b"").await.unwrap_err(),
        before.decrypt(&blob, b"").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{error}");
        assert_eq!(error.context("root_key_id"), Some(first.as_str()));
        assert_ne!(error.context("found_key_id"), Some(first.as_str()));
    }
    // One that did not says whose the blob is.
    let after = builder(&token, &key).build().unwrap();
    assert_eq!(after.owns(&blob), Ownership::Unknown);
    let error = after.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey, "{error}");
    assert_eq!(error.context("root_key_id"), Some(first.as_str()));
    let second = after.key_id();
    assert_eq!(error.context("configured_key_id"), second.as_deref());
    assert_eq!(after.owns(&blob), Ownership::No);
    assert_eq!(after.is_current(&blob), Ownership::No);
}

#[tokio::test]
async fn the_key_is_the_one_that_fits_label_and_id() {
    let Some(token) = SoftHsm::shared() else {
        return;
    };
    let key = Key::on(&token);
    token.create_key(&key.label, 2);
    let error = builder(&token, &key).build().unwrap().preflight().await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
    let named = async |id: u8| {
        let wrapper = builder(&token, &key).key_id([id]).build().unwrap();
        wrapper
            .preflight()
            .await
            .map(|()| wrapper.key_id().unwrap())
    };
    let (one, two) = (named(1).await.unwrap(), named(2).await.unwrap());
    assert!(
        one.contains(";id=%01;") && two.contains(";id=%02;"),
        "{one} {two}"
    );
    let error = named(3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{error}");
}

#[tokio::test]
async fn what_is_no_aes_key_or_may_not_encrypt_is_unsuitable() {
    let Some(token) = SoftHsm::shared() else {
        return;
    };
    token.create_data("data");
    token.create_key_for("unusable", 1, false);
    for label in ["data", "unusable"] {
        let key = Key {
            label: label.to_owned(),
        };
        for mode in [Pkcs11Mode::Direct, Pkcs11Mode::Envelope] {
            let wrapper = builder(&token, &key).mode(mode).build().unwrap();
            let error = wrapper.encrypt(b"key", b"").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsuitableRootKey, "{error}");
        }
    }
}

#[tokio::test]
async fn the_token_is_the_one_that_fits_all_that_is_given() {
    let Some(token) = SoftHsm::shared() else {
        return;
    };
    let key = Key::on(&token);
    let settings = || {
        Pkcs11Wrapper::builder()
            .module(token.module())
            .key_label(&key.label)
            .pin(token.pin())
    };
    let named = settings().token_label(token.token()).build().unwrap();
    named.preflight().await.unwrap();
    let id = named.key_id().unwrap();
    let serial = id.split(['=', ';']).nth(1).unwrap();
    let by_serial = settings()
        .token_serial(serial)
        .token_model("SoftHSM v2")
        .token_manufacturer("SoftHSM project");
    by_serial.build().unwrap().preflight().await.unwrap();

    for (settings, kind) in [
        (settings().token_label("nobody's"), ErrorKind::Unreachable),
        (
            settings().token_serial(serial).slot_id(987_654),
            ErrorKind::Unreachable,
        ),
        // All tokens of the process.
        (settings(), ErrorKind::InvalidConfiguration),
        (
            settings().module("/nowhere/hsm.so"),
            ErrorKind::InvalidConfiguration,
        ),
    ] {
        let limits = kms_core::CallLimits::default().with_attempts(1);
        let wrapper = settings.limits(limits).build().unwrap();
        let error = wrapper.preflight().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn a_blob_of_either_mode_opens_in_both_and_an_envelope_needs_an_aead() {
    let Some(token) = SoftHsm::shared() else {
        return;
    };
    let key = Key::on(&token);
    let wrapper = |mode| builder(&token, &key).mode(mode).build().unwrap();
    let modes = [Pkcs11Mode::Direct, Pkcs11Mode::Envelope];
    let [direct, envelope] = modes.map(wrapper);
    for (one, other) in [(&direct, &envelope), (&envelope, &direct)] {
        let blob = one.encrypt(b"key", b"aad").await.unwrap();
        let back = other.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), b"key");
        assert_eq!(other.owns(&blob), Ownership::Yes);
    }
    let blob = envelope.encrypt(b"key", b"aad").await.unwrap();
    let without = || {
        Pkcs11Wrapper::builder()
            .module(token.module())
            .token_label(token.token())
            .key_label(&key.label)
            .pin(token.pin())
    };
    let error = without().build().unwrap().decrypt(&blob, b"aad").await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    let error = without().mode(Pkcs11Mode::Envelope).build();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidConfiguration);
}

#[tokio::test]
async fn a_copy_of_the_key_on_another_token_opens_what_the_first_made() {
    let (Some(one), Some(two)) = (SoftHsm::own(), SoftHsm::own()) else {
        return;
    };
    let value = KeyBytes::generate().unwrap();
    let key = Key {
        label: "copied".to_owned(),
    };
    for token in [&one, &two] {
        token.import_key(&key.label, 7, value.expose());
    }
    let [one, two] = [one, two].map(|token| builder(&token, &key).build().unwrap());
    let blob = one.encrypt(b"key", b"aad").await.unwrap();
    two.preflight().await.unwrap();
    assert_ne!(one.key_id(), two.key_id());
    assert_eq!(two.owns(&blob), Ownership::Unknown);
    assert_eq!(two.decrypt(&blob, b"aad").await.unwrap().expose(), b"key");

    // What the token made is plain AES-256-GCM.
    let (ciphertext, tag) = blob.ciphertext().split_last_chunk().unwrap();
    let mut opened = ciphertext.to_vec();
    let nonce = blob.iv().try_into().unwrap();
    AesGcm
        .prepare(&value)
        .open_in_place(nonce, b"aad", &mut opened, tag)
        .unwrap();
    assert_eq!(opened, b"key");
}

#[tokio::test]
async fn a_pool_takes_two_keys_of_one_token() {
    let Some(token) = SoftHsm::shared() else {
        return;
    };
    let (old, new) = (Key::on(&token), Key::on(&token));
    let [old, new] = [&old, &new].map(|key| Arc::new(builder(&token, key).build().unwrap()));
    let blob = old.encrypt(b"key", b"").await.unwrap();
    let pool = PooledWrapper::new(new).with_decrypting(old).unwrap();
    assert_eq!(pool.decrypt(&blob, b"").await.unwrap().expose(), b"key");
    assert_ne!(pool.is_current(&blob), Ownership::Yes);
    pool.preflight().await.unwrap();
    assert_eq!(pool.is_current(&blob), Ownership::No);
}
