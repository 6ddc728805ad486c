//! What goes wrong between the wrapper and the service: a proxy stands there and does it.

use std::error::Error as _;
use std::time::{Duration, Instant};

use aws_sdk_kms::config::retry::RetryConfig;
use data_encoding::BASE64;
use kms_core::{CallLimits, Error, ErrorKind, Wrapper as _};
use kms_testkit::wrapper::assert_hidden;
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_aws::{AwsKmsMode, AwsKmsWrapper, ServiceError};

use super::support::{REGION, Service, builder, config, patient, unique};

/// A service behind a proxy, and a wrapper that knows only that.
struct Behind {
    service: Service,
    key: String,
    proxy: FaultyProxy,
    wrapper: AwsKmsWrapper,
}

impl Behind {
    async fn proxy(mode: AwsKmsMode) -> Option<Self> {
        let service = Service::shared()?;
        let key = service.key().await;
        let proxy = FaultyProxy::start(&service.endpoint);
        let wrapper = builder(&proxy.url(), &key).mode(mode).build().unwrap();
        Some(Self {
            service,
            key,
            proxy,
            wrapper,
        })
    }
}

/// How the service says no.
fn refusal(status: u16, code: &str, message: &str) -> NetworkFault {
    NetworkFault::answer(
        status,
        &[
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amzn-requestid", "7a0c9b8d"),
        ],
        format!(r#"{{"__type":"{code}","message":"{message}"}}"#),
    )
}

fn told(error: &Error) -> &ServiceError {
    error.source().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn a_storm_of_refusals_is_reported_by_its_kind_and_is_over_when_it_is_over() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let (proxy, wrapper) = (&behind.proxy, &behind.wrapper);
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    for (fault, kind) in [
        (NetworkFault::status(503), ErrorKind::Unreachable),
        (NetworkFault::status(500), ErrorKind::Unreachable),
        (NetworkFault::status(429), ErrorKind::Throttled),
        (
            refusal(400, "ThrottlingException", "Rate exceeded"),
            ErrorKind::Throttled,
        ),
        (
            refusal(400, "LimitExceededException", "Rate exceeded"),
            ErrorKind::Throttled,
        ),
        (
            refusal(500, "KMSInternalException", "Try again"),
            ErrorKind::Unreachable,
        ),
        (
            refusal(500, "DependencyTimeoutException", "Try again"),
            ErrorKind::TimedOut,
        ),
        (
            NetworkFault::answer(503, &[], "<html>"),
            ErrorKind::Unreachable,
        ),
    ] {
        proxy.fail(fault);
        let errors = [
            wrapper.encrypt(b"x", b"").await.unwrap_err(),
            wrapper.decrypt(&blob, b"").await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.is_retryable());
        }
        proxy.clear();
        wrapper.preflight().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_second_attempt_can_mend_is_not_noticed() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let (proxy, wrapper) = (&behind.proxy, &behind.wrapper);
    for fault in [
        NetworkFault::status(503),
        refusal(400, "ThrottlingException", "Rate exceeded"),
        NetworkFault::Cut,
        NetworkFault::LoseAnswer,
        NetworkFault::CutAnswer,
    ] {
        proxy.fail_next(1, fault.clone());
        let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
        proxy.fail_next(2, fault);
        let back = wrapper.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
    }
    // What was open, and idle, is gone.
    proxy.reset_connections();
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn a_service_that_refuses_connections_or_has_no_address_is_unreachable() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let (proxy, wrapper) = (&behind.proxy, &behind.wrapper);
    wrapper.preflight().await.unwrap();
    proxy.refuse();
    let error = wrapper.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert_eq!(error.operation(), Some("preflight"));
    assert!(error.source().is_some());
    proxy.clear();
    wrapper.preflight().await.unwrap();

    // A name without an address, and a host that does not speak TLS.
    let without_tls = proxy.url().replace("http://", "https://");
    for endpoint in ["https://nowhere.invalid", &without_tls] {
        let nowhere = builder(endpoint, &behind.key).limits(patient().with_attempts(1));
        let error = nowhere.build().unwrap().preflight().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    }
}

#[tokio::test]
async fn the_deadline_holds_against_a_service_that_does_not_answer() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let blob = behind.wrapper.encrypt(b"plaintext", b"").await.unwrap();
    let limits = CallLimits::default()
        .with_attempt_timeout(Duration::from_millis(300))
        .with_deadline(Duration::from_secs(1));
    // A client with its own opinion of how long and how often to ask.
    let client = aws_sdk_kms::Client::from_conf(
        config(&behind.proxy.url(), REGION)
            .retry_config(RetryConfig::standard().with_max_attempts(100))
            .build(),
    );
    let own_client = AwsKmsWrapper::builder(&behind.key)
        .client(client)
        .aead(std::sync::Arc::new(kms_wrapper_aead::AesGcm));
    for builder in [builder(&behind.proxy.url(), &behind.key), own_client] {
        let wrapper = builder.limits(limits).build().unwrap();
        for fault in [NetworkFault::Hang, NetworkFault::status(503)] {
            let hangs = matches!(fault, NetworkFault::Hang);
            behind.proxy.fail(fault);
            let start = Instant::now();
            let errors = [
                wrapper.encrypt(b"x", b"").await.unwrap_err(),
                wrapper.decrypt(&blob, b"").await.unwrap_err(),
            ];
            let took = start.elapsed();
            for error in errors {
                assert!(!hangs || error.kind() == ErrorKind::TimedOut, "{error:?}");
                assert!(error.is_retryable(), "{error:?}");
            }
            // Two seconds of deadlines; the rest is for a busy machine.
            assert!(took < Duration::from_secs(20), "{took:?}");
            behind.proxy.clear();
        }
    }
    // Without one attempt's timeout the deadline alone ends it.
    let limits = limits.with_attempt_timeout(Duration::from_secs(3600));
    let wrapper = builder(&behind.proxy.url(), &behind.key).limits(limits);
    let wrapper = wrapper.build().unwrap();
    behind.proxy.fail_next(1, NetworkFault::Hang);
    let start = Instant::now();
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(20));
    let back = behind.wrapper.decrypt(&blob, b"").await.unwrap();
    assert_eq!(back.expose(), b"plaintext");
}

