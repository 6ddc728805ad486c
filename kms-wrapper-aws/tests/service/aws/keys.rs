//! Names and states of keys.

use std::error::Error as _;

use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use kms_core::{ErrorKind, Ownership, Wrapper as _};
use kms_wrapper_aws::{AwsKmsMode, ServiceError};

use super::support::{REGION, Service, builder, unique};

const MODES: [AwsKmsMode; 2] = [AwsKmsMode::Envelope, AwsKmsMode::Direct];

#[tokio::test]
async fn a_key_may_go_by_any_of_its_names_and_its_blobs_carry_its_arn() {
    let Some(service) = Service::shared() else {
        return;
    };
    let arn = service.key().await;
    let alias = format!("alias/{}", unique("names"));
    service.alias(&alias, &arn).await;
    let (place, id) = arn.split_once("key/").unwrap();
    for name in [&arn, id, &alias, &format!("{place}{alias}")] {
        for mode in MODES {
            let wrapper = service.builder(name).mode(mode).build().unwrap();
            let before = (*name == *arn).then(|| arn.clone());
            assert_eq!(wrapper.key_id(), before, "{name}");
            let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
            assert_eq!(blob.key_id(), arn, "{name}");
            assert_eq!(wrapper.key_id().as_deref(), Some(&*arn), "{name}");
            assert_eq!(wrapper.owns(&blob), Ownership::Yes, "{name}");
            let back = wrapper.decrypt(&blob, b"aad").await.unwrap();
            assert_eq!(back.expose(), b"plaintext", "{name}");
        }
    }
}

#[tokio::test]
async fn a_wrapper_that_only_decrypts_learns_the_arn_of_its_key() {
    let Some(service) = Service::shared() else {
        return;
    };
    let arn = service.key().await;
    let blob = service.wrapper(&arn).encrypt(b"x", b"").await.unwrap();
    let (_, id) = arn.split_once("key/").unwrap();
    let wrapper = service.wrapper(id);
    assert_eq!(wrapper.key_id(), None);
    wrapper.decrypt(&blob, b"").await.unwrap();
    assert_eq!(wrapper.key_id(), Some(arn));
}

#[tokio::test]
async fn a_key_that_the_service_does_not_know_is_said_so() {
    let Some(service) = Service::shared() else {
        return;
    };
    for name in [
        "00000000-0000-4000-8000-000000000000",
        "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-4000-8000-000000000000",
        &format!("alias/{}", unique("nobody")),
    ] {
        let wrapper = service.wrapper(name);
        for error in [
            wrapper.encrypt(b"x", b"").await.unwrap_err(),
            wrapper.preflight().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{error}");
            assert_eq!(error.context("root_key_id"), Some(name));
            let told = error.source().unwrap().downcast_ref::<ServiceError>();
            assert_eq!(told.unwrap().code(), Some("NotFoundException"));
        }
    }
}

#[tokio::test]
async fn a_key_that_is_disabled_or_about_to_be_deleted_works_again_once_it_is_enabled() {
    let Some(service) = Service::shared() else {
        return;
    };
    let arn = service.key().await;
    let client = &service.client;
    for mode in MODES {
        let wrapper = service.builder(&arn).mode(mode).build().unwrap();
        let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
        let assert_disabled = async || {
            let errors = [
                wrapper.encrypt(b"x", b"").await.unwrap_err(),
                wrapper.decrypt(&blob, b"").await.unwrap_err(),
                wrapper.preflight().await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::RootKeyDisabled, "{error}");
                assert!(!error.is_retryable());
            }
        };
        client.disable_key().key_id(&arn).send().await.unwrap();
        assert_disabled().await;
        client.enable_key().key_id(&arn).send().await.unwrap();
        wrapper.preflight().await.unwrap();

        let delete = client.schedule_key_deletion().key_id(&arn);
        delete.pending_window_in_days(7).send().await.unwrap();
        assert_disabled().await;
        let keep = client.cancel_key_deletion().key_id(&arn);
        keep.send().await.unwrap();
        client.enable_key().key_id(&arn).send().await.unwrap();
        let back = wrapper.decrypt(&blob, b"").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
        wrapper.preflight().await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_signs_is_no_root_key() {
    let Some(service) = Service::shared() else {
        return;
    };
    for (usage, spec) in [
        (KeyUsageType::SignVerify, KeySpec::EccNistP256),
        (KeyUsageType::GenerateVerifyMac, KeySpec::Hmac256),
    ] {
        let key = service.key_with(|order| order.key_usage(usage.clone()).key_spec(spec));
        let wrapper = service.wrapper(&key.await);
        let error = wrapper.preflight().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsuitableRootKey, "{usage}");
    }
}

#[tokio::test]
async fn after_the_key_rotated_in_the_service_old_blobs_open_and_its_arn_is_the_same() {
    let Some(service) = Service::shared() else {
        return;
    };
    let arn = service.key().await;
    let wrapper = service.wrapper(&arn);
    let old = wrapper.encrypt(b"old", b"").await.unwrap();
    let rotate = service.client.rotate_key_on_demand().key_id(&arn);
    rotate.send().await.unwrap();
    let new = wrapper.encrypt(b"new", b"").await.unwrap();
    assert_eq!(new.key_id(), old.key_id());
    for (blob, plaintext) in [(old, b"old"), (new, b"new")] {
        assert_eq!(wrapper.is_current(&blob), Ownership::Yes);
        let back = wrapper.decrypt(&blob, b"").await.unwrap();
        assert_eq!(back.expose(), plaintext);
    }
}

#[tokio::test]
async fn of_a_multi_region_key_each_regions_copy_opens_what_anothers_encrypted() {
    const OTHER: &str = "eu-west-1";
    let Some(service) = Service::shared() else {
        return;
    };
    let here = service.key_with(|order| order.multi_region(true)).await;
    let copy = service.client.replicate_key().key_id(&here);
    copy.replica_region(OTHER).send().await.unwrap();
    let there = here.replace(REGION, OTHER);
    let (_, id) = here.split_once("key/").unwrap();
    for mode in MODES {
        let first = service.builder(&here).mode(mode).build().unwrap();
        let blob = first.encrypt(b"plaintext", b"aad").await.unwrap();
        let by_id = builder(&service.endpoint, id).region(OTHER);
        for second in [builder(&service.endpoint, &there), by_id] {
            let second = second.mode(mode).build().unwrap();
            assert_eq!(second.owns(&blob), Ownership::Yes);
            let back = second.decrypt(&blob, b"aad").await.unwrap();
            assert_eq!(back.expose(), b"plaintext");
            assert_eq!(second.key_id(), Some(there.clone()));
            assert_eq!(second.is_current(&blob), Ownership::Yes);
            let blob = second.encrypt(b"back", b"").await.unwrap();
            assert_eq!(blob.key_id(), there);
            assert_eq!(first.decrypt(&blob, b"").await.unwrap().expose(), b"back");
        }
    }
}
