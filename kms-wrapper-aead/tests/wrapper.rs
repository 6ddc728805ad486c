//! The root wrapper passes the suite, with each provider.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use kms_core::{Aead, Blob, ErrorKind, KeyBytes, Ownership, Wrapper as _};
use kms_testkit::wrapper::Subject;
use kms_wrapper_aead::{AeadWrapper, AeadWrapperBuilder, fastest};

mod with_aes_gcm {
    kms_testkit::wrapper_suite!(super::subject(&kms_wrapper_aead::AesGcm));
}

mod with_a_check_value_in_its_id {
    use std::sync::Arc;

    use kms_core::KeyBytes;
    use kms_testkit::wrapper::Subject;
    use kms_wrapper_aead::AeadWrapper;

    /// Both have one name.
    fn named(key: [u8; 32]) -> Arc<AeadWrapper> {
        let key = KeyBytes::from_slice(&key).unwrap();
        Arc::new(AeadWrapper::named("root").key(key).build().unwrap())
    }

    kms_testkit::wrapper_suite!(
        Subject::new(named([0xa1; 32]), named([0xb2; 32])).with_secret([0xa1; 32])
    );
}

#[cfg(feature = "ring")]
mod with_ring {
    kms_testkit::wrapper_suite!(super::subject(&kms_wrapper_aead::Ring));
}

#[cfg(feature = "aws-lc-rs")]
mod with_aws_lc_rs {
    kms_testkit::wrapper_suite!(super::subject(&kms_wrapper_aead::AwsLcRs));
}

fn subject(aead: &(impl Aead + Clone + 'static)) -> Subject {
    let key = KeyBytes::generate().unwrap();
    let secret = *key.expose();
    let wrapper = |id: &str, key| {
        AeadWrapper::builder(id)
            .key(key)
            .aead(Arc::new(aead.clone()))
            .build()
            .unwrap()
    };
    Subject::new(
        Arc::new(wrapper("own", key)),
        Arc::new(wrapper("stranger", KeyBytes::generate().unwrap())),
    )
    .with_secret(secret)
}

fn wrapper(id: &str) -> AeadWrapper {
    AeadWrapper::builder(id)
        .key(KeyBytes::generate().unwrap())
        .build()
        .unwrap()
}

#[test]
fn its_kind_is_aead_and_its_key_id_the_one_it_was_given() {
    let wrapper = wrapper("root-2026");
    assert_eq!(wrapper.kind(), "aead");
    assert_eq!(wrapper.key_id().as_deref(), Some("root-2026"));
}

#[test]
fn it_owns_exactly_the_blobs_of_its_id_and_cannot_tell_without_one() {
    let wrapper = wrapper("root-1");
    let owns = |id: &str| wrapper.owns(&Blob::new(vec![1; 40], id));
    assert_eq!(owns("root-1"), Ownership::Yes);
    assert_eq!(owns(""), Ownership::Unknown);
    for other in ["root-10", "root-", "root-2", "ROOT-1", " root-1"] {
        assert_eq!(owns(other), Ownership::No, "{other}");
    }
}

#[tokio::test]
async fn a_blob_without_key_id_or_under_another_one_opens_by_its_key() {
    let wrapper = wrapper("root-1");
    let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    for id in ["", "other"] {
        let renamed = Blob::new(blob.ciphertext().to_vec(), id);
        let back = wrapper.decrypt(&renamed, b"aad").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
    }
}

fn of_byte(
    builder: fn(&'static str) -> AeadWrapperBuilder,
    id: &'static str,
    byte: u8,
) -> AeadWrapper {
    let key = KeyBytes::from_slice(&[byte; 32]).unwrap();
    builder(id).key(key).build().unwrap()
}

#[test]
fn the_id_of_a_named_key_is_its_name_and_a_check_value_that_every_release_computes_alike() {
    // HMAC-SHA-256 of the text, as OpenSSL computes it: openssl dgst -sha256 -mac HMAC -macopt hexkey:0101…
    let wrapper = of_byte(AeadWrapper::named, "root", 1);
    assert_eq!(
        wrapper.key_id().as_deref(),
        Some("root#kcv-1b0876fd1153fa9f")
    );
    let other = of_byte(AeadWrapper::named, "root", 2);
    assert_ne!(wrapper.key_id(), other.key_id());
}

#[tokio::test]
async fn a_key_that_is_named_later_opens_what_it_made_under_its_old_id() {
    let old = of_byte(AeadWrapper::builder, "root", 1);
    let new = of_byte(AeadWrapper::named, "root", 1);
    let blob = old.encrypt(b"x", b"").await.unwrap();
    assert_eq!(new.decrypt(&blob, b"").await.unwrap().expose(), b"x");
    // It may be another key's, so a campaign moves it.
    assert_eq!(new.owns(&blob), Ownership::Unknown);
    assert_eq!(new.is_current(&blob), Ownership::Unknown);
    // A process that has the old id reads both, so that the fleet may be mixed.
    let blob = new.encrypt(b"x", b"").await.unwrap();
    assert_eq!(new.is_current(&blob), Ownership::Yes);
    assert_eq!(old.owns(&blob), Ownership::Yes);
    assert_eq!(old.decrypt(&blob, b"").await.unwrap().expose(), b"x");
    // Another key under the name is told from it without a call.
    let other = of_byte(AeadWrapper::named, "root", 2);
    assert_eq!(other.owns(&blob), Ownership::No);
}

#[test]
fn a_key_that_is_not_the_one_of_the_check_value_in_its_id_is_refused() {
    let id = of_byte(AeadWrapper::named, "root", 1).key_id().unwrap();
    let build = |id: &str, byte| {
        let key = KeyBytes::from_slice(&[byte; 32]).unwrap();
        AeadWrapper::builder(id).key(key).build()
    };
    assert_eq!(build(&id, 1).unwrap().key_id(), Some(id.clone()));
    let error = build(&id, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert_eq!(error.context("key_id"), Some(id.as_str()));
    // What only looks like a check value is part of an old id.
    for old in ["root#kcv-", "root#kcv-0a1b", "root#kcv-0A1B2C3D4E5F6071"] {
        assert_eq!(build(old, 2).unwrap().key_id().as_deref(), Some(old));
    }
}

#[test]
fn an_id_that_is_empty_blank_or_has_white_space_around_it_is_refused() {
    for id in ["", " ", "\t\n", " root", "root ", "root\n", "\u{a0}root"] {
        let error = AeadWrapper::builder(id)
            .key(KeyBytes::generate().unwrap())
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{id:?}");
    }
    for id in ["r", "root 1", "日本"] {
        assert_eq!(wrapper(id).key_id().as_deref(), Some(id));
    }
}

#[test]
fn no_source_of_the_key_and_two_of_them_are_refused() {
    let builder = || AeadWrapper::builder("root");
    let key = || KeyBytes::generate().unwrap();
    for builder in [
        builder(),
        builder().key(key()).key(key()),
        builder().key(key()).key_from_env("ANY"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    }
}

#[test]
fn without_a_provider_it_takes_the_fastest() {
    let builder = AeadWrapper::builder("root").key(KeyBytes::generate().unwrap());
    let chosen = builder.aead(fastest()).build().unwrap();
    let default = wrapper("root");
    assert_eq!(format!("{chosen:?}"), format!("{default:?}"));
}
