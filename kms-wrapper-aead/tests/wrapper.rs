//! The root wrapper passes the suite, with each provider.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use kms_core::{Aead, Blob, ErrorKind, KeyBytes, Ownership, Wrapper as _};
use kms_testkit::wrapper::Subject;
use kms_wrapper_aead::{AeadWrapper, fastest};

mod with_aes_gcm {
    kms_testkit::wrapper_suite!(super::subject(&kms_wrapper_aead::AesGcm));
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
