//! Ordinary use, against a service in another process.

use std::sync::Arc;
use std::time::Duration;

use kms_core::service::BOUND_ENVELOPE_MECHANISM;
use kms_core::{Blob, ENVELOPE_MECHANISM, ErrorKind, NONCE_LEN, Ownership, TAG_LEN, Wrapper as _};
use kms_testkit::fake_cloud_kms::FakeCloudKmsClient;
use kms_testkit::service::variable;
use kms_testkit::wrapper::Subject;
use kms_wrapper_gcp::{CloudKmsMode, CloudKmsWrapper};

use crate::support::{MODES, bound, builder, patient};

mod envelope {
    kms_testkit::wrapper_suite!(match super::subject(super::CloudKmsMode::Envelope).await {
        Some(subject) => subject,
        None => return,
    });
}

mod direct {
    kms_testkit::wrapper_suite!(match super::subject(super::CloudKmsMode::Direct).await {
        Some(subject) => subject.with_limit(64 * 1024),
        None => return,
    });
}

fn service() -> Option<FakeCloudKmsClient> {
    variable("gcp", "KMS_TEST_GCP_ENDPOINT").map(|url| FakeCloudKmsClient::new(&url))
}

fn wrapper(service: &FakeCloudKmsClient, key: &str, mode: CloudKmsMode) -> Arc<CloudKmsWrapper> {
    Arc::new(builder(service.url(), key).mode(mode).build().unwrap())
}

async fn subject(mode: CloudKmsMode) -> Option<Subject> {
    let service = service()?;
    let (own, stranger) = (service.create_key().await, service.create_key().await);
    let new = |key: &str| wrapper(&service, key, mode);
    let hurried = patient()
        .with_attempts(2)
        .with_attempt_timeout(Duration::from_millis(300));
    let subject = Subject::new(new(&own), new(&stranger)).with_dead_ends(|endpoint| {
        let builder = builder(endpoint, &own).mode(mode).limits(hurried);
        Arc::new(builder.build().unwrap())
    });
    Some(subject)
}

#[tokio::test]
async fn its_kind_is_that_of_gos_wrapper_and_its_key_id_what_the_service_told() {
    let Some(service) = service() else {
        return;
    };
    let key = service.create_key().await;
    for mode in MODES {
        let wrapper = wrapper(&service, &key, mode);
        assert_eq!(wrapper.kind(), "gcpckms");
        assert_eq!(wrapper.key_id(), None);
        let blob = wrapper.encrypt(b"x", b"").await.unwrap();
        let version = format!("{key}/cryptoKeyVersions/1");
        assert_eq!(blob.key_id(), version);
        assert_eq!(wrapper.key_id(), Some(version));
    }
}

#[tokio::test]
async fn blobs_have_the_layout_of_the_format() {
    let Some(service) = service() else {
        return;
    };
    let key = service.create_key().await;
    for (aad, mechanism) in [
        (&b""[..], ENVELOPE_MECHANISM),
        (b"aad", BOUND_ENVELOPE_MECHANISM),
    ] {
        let blob = wrapper(&service, &key, CloudKmsMode::Envelope)
            .encrypt(b"plaintext", aad)
            .await
            .unwrap();
        assert_eq!(blob.mechanism(), mechanism);
        assert_eq!(blob.ciphertext().len(), 9 + TAG_LEN);
        assert_eq!(blob.iv().len(), NONCE_LEN);
        assert!(blob.wrapped_key().len() > 32);
    }

    let blob = wrapper(&service, &key, CloudKmsMode::Direct)
        .encrypt(b"plaintext", b"aad")
        .await
        .unwrap();
    assert_eq!(blob.mechanism(), 0);
    assert!(blob.iv().is_empty() && blob.wrapped_key().is_empty());
}

#[tokio::test]
async fn the_service_opens_the_parts_that_are_its_own() {
    let Some(service) = service() else {
        return;
    };
    let key = service.create_key().await;
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let decrypt = async |ciphertext: &[u8], aad: &[u8]| {
        let body = serde_json::json!({
            "ciphertext": base64(ciphertext),
            "additionalAuthenticatedData": base64(aad),
        });
        service
            .request("POST", &format!("v1/{key}:decrypt"), &body)
            .await
    };
    // The fresh key of an envelope is wrapped with the aad, if there is any, and otherwise as Go's wrapper does it.
    let envelope = wrapper(&service, &key, CloudKmsMode::Envelope);
    for (aad, bound) in [(&b""[..], Vec::new()), (b"aad", bound(b"aad"))] {
        let blob = envelope.encrypt(b"plaintext", aad).await.unwrap();
        let (code, answer) = decrypt(blob.wrapped_key(), &bound).await;
        assert_eq!(code, 200);
        assert_eq!(answer["plaintext"].as_str().unwrap().len(), 44);
        let opens_without = decrypt(blob.wrapped_key(), b"").await.0 == 200;
        assert_eq!(opens_without, aad.is_empty());
    }
    // The aad of direct mode is the service's own.
    let direct = wrapper(&service, &key, CloudKmsMode::Direct);
    let blob = direct.encrypt(b"plaintext", b"aad").await.unwrap();
    assert_eq!(decrypt(blob.ciphertext(), b"").await.0, 400);
    let (_, answer) = decrypt(blob.ciphertext(), b"aad").await;
    assert_eq!(answer["plaintext"], base64(b"plaintext"));
}

