//! Answers that are damaged, incomplete or about something else: none is used.

use kms_core::{Blob, ErrorKind, Wrapper as _};
use kms_testkit::fake_cloud_kms::{CloudKmsFault, CloudKmsMethod};
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_gcp::CloudKmsMode;

use crate::support::{Listener, MODES, Own, assert_works, builder};

#[tokio::test]
async fn a_flipped_bit_is_noticed_by_its_checksum_in_both_directions() {
    for mode in MODES {
        let own = Own::start(mode).await;
        let blob = own.wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
        own.client().inject(CloudKmsFault::flipped_bit()).await;
        let errors = [
            own.wrapper.encrypt(b"plaintext", b"aad").await.unwrap_err(),
            own.wrapper.decrypt(&blob, b"aad").await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::DamagedResponse, "{error:?}");
            assert!(error.is_retryable());
        }
        own.client().clear_faults().await;
        assert_works(&*own.wrapper).await;
    }
}

#[tokio::test]
async fn a_damaged_answer_is_asked_for_once_more() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let client = own.client();
    for fault in [
        CloudKmsFault::flipped_bit(),
        CloudKmsFault::another_key(),
        CloudKmsFault::checksum_ignored(),
        CloudKmsFault::not_json(),
    ] {
        client.forget_calls().await;
        client.inject(fault.clone().times(1)).await;
        own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
        assert_eq!(client.calls(CloudKmsMethod::Encrypt).await, 2, "{fault:?}");
        client.inject(fault.clone().times(2)).await;
        let error = own.wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DamagedResponse, "{fault:?}");
        assert_eq!(client.calls(CloudKmsMethod::Encrypt).await, 4, "{fault:?}");
    }
}

#[tokio::test]
async fn an_encryption_by_another_key_is_not_used() {
    for mode in MODES {
        let own = Own::start(mode).await;
        own.client().inject(CloudKmsFault::another_key()).await;
        let error = own.wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DamagedResponse);
        assert!(error.context("answered_key_id").is_some());
        assert_eq!(own.wrapper.key_id(), None);
    }
}

/// The service's answer does not say what it decrypted, so this one has no outer sign of damage.
#[tokio::test]
async fn the_answer_to_another_decryption_does_not_open_an_envelope() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let blob = own.wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    own.client().inject(CloudKmsFault::another_key()).await;
    let error = own.wrapper.decrypt(&blob, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
}

#[tokio::test]
async fn the_services_word_that_it_verified_the_checksums_is_needed() {
    let own = Own::start(CloudKmsMode::Direct).await;
    own.client().inject(CloudKmsFault::checksum_ignored()).await;
    let error = own.wrapper.encrypt(b"plaintext", b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DamagedResponse);
}

/// Each field of the answers, taken away or changed on the way.
#[tokio::test]
async fn an_answer_without_one_of_its_fields_is_not_used() {
    let own = Own::start(CloudKmsMode::Direct).await;
    let blob = own.wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    let proxy = FaultyProxy::start(own.fake.url());
    let wrapper = builder(&proxy.url(), &own.key)
        .mode(CloudKmsMode::Direct)
        .build()
        .unwrap();
    let change = |field: &'static str, value: Option<&'static str>| {
        NetworkFault::alter(move |body| {
            let mut json: serde_json::Value = serde_json::from_slice(body).unwrap();
            let fields = json.as_object_mut().unwrap();
            match value {
                None => fields.remove(field),
                Some(value) => fields.insert(field.to_owned(), value.into()),
            };
            *body = json.to_string().into_bytes();
        })
    };
    for (field, value) in [
        ("name", None),
        ("name", Some("")),
        (
            "name",
            Some("projects/p/locations/l/keyRings/r/cryptoKeys/k"),
        ),
        ("ciphertext", None),
        ("ciphertext", Some("")),
        ("ciphertext", Some("?")),
        ("ciphertextCrc32c", None),
        ("ciphertextCrc32c", Some("-1")),
        ("verifiedPlaintextCrc32c", None),
        ("verifiedAdditionalAuthenticatedDataCrc32c", None),
    ] {
        proxy.fail(change(field, value));
        let error = wrapper.encrypt(b"plaintext", b"aad").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DamagedResponse, "{field}");
        proxy.clear();
    }
    for (field, value) in [
        ("plaintext", None),
        ("plaintext", Some("b3RoZXI=")),
        ("plaintextCrc32c", None),
        ("plaintextCrc32c", Some("x")),
    ] {
        proxy.fail(change(field, value));
        let error = wrapper.decrypt(&blob, b"aad").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DamagedResponse, "{field}");
        proxy.clear();
    }
    assert_works(&wrapper).await;
}

/// The service leaves an empty plaintext out of its answer; that is no plaintext lost on the way.
#[tokio::test]
async fn an_answer_whose_plaintext_was_lost_is_not_an_empty_one() {
    let own = Own::start(CloudKmsMode::Direct).await;
    let empty = own.wrapper.encrypt(b"", b"").await.unwrap();
    let back = own.wrapper.decrypt(&empty, b"").await.unwrap();
    assert!(back.is_empty());
}

/// Decimal strings, as protobuf's JSON has integers of 64 bits. CRC32C of "123456789" is a published check value.
#[tokio::test]
async fn a_request_carries_the_checksums_of_all_that_it_sends() {
    const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
    const DATA: &[u8] = b"123456789";
    const CHECKSUM: &str = "3808858755"; // 0xe3069283
    let wrapper = |listener: &Listener| {
        let endpoint = format!("http://{}", listener.address);
        let builder = builder(&endpoint, KEY).mode(CloudKmsMode::Direct);
        builder.build().unwrap()
    };
    let encoded = data_encoding::BASE64.encode(DATA);
    for aad in [DATA, b""] {
        let listener = Listener::start();
        wrapper(&listener).encrypt(DATA, aad).await.unwrap_err();
        let (head, body) = listener.request();
        assert!(head.starts_with(&format!("POST /v1/{KEY}:encrypt?alt=json HTTP/1.1")));
        assert_eq!(body["plaintext"], encoded);
        assert_eq!(body["plaintextCrc32c"], CHECKSUM);
        let checksum = if aad.is_empty() { "0" } else { CHECKSUM };
        assert_eq!(body["additionalAuthenticatedDataCrc32c"], checksum);

        let listener = Listener::start();
        let blob = Blob::new(DATA.to_vec(), format!("{KEY}/cryptoKeyVersions/1"));
        wrapper(&listener).decrypt(&blob, aad).await.unwrap_err();
        let (head, body) = listener.request();
        assert!(head.starts_with(&format!("POST /v1/{KEY}:decrypt?alt=json HTTP/1.1")));
        assert_eq!(body["ciphertext"], encoded);
        assert_eq!(body["ciphertextCrc32c"], CHECKSUM);
        assert_eq!(body["additionalAuthenticatedDataCrc32c"], checksum);
    }
}
