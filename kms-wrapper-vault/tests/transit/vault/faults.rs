//! A network and a service that fail, between the wrapper and a real Vault.

use std::time::Duration;

use data_encoding::BASE64;
use kms_core::{CallLimits, ErrorKind, Wrapper as _};
use kms_testkit::wrapper::assert_hidden;
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_vault::{Auth, TransitWrapper};
use serde_json::json;
use tokio::time::Instant;

use super::fixture::{Key, PATIENCE, short, whole};
use super::logins::AppRole;

/// A wrapper whose requests pass a proxy. Nothing in its background counts as a request.
fn behind(proxy: &FaultyProxy, key: &Key, limits: CallLimits) -> TransitWrapper {
    key.builder()
        .address(proxy.url())
        .auth(Auth::token(key.vault.token()))
        .disable_renewal()
        .limits(limits)
        .build()
        .unwrap()
}

#[tokio::test]
async fn each_operation_is_one_call() {
    let Some(key) = Key::new().await else { return };
    let proxy = FaultyProxy::start(&key.vault.url());
    let wrapper = behind(&proxy, &key, short());
    let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    assert_eq!(proxy.requests(), 1);
    wrapper.decrypt(&blob, b"aad").await.unwrap();
    assert_eq!(proxy.requests(), 2);
}

#[tokio::test]
async fn a_short_storm_is_waited_out_within_one_call() {
    let Some(key) = Key::new().await else { return };
    for fault in [
        NetworkFault::status(429),
        NetworkFault::status(500),
        NetworkFault::status(503),
        NetworkFault::Cut,
        NetworkFault::LoseAnswer,
        NetworkFault::CutAnswer,
    ] {
        let proxy = FaultyProxy::start(&key.vault.url());
        let wrapper = behind(&proxy, &key, short());
        let name = format!("{fault:?}");
        proxy.fail_next(2, fault);
        let blob = wrapper.encrypt(b"plaintext", b"").await;
        let blob = blob.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(proxy.requests(), 3, "{name}");
        assert_eq!(
            wrapper.decrypt(&blob, b"").await.unwrap().expose(),
            b"plaintext"
        );
    }
}

#[tokio::test]
async fn a_lasting_storm_has_its_kind_and_the_next_call_after_it_works() {
    let Some(key) = Key::new().await else { return };
    let sealed = br#"{"errors":["Vault is sealed"]}"#;
    for (fault, kind, requests) in [
        (NetworkFault::status(429), ErrorKind::Throttled, 4),
        (NetworkFault::status(503), ErrorKind::Unreachable, 4),
        (NetworkFault::Cut, ErrorKind::Unreachable, 4),
        (NetworkFault::status(473), ErrorKind::ServiceStandby, 1),
        (
            NetworkFault::answer(503, &[], *sealed),
            ErrorKind::ServiceSealed,
            1,
        ),
    ] {
        let proxy = FaultyProxy::start(&key.vault.url());
        let wrapper = behind(&proxy, &key, short());
        let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
        let before = proxy.requests();
        proxy.fail(fault);
        let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.is_retryable());
        assert_eq!(proxy.requests() - before, requests, "{kind:?}");
        proxy.clear();
        wrapper.decrypt(&blob, b"").await.unwrap();
    }
}

#[tokio::test]
async fn the_deadline_holds_while_the_service_hangs() {
    let Some(key) = Key::new().await else { return };
    let proxy = FaultyProxy::start(&key.vault.url());
    let limits = short()
        .with_attempt_timeout(Duration::from_millis(300))
        .with_deadline(Duration::from_secs(1));
    let wrapper = behind(&proxy, &key, limits);
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    proxy.fail(NetworkFault::Hang);
    let start = Instant::now();
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() < PATIENCE / 2, "the deadline did not hold");
    proxy.clear();
    wrapper.decrypt(&blob, b"").await.unwrap();
}

