//! What the wrapper does while the token, or its module, fails.

use std::time::{Duration, Instant};

use kms_core::{CallLimits, ErrorKind, Wrapper as _};
use kms_testkit::service::SoftHsm;
use kms_wrapper_pkcs11::{Pkcs11Wrapper, ServiceError};

use super::faulty::FaultyModule;
use super::support::{Key, builder, impatient};

/// A wrapper of a token of its own, whose module can be made to fail.
struct Scene {
    module: FaultyModule,
    token: SoftHsm,
    key: Key,
}

impl Scene {
    fn new() -> Option<Self> {
        let token = SoftHsm::own()?;
        Some(Self {
            module: FaultyModule::new(),
            key: Key::on(&token),
            token,
        })
    }

    fn wrapper(&self, limits: CallLimits) -> Pkcs11Wrapper {
        builder(&self.token, &self.key)
            .module(self.module.path())
            .sessions(2)
            .limits(limits)
            .build()
            .unwrap()
    }
}

/// One attempt, with time for a machine that is busy.
fn once() -> CallLimits {
    CallLimits::default().with_attempts(1)
}

#[tokio::test]
async fn a_token_that_was_removed_is_unreachable_and_works_when_it_is_back() {
    let Some(scene) = Scene::new() else { return };
    let wrapper = scene.wrapper(once());
    let blob = wrapper.encrypt(b"key", b"aad").await.unwrap();
    for _ in 0..2 {
        scene.module.fail("gone");
        for error in [
            wrapper.encrypt(b"key", b"aad").await.unwrap_err(),
            wrapper.decrypt(&blob, b"aad").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
            assert!(error.is_retryable());
        }
        scene.module.clear();
        let back = wrapper.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), b"key");
    }
}

#[tokio::test]
async fn sessions_that_were_lost_without_notice_are_opened_anew_by_the_call_that_finds_out() {
    let Some(scene) = Scene::new() else { return };
    let wrapper = scene.wrapper(once());
    let blob = wrapper.encrypt(b"key", b"").await.unwrap();
    let opened = scene.module.calls("C_OpenSession");
    // Pulled and put back while nobody looked.
    scene.module.fail("gone");
    let other = scene.wrapper(once());
    other.encrypt(b"", b"").await.unwrap_err();
    scene.module.clear();
    wrapper.decrypt(&blob, b"").await.unwrap();
    assert_eq!(scene.module.calls("C_OpenSession"), opened + 1);
    // While nothing is wrong, a call needs no new session and no login.
    let logins = scene.module.calls("C_Login");
    wrapper.decrypt(&blob, b"").await.unwrap();
    assert_eq!(scene.module.calls("C_OpenSession"), opened + 1);
    assert_eq!(scene.module.calls("C_Login"), logins);
}

#[tokio::test]
async fn a_wrapper_that_is_dropped_has_closed_its_sessions() {
    let Some(scene) = Scene::new() else { return };
    for _ in 0..20 {
        let wrapper = scene.wrapper(once());
        wrapper.encrypt(b"key", b"").await.unwrap();
        drop(wrapper);
        let calls = |function| scene.module.calls(function);
        assert_eq!(calls("C_CloseSession"), calls("C_OpenSession"));
    }
}

#[tokio::test]
async fn a_process_that_was_logged_out_logs_in_again() {
    let Some(scene) = Scene::new() else { return };
    let wrapper = scene.wrapper(once());
    let blob = wrapper.encrypt(b"key", b"").await.unwrap();
    scene.token.log_out();
    assert_eq!(wrapper.decrypt(&blob, b"").await.unwrap().expose(), b"key");
    assert_eq!(scene.module.calls("C_Login"), 2);
}