#[tokio::test]
async fn a_caller_made_client_asks_as_often_as_it_was_told() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let client = aws_sdk_kms::Client::from_conf(
        config(&behind.proxy.url(), REGION)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .build(),
    );
    let wrapper = AwsKmsWrapper::builder(&behind.key)
        .client(client)
        .limits(patient().with_attempts(1))
        .aead(std::sync::Arc::new(kms_wrapper_aead::AesGcm))
        .build()
        .unwrap();
    wrapper.preflight().await.unwrap();
    let before = behind.proxy.requests();
    behind.proxy.fail_next(1, NetworkFault::status(503));
    wrapper.encrypt(b"x", b"").await.unwrap();
    assert_eq!(behind.proxy.requests(), before + 2);
}

#[tokio::test]
async fn a_missing_permission_is_named_with_the_services_own_words() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let (proxy, wrapper) = (&behind.proxy, &behind.wrapper);
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    let denied = || refusal(400, "AccessDeniedException", "User is not authorized");
    proxy.fail_next(1, denied());
    let encrypting = wrapper.preflight().await.unwrap_err();
    proxy.fail_next(1, denied());
    let decrypting = wrapper.decrypt(&blob, b"").await.unwrap_err();
    for (error, operation, permission) in [
        (encrypting, "preflight", "kms:Encrypt"),
        (decrypting, "decrypt", "kms:Decrypt"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.operation(), Some(operation));
        assert_eq!(error.context("permission"), Some(permission));
        assert_eq!(error.context("root_key_id"), Some(&*behind.key));
        let told = told(&error);
        assert_eq!(told.status(), 400);
        assert_eq!(told.code(), Some("AccessDeniedException"));
        assert_eq!(told.message(), Some("User is not authorized"));
        assert_eq!(told.request_id(), Some("7a0c9b8d"));
    }
    for code in [
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "ExpiredTokenException",
    ] {
        proxy.fail_next(1, refusal(400, code, "no"));
        let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{code}");
    }
}

#[tokio::test]
async fn a_preflight_that_may_encrypt_and_not_decrypt_says_which() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Direct).await else {
        return;
    };
    let denied = refusal(400, "AccessDeniedException", "no");
    behind.proxy.fail_next(1, NetworkFault::alter(|_| {}));
    behind.proxy.fail_next(1, denied);
    let error = behind.wrapper.preflight().await.unwrap_err();
    assert_eq!(error.context("permission"), Some("kms:Decrypt"));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_put_right_by_the_services_answer() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let expired = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z";
    let fault = refusal(400, "InvalidSignatureException", expired);
    behind.proxy.fail_next(1, fault.clone());
    behind.wrapper.encrypt(b"x", b"").await.unwrap();
    assert_eq!(behind.proxy.requests(), 2);
    // Once is enough: then it is something else.
    behind.proxy.fail(fault);
    let error = behind.wrapper.encrypt(b"x", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(behind.proxy.requests(), 4);
}

#[tokio::test]
async fn an_answer_that_is_damaged_or_about_another_key_is_not_used() {
    for mode in [AwsKmsMode::Envelope, AwsKmsMode::Direct] {
        let Some(behind) = Behind::proxy(mode).await else {
            return;
        };
        let (proxy, wrapper) = (&behind.proxy, &behind.wrapper);
        let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
        let other = behind.service.key().await;
        let own = behind.key.clone();
        let renamed = NetworkFault::alter(move |body| replace(body, &own, &other));
        for fault in [
            renamed,
            NetworkFault::alter(|body| replace(body, "KeyId", "Key_Id")),
            NetworkFault::alter(|body| replace(body, "arn:aws:kms", "arn:aws:s3")),
            NetworkFault::alter(|body| {
                replace(body, "CiphertextBlob", "Blob");
                replace(body, "Plaintext", "Text");
            }),
            NetworkFault::alter(|body| body[0] ^= 1),
            NetworkFault::alter(Vec::clear),
            NetworkFault::alter(|body| *body = b"{}".to_vec()),
        ] {
            proxy.fail_next(2, fault.clone());
            let errors = [
                wrapper.encrypt(b"x", b"").await.unwrap_err(),
                wrapper.decrypt(&blob, b"").await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::DamagedResponse, "{error:?}");
            }
        }
        let back = wrapper.decrypt(&blob, b"").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");

        // Nor the first answer of all.
        let (own, other) = (behind.key.clone(), behind.service.key().await);
        let new = builder(&proxy.url(), &own).mode(mode).build().unwrap();
        proxy.fail_next(
            1,
            NetworkFault::alter(move |body| replace(body, &own, &other)),
        );
        let error = new.decrypt(&blob, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DamagedResponse, "{error:?}");
        assert_eq!(new.key_id().as_deref(), Some(&*behind.key));
    }
}

