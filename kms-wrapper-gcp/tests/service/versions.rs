//! Versions within one key, and blobs that name no key at all.

use data_encoding::BASE64;
use kms_core::{Blob, ErrorKind, Ownership, Wrapper as _};
use kms_wrapper_gcp::CloudKmsMode;
use serde_json::json;

use crate::support::{MODES, Own, builder};

#[tokio::test]
async fn the_version_that_made_a_blob_and_the_one_that_encrypts_now_are_told() {
    for mode in MODES {
        let own = Own::start(mode).await;
        assert_eq!(own.wrapper.newest_version_seen(), None);
        let old = own.wrapper.encrypt(b"x", b"").await.unwrap();
        assert_eq!(own.wrapper.newest_version_seen(), Some(1));
        own.client().rotate(&own.key).await;
        own.wrapper.preflight().await.unwrap();
        assert_eq!(own.wrapper.newest_version_seen(), Some(2));
        let new = own.wrapper.encrypt(b"x", b"").await.unwrap();
        let versions = [&old, &new].map(|blob| own.wrapper.version_named_by(blob));
        assert_eq!(versions, [Some(1), Some(2)]);
        let foreign = format!("{}2/cryptoKeyVersions/1", own.key);
        for id in ["", &own.key, &foreign, &own.version(1).replace("/1", "/x")] {
            let blob = Blob::new(vec![1; 40], id);
            assert_eq!(own.wrapper.version_named_by(&blob), None, "{id}");
        }
    }
}

/// As early versions of Go's wrapper made them in direct mode, without aad.
#[tokio::test]
async fn a_direct_blob_that_names_no_key_opens_if_the_configured_key_made_it() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let other = own.client().create_key().await;
    let made_by = async |key: &str| {
        let path = format!("v1/{key}:encrypt");
        let body = json!({ "plaintext": BASE64.encode(b"plaintext") });
        let (_, answer) = own.client().request("POST", &path, &body).await;
        let ciphertext = BASE64.decode(answer["ciphertext"].as_str().unwrap().as_bytes());
        let read = Blob::decode(&Blob::new(ciphertext.unwrap(), "").encode()).unwrap();
        assert_eq!(own.wrapper.owns(&read), Ownership::Unknown);
        assert_eq!(own.wrapper.is_current(&read), Ownership::Unknown);
        read
    };
    let blob = made_by(&own.key).await;
    for mode in MODES {
        let wrapper = builder(own.fake.url(), &own.key).mode(mode).build();
        let back = wrapper.unwrap().decrypt(&blob, b"").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
    }
    let error = own.wrapper.decrypt(&made_by(&other).await, b"").await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::AuthenticationFailed);
    let envelope = Blob::new(vec![1; 40], "")
        .with_iv([1; 12])
        .with_wrapped_key(1, vec![1; 40]);
    assert_eq!(own.wrapper.owns(&envelope), Ownership::No);
    let error = own.wrapper.decrypt(&envelope, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
}
