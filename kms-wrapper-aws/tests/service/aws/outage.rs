//! The service itself stops, and starts again.

use aws_sdk_kms::types::Tag;
use kms_core::{CallLimits, ErrorKind, Wrapper as _};
use kms_testkit::service::LocalStack;

use super::support::{REGION, Service, builder, patient};

#[tokio::test]
async fn a_service_that_stopped_is_unreachable_and_works_again_once_it_is_back() {
    let Some(mut localstack) = LocalStack::start_own().await else {
        return;
    };
    let key = key(&localstack).await;
    let wrapper = builder(&localstack.endpoint(), &key).build().unwrap();
    let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    for _ in 0..2 {
        localstack.stop();
        let errors = [
            wrapper.encrypt(b"x", b"").await.unwrap_err(),
            wrapper.decrypt(&blob, b"aad").await.unwrap_err(),
            wrapper.preflight().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
            assert!(error.is_retryable());
        }
        localstack.start().await;
        self::key(&localstack).await;
        let back = wrapper.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
        wrapper.preflight().await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_began_while_the_service_was_down_succeeds_once_it_is_up() {
    let Some(mut localstack) = LocalStack::start_own().await else {
        return;
    };
    let key = key(&localstack).await;
    let limits: CallLimits = patient().with_attempts(u32::MAX);
    let wrapper = builder(&localstack.endpoint(), &key).limits(limits);
    let wrapper = wrapper.build().unwrap();
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    localstack.stop();
    let restart = async {
        localstack.start().await;
        self::key(&localstack).await;
    };
    // A key that is not there yet is an answer, and not asked for again: so the call may see that first.
    let call = async {
        loop {
            match wrapper.decrypt(&blob, b"").await {
                Err(error) if error.kind() == ErrorKind::UnknownRootKey => {}
                outcome => return outcome,
            }
        }
    };
    let (back, ()) = tokio::join!(call, restart);
    assert_eq!(back.unwrap().expose(), b"plaintext");
}

/// A key that is the same each time it is made.
async fn key(localstack: &LocalStack) -> String {
    let tag = |key: &str, value: &str| {
        let tag = Tag::builder().tag_key(key).tag_value(value);
        tag.build().unwrap()
    };
    let id = tag("_custom_id_", "6c3a1f0e-7b52-4d69-9a84-0d1e2f3a4b5c");
    let material = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let material = tag("_custom_key_material_", material);
    Service::at(&localstack.endpoint(), REGION)
        .key_with(|order| order.tags(id).tags(material))
        .await
}
