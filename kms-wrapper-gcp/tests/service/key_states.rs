//! Keys that are disabled, scheduled for destruction, destroyed, of another kind, or not there.

use std::error::Error as _;

use kms_core::{Error, ErrorKind, Wrapper as _};
use kms_wrapper_gcp::{CloudKmsMode, ServiceError};

use crate::support::{MODES, Own, assert_works, builder};

fn told(error: &Error) -> &ServiceError {
    error.source().unwrap().downcast_ref().unwrap()
}

fn assert_disabled(error: &Error, state: &str) {
    assert_eq!(error.kind(), ErrorKind::RootKeyDisabled, "{error:?}");
    assert!(!error.is_retryable());
    assert_eq!(told(error).status(), "FAILED_PRECONDITION");
    assert!(told(error).message().contains(state), "{}", told(error));
}

#[tokio::test]
async fn a_disabled_version_does_nothing_until_it_is_enabled() {
    for mode in MODES {
        let own = Own::start(mode).await;
        let blob = own.wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
        own.client().disable(&own.version(1)).await;
        for error in [
            own.wrapper.encrypt(b"x", b"").await.unwrap_err(),
            own.wrapper.decrypt(&blob, b"aad").await.unwrap_err(),
            own.wrapper.preflight().await.unwrap_err(),
        ] {
            assert_disabled(&error, "DISABLED");
        }
        own.client().enable(&own.version(1)).await;
        let back = own.wrapper.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
        assert_works(&*own.wrapper).await;
    }
}

#[tokio::test]
async fn a_version_scheduled_for_destruction_comes_back_when_it_is_restored_and_enabled() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let client = own.client();
    let blob = own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
    client.destroy(&own.version(1)).await;
    let error = own.wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_disabled(&error, "DESTROY_SCHEDULED");
    client.restore(&own.version(1)).await;
    let error = own.wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_disabled(&error, "DISABLED");
    client.enable(&own.version(1)).await;
    own.wrapper.decrypt(&blob, b"").await.unwrap();
}

#[tokio::test]
async fn a_destroyed_version_takes_what_it_encrypted_with_it_and_nothing_else() {
    let own = Own::start(CloudKmsMode::Direct).await;
    let client = own.client();
    let lost = own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
    client.rotate(&own.key).await;
    let kept = own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
    client.destroy(&own.version(1)).await;
    client.finish_destruction(&own.version(1)).await;
    let error = own.wrapper.decrypt(&lost, b"").await.unwrap_err();
    assert_disabled(&error, "DESTROYED");
    own.wrapper.decrypt(&kept, b"").await.unwrap();
    own.wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_not_there_is_unknown() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let missing = format!("{}-none", own.key);
    let wrapper = builder(own.fake.url(), &missing).build().unwrap();
    for error in [
        wrapper.encrypt(b"x", b"").await.unwrap_err(),
        wrapper.preflight().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnknownRootKey);
        assert!(!error.is_retryable());
        assert!(told(&error).message().contains(&missing));
    }
}

#[tokio::test]
async fn a_key_that_signs_is_unsuitable() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let key = own.client().create_signing_key().await;
    let wrapper = builder(own.fake.url(), &key).build().unwrap();
    for error in [
        wrapper.encrypt(b"x", b"").await.unwrap_err(),
        wrapper.preflight().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnsuitableRootKey);
        assert!(told(&error).message().contains("ASYMMETRIC_SIGN"));
    }
}

#[tokio::test]
async fn a_key_in_an_hsm_takes_any_plaintext_in_an_envelope_and_8_kib_directly() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let key = own
        .client()
        .create_key_as(&serde_json::json!({
            "purpose": "ENCRYPT_DECRYPT",
            "versionTemplate": { "protectionLevel": "HSM" },
        }))
        .await;
    let [envelope, direct] =
        MODES.map(|mode| builder(own.fake.url(), &key).mode(mode).build().unwrap());
    let long = vec![7; 9000];
    let blob = envelope.encrypt(&long, b"aad").await.unwrap();
    assert_eq!(
        envelope.decrypt(&blob, b"aad").await.unwrap().expose(),
        long
    );
    direct.encrypt(&long[..8000], b"aad").await.unwrap();
    let error = direct.encrypt(&long, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidBlob);
    assert!(error.to_string().contains("HSM"), "{error}");
}

#[tokio::test]
async fn more_than_the_service_takes_is_refused_without_asking_it() {
    let own = Own::start(CloudKmsMode::Direct).await;
    let (longest, longer) = (vec![7; 65_536], vec![7; 65_537]);
    own.wrapper.encrypt(&longest, &longest).await.unwrap();
    own.client().forget_calls().await;
    for (plaintext, aad) in [(&longer, &longest), (&longest, &longer)] {
        let error = own.wrapper.encrypt(plaintext, aad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBlob);
    }
    let method = kms_testkit::fake_cloud_kms::CloudKmsMethod::Encrypt;
    assert_eq!(own.client().calls(method).await, 0);
}