#[tokio::test]
async fn a_key_that_is_named_without_its_account_does_not_change_it() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let alias = format!("alias/{}", unique("account"));
    behind.service.alias(&alias, &behind.key).await;
    let (_, id) = behind.key.split_once("key/").unwrap();
    for name in [id, &alias] {
        let wrapper = builder(&behind.proxy.url(), name).build().unwrap();
        let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
        let elsewhere = |body: &mut Vec<u8>| replace(body, ":000000000000:", ":111122223333:");
        behind.proxy.fail_next(2, NetworkFault::alter(elsewhere));
        let errors = [
            wrapper.encrypt(b"x", b"").await.unwrap_err(),
            wrapper.decrypt(&blob, b"").await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::DamagedResponse, "{error:?}");
        }
        assert_eq!(wrapper.key_id().as_deref(), Some(&*behind.key));
    }
}

#[tokio::test]
async fn a_flipped_bit_in_an_answer_never_opens_an_envelope_to_something_else() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Envelope).await else {
        return;
    };
    let (proxy, wrapper) = (&behind.proxy, &behind.wrapper);
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    proxy.fail_next(1, flip_in("Plaintext"));
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error:?}");

    // Beside the plaintext: a bit of any byte of the answer.
    for position in 0..200 {
        let flip = move |body: &mut Vec<u8>| {
            let length = body.len();
            body[position % length] ^= 1 << (position % 7);
        };
        proxy.fail_next(1, NetworkFault::alter(flip));
        match wrapper.decrypt(&blob, b"").await {
            Ok(back) => assert_eq!(back.expose(), b"plaintext"),
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::DamagedResponse
                        | ErrorKind::AuthenticationFailed
                        | ErrorKind::InvalidBlob
                ),
                "{error:?}"
            ),
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_what_the_service_encrypted_makes_a_blob_that_does_not_open() {
    for mode in [AwsKmsMode::Envelope, AwsKmsMode::Direct] {
        let Some(behind) = Behind::proxy(mode).await else {
            return;
        };
        behind.proxy.fail_next(1, flip_in("CiphertextBlob"));
        let blob = behind.wrapper.encrypt(b"plaintext", b"").await.unwrap();
        let error = behind.wrapper.decrypt(&blob, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error:?}");
    }
}

/// The service sends no checksum, so in direct mode TLS alone keeps a plaintext whole.
#[tokio::test]
async fn in_direct_mode_only_preflight_notices_a_flipped_bit_in_a_plaintext() {
    let Some(behind) = Behind::proxy(AwsKmsMode::Direct).await else {
        return;
    };
    let (proxy, wrapper) = (&behind.proxy, &behind.wrapper);
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    proxy.fail_next(1, flip_in("Plaintext"));
    let back = wrapper.decrypt(&blob, b"").await.unwrap();
    assert_ne!(back.expose(), b"plaintext");
    proxy.fail(flip_in("Plaintext"));
    let error = wrapper.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
}

#[tokio::test]
async fn an_error_repeats_nothing_secret_that_the_service_echoes() {
    const PLAINTEXT: &[u8] = b"plaintext of 32 bytes, like keys";
    let Some(behind) = Behind::proxy(AwsKmsMode::Direct).await else {
        return;
    };
    let echo = format!("can't read {} here", BASE64.encode(PLAINTEXT));
    let fault = refusal(400, "SerializationException", &echo);
    behind.proxy.fail_next(1, fault);
    let error = behind.wrapper.encrypt(PLAINTEXT, b"").await.unwrap_err();
    assert_hidden(PLAINTEXT, &format!("{error} {error:?} {}", told(&error)));
    assert_eq!(told(&error).message(), Some("can't read [hidden] here"));
}

/// Flips a bit of the bytes in this field of an answer.
fn flip_in(field: &'static str) -> NetworkFault {
    NetworkFault::alter(move |body| {
        let text = String::from_utf8(body.clone()).unwrap();
        let Some((_, value)) = text.split_once(&format!("\"{field}\": \"")) else {
            return;
        };
        let (value, _) = value.split_once('"').unwrap();
        let mut bytes = BASE64.decode(value.as_bytes()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        replace(body, value, &BASE64.encode(&bytes));
    })
}

fn replace(body: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(std::mem::take(body)).unwrap();
    *body = text.replace(from, to).into_bytes();
}
