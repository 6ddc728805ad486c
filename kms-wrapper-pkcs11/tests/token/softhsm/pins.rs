//! Logging in, and never often enough with a wrong PIN to lock a token.

use std::io::Write as _;
use std::sync::Arc;

use kms_core::{Error, ErrorKind, Wrapper as _};
use kms_testkit::service::SoftHsm;
use kms_testkit::wrapper::assert_hidden;
use kms_wrapper_pkcs11::{Pkcs11Wrapper, Pkcs11WrapperBuilder};

use super::faulty::FaultyModule;
use super::support::{Key, builder};

const WRONG: &str = "hunter2-is-wrong";

/// Settings but for the PIN.
fn without_pin(token: &SoftHsm, key: &Key, module: &FaultyModule) -> Pkcs11WrapperBuilder {
    Pkcs11Wrapper::builder()
        .module(module.path())
        .token_label(token.token())
        .key_label(&key.label)
}

fn denied(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!error.is_retryable());
    let source = std::error::Error::source(error).map(|source| format!("{source} {source:?}"));
    assert_hidden(WRONG.as_bytes(), &format!("{error} {error:?} {source:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_pin_is_sent_to_the_token_once_however_many_ask() {
    let Some(token) = SoftHsm::own() else { return };
    let (key, module) = (Key::on(&token), FaultyModule::new());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{WRONG}").unwrap();
    let wrapper = without_pin(&token, &key, &module).pin_file(file.path());
    let wrapper = Arc::new(wrapper.sessions(4).build().unwrap());
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let wrapper = Arc::clone(&wrapper);
            tokio::spawn(async move { wrapper.encrypt(b"key", b"").await })
        })
        .collect();
    for call in calls {
        denied(&call.await.unwrap().unwrap_err());
    }
    // Nor by another wrapper of the process.
    let other = without_pin(&token, &key, &module).pin(WRONG).build();
    denied(&other.unwrap().preflight().await.unwrap_err());
    assert_eq!(module.calls("C_Login"), 1);

    // Somebody puts the right one into the file.
    std::fs::write(file.path(), format!("{}\r\n", token.pin())).unwrap();
    wrapper.preflight().await.unwrap();
    assert_eq!(module.calls("C_Login"), 2);
    assert_hidden(token.pin().as_bytes(), &format!("{wrapper:?}"));
}

#[tokio::test]
async fn no_pin_is_sent_while_the_next_wrong_one_would_lock_the_token() {
    const USER_PIN_FINAL_TRY: &str = "flags 0x20000";
    let Some(token) = SoftHsm::own() else { return };
    let (key, module) = (Key::on(&token), FaultyModule::new());
    let wrapper = without_pin(&token, &key, &module).pin(token.pin());
    let wrapper = wrapper.build().unwrap();
    module.fail(USER_PIN_FINAL_TRY);
    denied(&wrapper.preflight().await.unwrap_err());
    assert_eq!(module.calls("C_Login"), 0);
    // Somebody logged in elsewhere, and the token counts from the beginning.
    module.clear();
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn a_token_that_wants_a_pin_and_gets_none_is_denied() {
    let Some(token) = SoftHsm::own() else { return };
    let (key, module) = (Key::on(&token), FaultyModule::new());
    let settings = || without_pin(&token, &key, &module);
    denied(&settings().build().unwrap().preflight().await.unwrap_err());
    let empty = tempfile::NamedTempFile::new().unwrap();
    for file in [empty.path(), "/nowhere/pin".as_ref()] {
        let wrapper = settings().pin_file(file).build().unwrap();
        let error = wrapper.preflight().await.unwrap_err();
        denied(&error);
        assert_eq!(error.context("file"), file.to_str());
    }
    assert_eq!(module.calls("C_Login"), 0);
}

#[test]
fn a_pin_that_is_given_twice_or_is_empty_is_refused_when_the_wrapper_is_built() {
    let Some(token) = SoftHsm::shared() else {
        return;
    };
    let key = Key::on(&token);
    for settings in [
        builder(&token, &key).pin_file("/run/pin"),
        builder(&token, &key).pin(""),
    ] {
        let error = settings.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    }
}
