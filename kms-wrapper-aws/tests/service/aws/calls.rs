//! What the service is asked, and how often.

use kms_core::{CallLimits, ErrorKind, Wrapper as _};
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_aws::AwsKmsMode;

use super::support::{Service, builder, patient};

#[tokio::test]
async fn encrypting_is_one_call_and_decrypting_is_one_in_both_modes() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    for mode in [AwsKmsMode::Envelope, AwsKmsMode::Direct] {
        let proxy = FaultyProxy::start(&service.endpoint);
        let wrapper = builder(&proxy.url(), &key).mode(mode).build().unwrap();
        assert_eq!(proxy.connections(), 0);
        let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
        assert_eq!(proxy.requests(), 1);
        wrapper.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(proxy.requests(), 2);
        wrapper.preflight().await.unwrap();
        assert_eq!(proxy.requests(), 4);
        assert_eq!(proxy.connections(), 1, "the connection is kept");
    }
}

#[tokio::test]
async fn an_attempt_is_repeated_as_often_as_the_limits_say_and_by_nobody_else() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    for attempts in [1, 3] {
        let proxy = FaultyProxy::start(&service.endpoint);
        proxy.fail(NetworkFault::status(503));
        let limits: CallLimits = patient().with_attempts(attempts);
        let wrapper = builder(&proxy.url(), &key).limits(limits).build().unwrap();
        wrapper.encrypt(b"x", b"").await.unwrap_err();
        assert_eq!(proxy.requests(), u64::from(attempts));
    }
}

#[tokio::test]
async fn what_will_not_change_is_asked_once() {
    let Some(service) = Service::shared() else {
        return;
    };
    let key = service.key().await;
    let proxy = FaultyProxy::start(&service.endpoint);
    let wrapper = builder(&proxy.url(), &key).build().unwrap();
    let client = &service.client;
    client.disable_key().key_id(&key).send().await.unwrap();
    let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RootKeyDisabled);
    assert_eq!(proxy.requests(), 1);
}