#[tokio::test]
async fn it_holds_over_a_login_that_hangs_and_the_waiting_ones_too() {
    let Some(key) = Key::new().await else { return };
    let role = AppRole::new(&key, json!({}), &["encrypt"]).await;
    let proxy = FaultyProxy::start(&key.vault.url());
    proxy.fail(NetworkFault::Hang);
    let limits = short()
        .with_attempt_timeout(Duration::from_millis(500))
        .with_deadline(Duration::from_secs(1));
    let builder = key.builder().address(proxy.url()).auth(role.auth());
    let wrapper = std::sync::Arc::new(builder.limits(limits).build().unwrap());
    let start = Instant::now();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let wrapper = std::sync::Arc::clone(&wrapper);
            tokio::spawn(async move { wrapper.encrypt(b"plaintext", b"").await })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    assert!(start.elapsed() < PATIENCE / 2, "the deadline did not hold");
    proxy.clear();
    wrapper.encrypt(b"plaintext", b"").await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_no_token_goes_there() {
    let Some(key) = Key::new().await else { return };
    let elsewhere = FaultyProxy::start(&key.vault.url());
    let proxy = FaultyProxy::start(&key.vault.url());
    let wrapper = behind(&proxy, &key, short());
    for (status, kind) in [
        (307, ErrorKind::ServiceStandby),
        (301, ErrorKind::DamagedResponse),
        (308, ErrorKind::DamagedResponse),
    ] {
        let location = format!("{}/v1/anything", elsewhere.url());
        proxy.clear();
        proxy.fail(NetworkFault::answer(status, &[("location", &location)], ""));
        let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_damaged_answer_is_not_used() {
    let Some(key) = Key::new().await else { return };
    let proxy = FaultyProxy::start(&key.vault.url());
    let wrapper = behind(&proxy, &key, short().with_attempts(1));
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    let answers: [&[u8]; 6] = [
        b"",
        b"<html>",
        b"{}",
        br#"{"request_id":"","lease_id":"","lease_duration":0,"renewable":false,"data":null}"#,
        br#"{"request_id":"","lease_id":"","lease_duration":0,"renewable":false,"data":{"plaintext":"cGxhaW50ZXh=","ciphertext":"vault:v1:AAECAx=="}}"#,
        br#"{"request_id":"","lease_id":"","lease_duration":0,"renewable":false,"data":{"plaintext":17,"ciphertext":17}}"#,
    ];
    for answer in answers {
        proxy.clear();
        proxy.fail(NetworkFault::answer(200, &[], answer));
        for error in [
            wrapper.decrypt(&blob, b"").await.unwrap_err(),
            wrapper.encrypt(b"plaintext", b"").await.unwrap_err(),
        ] {
            let answer = String::from_utf8_lossy(answer);
            assert_eq!(
                error.kind(),
                ErrorKind::DamagedResponse,
                "{answer}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let Some(key) = Key::new().await else { return };
    let proxy = FaultyProxy::start(&key.vault.url());
    let wrapper = behind(&proxy, &key, short());
    proxy.fail(NetworkFault::answer(200, &[], vec![b' '; 1024 * 1024]));
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DamagedResponse);
    assert!(error.to_string().contains("longer"), "{error}");
}

/// As releases did before associated data, and mounts of something else that echoes.
#[tokio::test]
async fn preflight_refuses_a_service_that_ignores_the_aad() {
    let Some(key) = Key::new().await else { return };
    let proxy = FaultyProxy::start(&key.vault.url());
    let wrapper = behind(&proxy, &key, short());
    // The rights, the probe there and back; then the probe with another aad, which opens.
    proxy.fail_next(3, NetworkFault::alter(|_| {}));
    let opened = json!({
        "request_id": "", "lease_id": "", "lease_duration": 0, "renewable": false,
        "data": { "plaintext": "cGxhaW4=" },
    });
    proxy.fail_next(1, NetworkFault::answer(200, &[], opened.to_string()));
    let error = wrapper.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsuitableRootKey, "{error}");
}

/// TLS is what protects the answer on its way. Should a bit flip all the same, it shows here at the latest.
#[tokio::test]
async fn a_bit_flipped_in_the_ciphertext_on_its_way_shows_when_it_is_opened() {
    let Some(key) = Key::new().await else { return };
    let proxy = FaultyProxy::start(&key.vault.url());
    let wrapper = behind(&proxy, &key, short());
    proxy.fail(NetworkFault::alter(|body| {
        let start = body.windows(9).position(|part| part == b"vault:v1:");
        // Another letter of base64.
        let letter = &mut body[start.unwrap() + 20];
        *letter = if *letter == b'A' { b'B' } else { b'A' };
    }));
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    proxy.clear();
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
}

#[tokio::test]
async fn an_error_that_repeats_what_was_sent_is_not_passed_on() {
    const PLAINTEXT: &[u8] = b"a plaintext that would be recognised";
    let Some(key) = Key::new().await else { return };
    let proxy = FaultyProxy::start(&key.vault.url());
    let wrapper = behind(&proxy, &key, short().with_attempts(1));
    let token = key.vault.token();
    for sent in [BASE64.encode(PLAINTEXT), token.to_owned()] {
        let body = json!({ "errors": [format!("can't read {sent}")] }).to_string();
        proxy.clear();
        proxy.fail(NetworkFault::answer(400, &[], body));
        let error = wrapper.encrypt(PLAINTEXT, b"").await.unwrap_err();
        let shown = whole(&error);
        assert_hidden(PLAINTEXT, &shown);
        assert_hidden(token.as_bytes(), &shown);
        assert!(shown.contains("withheld"), "{shown}");
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_unreachable() {
    let Some(key) = Key::new().await else { return };
    let proxy = FaultyProxy::start(&key.vault.url());
    let wrapper = behind(&proxy, &key, short());
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    proxy.refuse();
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(std::error::Error::source(&error).is_some());
    proxy.clear();
    wrapper.decrypt(&blob, b"").await.unwrap();
}
