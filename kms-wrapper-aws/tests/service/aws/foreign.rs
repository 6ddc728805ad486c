//! Blobs of keys that the wrapper was not configured with.

use std::error::Error as _;

use aws_sdk_kms::primitives::Blob as Bytes;
use kms_core::{Blob, ENVELOPE_MECHANISM, ErrorKind, Ownership, Wrapper as _};
use kms_wrapper_aws::{AwsKmsMode, ServiceError};

use super::support::{Service, unique};

#[tokio::test]
async fn invariant_11_a_blob_of_another_key_that_the_same_credentials_may_use_does_not_open() {
    let Some(service) = Service::shared() else {
        return;
    };
    let (own, foreign) = (service.key().await, service.key().await);
    let alias = format!("alias/{}", unique("own"));
    service.alias(&alias, &own).await;
    let (_, id) = own.split_once("key/").unwrap();
    for mode in [AwsKmsMode::Envelope, AwsKmsMode::Direct] {
        let stranger = service.builder(&foreign).mode(mode).build().unwrap();
        let blob = stranger.encrypt(b"forged", b"").await.unwrap();
        assert_credentials_may_decrypt(&service, &blob).await;
        for name in [own.as_str(), id, &alias] {
            let wrapper = service.builder(name).mode(mode).build().unwrap();
            assert_ne!(wrapper.owns(&blob), Ownership::Yes);
            let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ForeignRootKey, "{error}");
            assert_eq!(error.operation(), Some("decrypt"));
            assert_eq!(error.context("root_key_id"), Some(&*foreign));
            let configured = error.context("configured_key_id").unwrap();
            assert!([own.as_str(), id].contains(&configured), "{error}");
            assert_incorrect_key(error.source().unwrap().source());
            for blob in [renamed(&blob, &own), renamed(&blob, "")] {
                let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error}");
                assert_eq!(error.operation(), Some("decrypt"));
                assert_incorrect_key(error.source());
            }
        }
    }
}

fn assert_incorrect_key(told: Option<&(dyn std::error::Error + 'static)>) {
    let told = told.unwrap().downcast_ref::<ServiceError>();
    assert_eq!(told.unwrap().code(), Some("IncorrectKeyException"));
}

/// The service finds the key by itself in a request that names none, and the credentials may use it.
async fn assert_credentials_may_decrypt(service: &Service, blob: &Blob) {
    let ciphertext = if blob.mechanism() == ENVELOPE_MECHANISM {
        blob.wrapped_key()
    } else {
        blob.ciphertext()
    };
    let request = service.client.decrypt();
    let request = request.ciphertext_blob(Bytes::new(ciphertext));
    request.send().await.unwrap();
}

fn renamed(blob: &Blob, key_id: &str) -> Blob {
    Blob::new(blob.ciphertext().to_vec(), key_id)
        .with_iv(blob.iv())
        .with_wrapped_key(blob.mechanism(), blob.wrapped_key().to_vec())
}
