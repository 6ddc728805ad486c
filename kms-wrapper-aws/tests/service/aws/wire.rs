//! The blobs are laid out as the format says, so that Go's wrapper reads them, and this one Go's.

use std::sync::Arc;

use aws_sdk_kms::primitives::Blob as Bytes;
use kms_core::{Aead as _, Blob, Envelope, ErrorKind, KeyBytes, Wrapper as _};
use kms_testkit::FaultyProxy;
use kms_wrapper_aead::AesGcm;
use kms_wrapper_aws::{AwsKmsMode, AwsKmsWrapper};

use super::support::{ACCESS_KEY, SECRET_KEY, Service, builder, patient};

const AAD: &[u8] = b"abc";

/// Standard base64 of SHA-256 of `abc`, from FIPS 180-2, appendix B.1.
const AAD_SHA256: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

/// Standard base64 of SHA-256 of `kms-fresh-key-v1` and SHA-256 of `abc`, by `sha256sum`.
const FRESH_KEY_AAD_SHA256: &str = "oBl8vSeW/95oD1boHDXOW7AWULaqjyuFUlJ5bMlYsZI=";

#[tokio::test]
async fn an_envelope_holds_a_fresh_key_that_the_service_bound_to_the_aad_if_there_is_one() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let wrapper = service.wrapper(&key);
    for (aad, mechanism) in [(AAD, 1001), (b"", 1)] {
        let blob = wrapper.encrypt(b"plaintext", aad).await.unwrap();
        assert_eq!((blob.mechanism(), blob.key_id()), (mechanism, &*key));
        assert_eq!((blob.iv().len(), blob.ciphertext().len()), (12, 9 + 16));
        let request = || {
            let request = service.client.decrypt().key_id(&key);
            request.ciphertext_blob(Bytes::new(blob.wrapped_key()))
        };
        let bound = if aad.is_empty() {
            request()
        } else {
            request().send().await.unwrap_err();
            request().encryption_context("aad-sha256", FRESH_KEY_AAD_SHA256)
        };
        let fresh = bound.send().await.unwrap().plaintext.unwrap();
        let fresh = KeyBytes::from_slice(fresh.as_ref()).unwrap();
        let back = Envelope::new(Arc::new(AesGcm)).open(&blob, &fresh, aad);
        assert_eq!(back.unwrap().expose(), b"plaintext");
    }
}

#[tokio::test]
async fn a_fresh_key_that_somebody_learned_wraps_nothing_in_another_row() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let wrapper = service.wrapper(&key);
    let blob = wrapper.encrypt(b"plaintext", AAD).await.unwrap();
    let request = service.client.decrypt().key_id(&key);
    let request = request.ciphertext_blob(Bytes::new(blob.wrapped_key()));
    let request = request.encryption_context("aad-sha256", FRESH_KEY_AAD_SHA256);
    let learned = request.send().await.unwrap().plaintext.unwrap();
    let learned = KeyBytes::from_slice(learned.as_ref()).unwrap();
    let mut forged = b"forged".to_vec();
    let tag = AesGcm.prepare(&learned);
    let tag = tag.seal_in_place(&[7; 12], b"another row", &mut forged);
    forged.extend_from_slice(&tag.unwrap());
    for mechanism in [1001, 1] {
        let forged = Blob::new(forged.clone(), &*key)
            .with_iv([7; 12])
            .with_wrapped_key(mechanism, blob.wrapped_key().to_vec());
        let error = wrapper.decrypt(&forged, b"another row").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error}");
    }
    // Nor is it a plaintext of direct mode, in its own row.
    let direct = Blob::new(blob.wrapped_key().to_vec(), &*key);
    let error = wrapper.decrypt(&direct, AAD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error}");
}

#[tokio::test]
async fn an_envelope_of_go_with_aad_opens() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let sealed = Envelope::new(Arc::new(AesGcm)).seal(b"plaintext", AAD);
    let sealed = sealed.unwrap();
    let request = service.client.encrypt().key_id(&key);
    let request = request.plaintext(Bytes::new(sealed.key().expose()));
    let wrapped = request.send().await.unwrap().ciphertext_blob.unwrap();
    let blob = sealed.into_blob(&*key, wrapped.into_inner());
    let back = service.wrapper(&key).decrypt(&blob, AAD).await.unwrap();
    assert_eq!(back.expose(), b"plaintext");
}

