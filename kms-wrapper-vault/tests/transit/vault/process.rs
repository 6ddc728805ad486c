//! A Vault of the test's own: stopped, started, sealed, unsealed.

use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::service::VaultProcess;
use kms_wrapper_vault::Auth;
use serde_json::json;

use super::fixture::{Key, short};
use super::logins::AppRole;

#[tokio::test]
async fn a_wrapper_outlives_a_vault_that_is_sealed_and_unsealed() {
    let Some(process) = VaultProcess::start_own().await else {
        return;
    };
    let key = Key::on(process.vault()).await;
    let builder = key.builder().auth(Auth::token(key.vault.token()));
    let wrapper = builder.limits(short()).build().unwrap();
    let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    process.seal().await;
    for error in [
        wrapper.encrypt(b"plaintext", b"aad").await.unwrap_err(),
        wrapper.decrypt(&blob, b"aad").await.unwrap_err(),
        wrapper.preflight().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::ServiceSealed, "{error:?}");
        assert!(error.is_retryable());
    }
    process.unseal().await;
    let back = wrapper.decrypt(&blob, b"aad").await.unwrap();
    assert_eq!(back.expose(), b"plaintext");
}

#[tokio::test]
async fn a_wrapper_outlives_a_vault_that_is_stopped_and_started() {
    let Some(mut process) = VaultProcess::start_own().await else {
        return;
    };
    let key = Key::on(process.vault()).await;
    let role = AppRole::new(&key, json!({}), &["encrypt", "decrypt"]).await;
    let builder = key.builder().auth(role.auth()).limits(short());
    let wrapper = builder.build().unwrap();
    let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    process.stop();
    let error = wrapper.decrypt(&blob, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");

    process.start().await;
    let error = wrapper.decrypt(&blob, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServiceSealed, "{error:?}");

    process.unseal().await;
    let back = wrapper.decrypt(&blob, b"aad").await.unwrap();
    assert_eq!(back.expose(), b"plaintext");
}

#[tokio::test]
async fn a_rate_limit_of_the_service_itself_is_throttling() {
    let Some(process) = VaultProcess::start_own().await else {
        return;
    };
    let key = Key::on(process.vault()).await;
    let builder = key.builder().auth(Auth::token(key.vault.token()));
    let limits = short().with_attempts(1);
    let wrapper = builder.limits(limits).disable_renewal().build().unwrap();
    let quota = json!({ "path": key.mount, "rate": 0.01 });
    key.vault.write("sys/quotas/rate-limit/test", quota).await;
    // The first may pass.
    let _ = wrapper.encrypt(b"plaintext", b"").await;
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled, "{error:?}");
    key.vault.delete("sys/quotas/rate-limit/test").await;
    wrapper.encrypt(b"plaintext", b"").await.unwrap();
}