#[tokio::test]
async fn a_wrapper_opens_what_the_other_mode_made() {
    let Some(service) = service() else {
        return;
    };
    let key = service.create_key().await;
    let [envelope, direct] = MODES.map(|mode| wrapper(&service, &key, mode));
    for (maker, opener) in [(&envelope, &direct), (&direct, &envelope)] {
        let blob = maker.encrypt(b"plaintext", b"aad").await.unwrap();
        assert_eq!(opener.owns(&blob), Ownership::Yes);
        let back = opener.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
    }
    let without_aead = CloudKmsWrapper::builder(&key)
        .endpoint(service.url())
        .anonymous()
        .mode(CloudKmsMode::Direct)
        .build()
        .unwrap();
    let blob = envelope.encrypt(b"plaintext", b"").await.unwrap();
    let error = without_aead.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
}

#[tokio::test]
async fn rotating_the_primary_keeps_what_older_versions_encrypted_readable_and_its_own() {
    let Some(service) = service() else {
        return;
    };
    for mode in MODES {
        let key = service.create_key().await;
        let wrapper = wrapper(&service, &key, mode);
        let old = wrapper.encrypt(b"old", b"").await.unwrap();
        let version = service.rotate(&key).await;
        let new = wrapper.encrypt(b"new", b"").await.unwrap();
        assert_eq!(new.key_id(), version);
        assert_eq!(wrapper.key_id(), Some(version));
        assert_ne!(old.key_id(), new.key_id());
        for (blob, plaintext) in [(&old, b"old"), (&new, b"new")] {
            let back = wrapper.decrypt(blob, b"").await.unwrap();
            assert_eq!(back.expose(), plaintext);
            assert_eq!(wrapper.owns(blob), Ownership::Yes);
            assert_eq!(wrapper.is_current(blob), Ownership::Yes);
        }
    }
}

/// Both keys are there for the same caller: only the wrapper keeps it from opening the other's.
#[tokio::test]
async fn it_asks_with_its_own_key_whatever_the_blob_names() {
    let Some(service) = service() else {
        return;
    };
    for mode in MODES {
        let (own, other) = (service.create_key().await, service.create_key().await);
        let own = wrapper(&service, &own, mode);
        let foreign = wrapper(&service, &other, mode)
            .encrypt(b"x", b"")
            .await
            .unwrap();
        assert_eq!(own.owns(&foreign), Ownership::No);
        let error = own.decrypt(&foreign, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
        assert_eq!(error.context("root_key_id"), Some(foreign.key_id()));
        let ours = own.encrypt(b"x", b"").await.unwrap();
        let disguised = Blob::new(foreign.ciphertext().to_vec(), ours.key_id())
            .with_iv(foreign.iv())
            .with_wrapped_key(foreign.mechanism(), foreign.wrapped_key().to_vec());
        let error = own.decrypt(&disguised, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    }
}

#[tokio::test]
async fn a_blob_of_another_shape_is_refused_and_one_of_another_key_is_not_claimed() {
    let Some(service) = service() else {
        return;
    };
    let key = service.create_key().await;
    let wrapper = wrapper(&service, &key, CloudKmsMode::Envelope);
    let version = format!("{key}/cryptoKeyVersions/1");
    let shapes = [
        Blob::new(vec![1; 40], &version).with_wrapped_key(2, vec![1; 40]),
        Blob::new(vec![1; 40], &version).with_wrapped_key(1, vec![1; 40]),
        Blob::new(vec![1; 40], &version).with_iv([1; 12]),
        Blob::new(vec![1; 15], &version)
            .with_iv([1; 12])
            .with_wrapped_key(1, vec![1; 40]),
        Blob::new(vec![1; 40], &version)
            .with_iv([1; 12])
            .with_wrapped_key(1, vec![]),
    ];
    for blob in shapes {
        let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBlob, "{blob:?}");
    }
    for id in ["own", &key, &format!("{key}2/cryptoKeyVersions/1")] {
        let blob = Blob::new(vec![1; 40], id);
        assert_eq!(wrapper.owns(&blob), Ownership::No, "{id}");
    }
}

#[tokio::test]
async fn a_wrapped_key_of_another_length_is_refused() {
    let Some(service) = service() else {
        return;
    };
    let key = service.create_key().await;
    let short = wrapper(&service, &key, CloudKmsMode::Direct)
        .encrypt(b"not 32 bytes", b"")
        .await
        .unwrap();
    let forged = Blob::new(vec![1; 40], short.key_id())
        .with_iv([1; 12])
        .with_wrapped_key(1, short.ciphertext().to_vec());
    let error = wrapper(&service, &key, CloudKmsMode::Envelope)
        .decrypt(&forged, b"")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidBlob);
}