#[tokio::test]
async fn a_direct_blob_is_the_services_ciphertext_with_the_hash_of_the_aad_as_context() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let wrapper = service.builder(&key).mode(AwsKmsMode::Direct);
    let wrapper = wrapper.build().unwrap();
    for aad in [AAD, b""] {
        let blob = wrapper.encrypt(b"plaintext", aad).await.unwrap();
        assert_eq!((blob.mechanism(), blob.key_id()), (0, &*key));
        assert!(blob.iv().is_empty() && blob.wrapped_key().is_empty());
        let mut request = service.client.decrypt().key_id(&key);
        if !aad.is_empty() {
            request = request.encryption_context("aad-sha256", AAD_SHA256);
        }
        let request = request.ciphertext_blob(Bytes::new(blob.ciphertext()));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.plaintext.unwrap().as_ref(), b"plaintext");
    }
}

#[tokio::test]
async fn either_mode_opens_what_the_other_made() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let wrapper = |mode| service.builder(&key).mode(mode).build().unwrap();
    let (envelope, direct) = (wrapper(AwsKmsMode::Envelope), wrapper(AwsKmsMode::Direct));
    for (one, other) in [(&envelope, &direct), (&direct, &envelope)] {
        let blob = one.encrypt(b"plaintext", AAD).await.unwrap();
        let back = other.decrypt(&blob, AAD).await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
    }
}

#[tokio::test]
async fn direct_mode_needs_no_aead_but_for_blobs_of_envelope_mode() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let wrapper = AwsKmsWrapper::builder(&key)
        .endpoint(&service.endpoint)
        .credentials(ACCESS_KEY, SECRET_KEY)
        .limits(patient())
        .mode(AwsKmsMode::Direct)
        .build()
        .unwrap();
    wrapper.preflight().await.unwrap();
    let envelope = service.wrapper(&key).encrypt(b"x", b"").await.unwrap();
    let error = wrapper.decrypt(&envelope, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
}

#[tokio::test]
async fn a_blob_of_an_impossible_shape_and_a_plaintext_of_an_impossible_length_are_not_sent() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let proxy = FaultyProxy::start(&service.endpoint);
    let wrapper = builder(&proxy.url(), &key)
        .mode(AwsKmsMode::Direct)
        .build()
        .unwrap();
    let envelope = |ciphertext: usize, iv: usize, wrapped: usize| {
        Blob::new(vec![1; ciphertext], &*key)
            .with_iv(vec![1; iv])
            .with_wrapped_key(1, vec![1; wrapped])
    };
    let direct = |length: usize| Blob::new(vec![1; length], &*key);
    for blob in [
        envelope(15, 12, 100),
        envelope(40, 11, 100),
        envelope(40, 0, 100),
        envelope(40, 12, 0),
        envelope(40, 12, 6145),
        direct(0),
        direct(6145),
        direct(40).with_iv([1; 12]),
        direct(40).with_wrapped_key(0, vec![1; 100]),
        direct(40).with_wrapped_key(2, Vec::new()),
    ] {
        let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBlob, "{blob:?}");
    }
    for length in [0, 4097] {
        let error = wrapper.encrypt(&vec![1; length], b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBlob, "{length}");
    }
    assert_eq!(proxy.requests(), 0);
}

#[tokio::test]
async fn a_wrapped_key_that_is_not_32_bytes_does_not_open() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let request = service.client.encrypt().key_id(&key);
    let short = request.plaintext(Bytes::new([7; 31])).send().await.unwrap();
    let blob = Blob::new(vec![1; 40], &*key)
        .with_iv([1; 12])
        .with_wrapped_key(1, short.ciphertext_blob.unwrap().into_inner());
    let error = service.wrapper(&key).decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidBlob);
}
