//! What goes wrong in the service and on the way to it.

use std::error::Error as _;
use std::time::{Duration, Instant};

use kms_core::{CallLimits, ErrorKind, Wrapper as _};
use kms_testkit::fake_cloud_kms::{CloudKmsFault, CloudKmsMethod};
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_gcp::{CloudKmsMode, ServiceError};

use crate::support::{MODES, Own, assert_works, builder, patient};

/// A deadline that a test can wait for, and attempts shorter than that.
fn hasty() -> CallLimits {
    patient()
        .with_attempt_timeout(Duration::from_millis(400))
        .with_deadline(Duration::from_secs(1))
}

/// What a deadline of a second may take on a busy machine.
const A_WHILE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn one_call_encrypts_and_one_decrypts() {
    for mode in MODES {
        let own = Own::start(mode).await;
        let client = own.client();
        let blob = own.wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
        own.wrapper.decrypt(&blob, b"aad").await.unwrap();
        own.wrapper.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(client.calls(CloudKmsMethod::Encrypt).await, 1);
        assert_eq!(client.calls(CloudKmsMethod::Decrypt).await, 2);
        client.forget_calls().await;
        own.wrapper.preflight().await.unwrap();
        assert_eq!(client.calls(CloudKmsMethod::Encrypt).await, 1);
        assert_eq!(client.calls(CloudKmsMethod::Decrypt).await, 1);
        assert_eq!(client.calls(CloudKmsMethod::TestIamPermissions).await, 0);
    }
}

#[tokio::test]
async fn a_short_storm_is_sat_out() {
    for mode in MODES {
        let own = Own::start(mode).await;
        for fault in [
            CloudKmsFault::unavailable(),
            CloudKmsFault::resource_exhausted(),
            CloudKmsFault::reset(),
            CloudKmsFault::cut_short(),
        ] {
            own.client().inject(fault.clone().times(3)).await;
            let blob = own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
            own.client().inject(fault.times(3)).await;
            let back = own.wrapper.decrypt(&blob, b"").await.unwrap();
            assert_eq!(back.expose(), b"plaintext");
        }
    }
}

#[tokio::test]
async fn a_long_storm_is_reported_by_its_kind_after_the_attempts_allowed() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let blob = own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
    for (fault, kind, status) in [
        (
            CloudKmsFault::unavailable(),
            ErrorKind::Unreachable,
            Some((503, "UNAVAILABLE")),
        ),
        (
            CloudKmsFault::resource_exhausted(),
            ErrorKind::Throttled,
            Some((429, "RESOURCE_EXHAUSTED")),
        ),
        (CloudKmsFault::reset(), ErrorKind::Unreachable, None),
        (CloudKmsFault::cut_short(), ErrorKind::Unreachable, None),
    ] {
        own.client().forget_calls().await;
        own.client().inject(fault.clone()).await;
        let errors = [
            own.wrapper.encrypt(b"x", b"").await.unwrap_err(),
            own.wrapper.decrypt(&blob, b"").await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), kind, "{fault:?}: {error:?}");
            assert!(error.is_retryable());
            let told = error
                .source()
                .and_then(|it| it.downcast_ref::<ServiceError>());
            let told = told.map(|it| (it.http_status(), it.status().to_owned()));
            assert_eq!(told, status.map(|(code, status)| (code, status.to_owned())));
        }
        for method in [CloudKmsMethod::Encrypt, CloudKmsMethod::Decrypt] {
            let attempts = own.client().calls(method).await;
            assert_eq!(attempts, u64::from(patient().attempts()), "{fault:?}");
        }
        own.client().clear_faults().await;
        assert_works(&*own.wrapper).await;
    }
}