#[tokio::test]
async fn a_token_that_hangs_is_given_up_by_the_deadline_and_holds_no_more_threads_than_sessions() {
    let Some(scene) = Scene::new() else { return };
    let wrapper = scene.wrapper(impatient());
    // Where the machine is slow this may take more than an attempt.
    while wrapper.preflight().await.is_err() {}
    let before = scene.module.calls("C_EncryptInit");
    scene.module.fail("C_EncryptInit hang");
    let start = Instant::now();
    for _ in 0..3 {
        let error = wrapper.encrypt(b"key", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    // What machine and scheduler add is not the wrapper's.
    let bound = 3 * impatient().deadline() + Duration::from_secs(20);
    assert!(start.elapsed() < bound, "{:?}", start.elapsed());
    let hanging = scene.module.calls("C_EncryptInit") - before;
    assert!((1..=2).contains(&hanging), "{hanging} threads hang");
    scene.module.clear();
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = wrapper.encrypt(b"key", b"").await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[tokio::test]
async fn each_failure_has_its_kind_and_names_function_and_code() {
    let Some(scene) = Scene::new() else { return };
    for (fault, kind, source) in [
        (
            "C_OpenSession 0xb1",
            ErrorKind::Throttled,
            "C_OpenSession CKR_SESSION_COUNT",
        ),
        ("C_Login 0xa4", ErrorKind::Denied, "C_Login CKR_PIN_LOCKED"),
        ("C_Login 0xa3", ErrorKind::Denied, "C_Login CKR_PIN_EXPIRED"),
        (
            "C_EncryptInit 0x101",
            ErrorKind::Denied,
            "C_EncryptInit CKR_USER_NOT_LOGGED_IN",
        ),
        (
            "C_EncryptInit 0x68",
            ErrorKind::UnsuitableRootKey,
            "C_EncryptInit CKR_KEY_FUNCTION_NOT_PERMITTED",
        ),
        (
            "C_EncryptInit 0x70",
            ErrorKind::UnsuitableRootKey,
            "C_EncryptInit CKR_MECHANISM_INVALID",
        ),
        (
            "C_EncryptInit 0x60",
            ErrorKind::UnknownRootKey,
            "C_EncryptInit CKR_KEY_HANDLE_INVALID",
        ),
        (
            "C_Encrypt 0x21",
            ErrorKind::InvalidBlob,
            "C_Encrypt CKR_DATA_LEN_RANGE",
        ),
        (
            "C_Encrypt 0x32",
            ErrorKind::Unreachable,
            "C_Encrypt CKR_DEVICE_REMOVED",
        ),
        (
            "C_GetTokenInfo 0xe0",
            ErrorKind::Unreachable,
            "C_GetTokenInfo CKR_TOKEN_NOT_PRESENT",
        ),
        (
            "C_Encrypt 0x80000007",
            ErrorKind::Internal,
            "C_Encrypt 0x80000007",
        ),
        (
            "C_Initialize 0xa",
            ErrorKind::InvalidConfiguration,
            "C_Initialize CKR_CANT_LOCK",
        ),
    ] {
        scene.module.fail(fault);
        let wrapper = scene.wrapper(once());
        let error = wrapper.encrypt(b"key", b"").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault}: {error}");
        let told = std::error::Error::source(&error).unwrap();
        assert_eq!(told.to_string(), source);
        assert!(told.downcast_ref::<ServiceError>().is_some());
    }
    scene.module.clear();
    scene.wrapper(once()).preflight().await.unwrap();
}

#[tokio::test]
async fn a_general_error_is_the_blob_s_fault_only_if_the_key_still_opens_others() {
    let Some(scene) = Scene::new() else { return };
    let wrapper = scene.wrapper(once());
    let blob = wrapper.encrypt(b"key", b"").await.unwrap();
    // As SoftHSM answers to a wrong tag.
    let error = wrapper.decrypt(&blob, b"another aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    // And as a token that does not work any more does.
    for fault in ["C_Decrypt 0x5", "C_Decrypt 0x6", "C_Decrypt 0x30"] {
        scene.module.fail(fault);
        let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{fault}");
    }
    scene.module.fail("C_Decrypt 0x40");
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
}