#[tokio::test]
async fn what_another_attempt_can_not_change_is_asked_once() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let client = own.client();
    client.disable(&own.version(1)).await;
    own.wrapper.encrypt(b"x", b"").await.unwrap_err();
    assert_eq!(client.calls(CloudKmsMethod::Encrypt).await, 1);
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_at_the_deadline() {
    let own = Own::start_with(CloudKmsMode::Envelope, hasty()).await;
    let blob = own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
    own.client().inject(CloudKmsFault::hang()).await;
    let start = Instant::now();
    let errors = [
        own.wrapper.encrypt(b"x", b"").await.unwrap_err(),
        own.wrapper.decrypt(&blob, b"").await.unwrap_err(),
        own.wrapper.preflight().await.unwrap_err(),
    ];
    assert!(start.elapsed() < A_WHILE, "{:?}", start.elapsed());
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    own.client().clear_faults().await;
    let recovered = builder(own.fake.url(), &own.key).build().unwrap();
    recovered.decrypt(&blob, b"").await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_hangs_leaves_time_for_another() {
    let limits = patient().with_attempt_timeout(Duration::from_secs(1));
    let own = Own::start_with(CloudKmsMode::Envelope, limits).await;
    own.client().inject(CloudKmsFault::hang().times(1)).await;
    own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
    assert_eq!(own.client().calls(CloudKmsMethod::Encrypt).await, 2);
}

/// As when a firewall on the way forgot a connection: what is sent over it is never answered.
#[tokio::test]
async fn a_connection_that_died_without_a_word_is_not_used_again() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let proxy = FaultyProxy::start(own.fake.url());
    let limits = patient().with_attempt_timeout(Duration::from_secs(1));
    let wrapper = builder(&proxy.url(), &own.key)
        .limits(limits)
        .build()
        .unwrap();
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    proxy.fail_next(1, NetworkFault::Hang);
    wrapper.decrypt(&blob, b"").await.unwrap();
    assert_eq!(proxy.connections(), 2);
    assert_works(&wrapper).await;
    assert_eq!(proxy.connections(), 2, "the new one is kept");
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_noticed() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let proxy = FaultyProxy::start(own.fake.url());
    let wrapper = builder(&proxy.url(), &own.key).build().unwrap();
    for _ in 0..5 {
        assert_works(&wrapper).await;
        proxy.reset_connections();
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_unreachable_until_it_is_back() {
    for mode in MODES {
        let own = Own::start(mode).await;
        let blob = own.wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
        own.fake.stop().await;
        for _ in 0..2 {
            let errors = [
                own.wrapper.encrypt(b"x", b"").await.unwrap_err(),
                own.wrapper.decrypt(&blob, b"aad").await.unwrap_err(),
                own.wrapper.preflight().await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
                assert!(error.is_retryable() && error.source().is_some());
            }
        }
        own.fake.start_again().await;
        let back = own.wrapper.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), b"plaintext");
        own.wrapper.preflight().await.unwrap();
    }
}

#[tokio::test]
async fn a_service_that_comes_up_in_time_is_waited_for() {
    let fake = kms_testkit::fake_cloud_kms::FakeCloudKms::start().await;
    let key = fake.client().create_key().await;
    let limits = patient()
        .with_attempts(u32::MAX)
        .with_pauses(Duration::from_millis(10), Duration::from_millis(50));
    let wrapper = builder(fake.url(), &key).limits(limits).build().unwrap();
    fake.stop().await;
    let (outcome, ()) = tokio::join!(wrapper.encrypt(b"plaintext", b""), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        fake.start_again().await;
    });
    outcome.unwrap();
}

#[tokio::test]
async fn a_page_of_a_proxy_is_told_from_an_answer_of_the_service() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let proxy = FaultyProxy::start(own.fake.url());
    let wrapper = builder(&proxy.url(), &own.key).build().unwrap();
    for (status, body, kind) in [
        (200, "<html>", ErrorKind::DamagedResponse),
        (302, "", ErrorKind::InvalidConfiguration),
        (404, "<html>", ErrorKind::InvalidConfiguration),
        (
            404,
            r#"{"detail":"Not Found"}"#,
            ErrorKind::InvalidConfiguration,
        ),
        (403, "<html>", ErrorKind::Denied),
        (502, "<html>", ErrorKind::Unreachable),
        (429, "slow down", ErrorKind::Throttled),
        (504, "", ErrorKind::TimedOut),
    ] {
        proxy.fail(NetworkFault::answer(
            status,
            &[("location", "http://localhost:1/")],
            body,
        ));
        let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {body}: {error:?}");
        proxy.clear();
    }
    assert_works(&wrapper).await;
}
