//! Tokens that were given: renewed, ended, exchanged.

use std::time::Duration;

use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::wrapper::assert_hidden;
use kms_wrapper_vault::Auth;
use serde_json::json;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;

use super::fixture::{Key, until, whole};

const BOTH: &[&str] = &["encrypt", "decrypt"];

#[tokio::test]
async fn a_token_is_renewed_in_the_background_until_the_wrapper_is_dropped() {
    let Some(key) = Key::new().await else { return };
    let token = key
        .token(BOTH, json!({ "ttl": "6s", "renewable": true }))
        .await;
    let wrapper = key.builder().auth(Auth::token(&token)).build().unwrap();
    wrapper.encrypt(b"plaintext", b"").await.unwrap();
    until("a renewal", || async {
        let known = key.look_up(&token).await.expect("the token lives on");
        known["last_renewal"].is_string()
    })
    .await;
    drop(wrapper);
    until("the end of the token", || async {
        key.look_up(&token).await.is_none()
    })
    .await;
}

#[tokio::test]
async fn with_renewal_disabled_it_is_not_renewed() {
    let Some(key) = Key::new().await else { return };
    let token = key
        .token(BOTH, json!({ "ttl": "4s", "renewable": true }))
        .await;
    let builder = key.builder().auth(Auth::token(&token)).disable_renewal();
    let wrapper = builder.build().unwrap();
    wrapper.encrypt(b"plaintext", b"").await.unwrap();
    until("the end of the token", || async {
        key.look_up(&token).await.is_none()
    })
    .await;
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_revoked_token_is_denied_and_the_error_says_what_to_do() {
    let Some(key) = Key::new().await else { return };
    let token = key.token(BOTH, json!({})).await;
    let wrapper = key.builder().auth(Auth::token(&token)).build().unwrap();
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    key.vault.revoke(&token).await;
    for error in [
        wrapper.encrypt(b"plaintext", b"").await.unwrap_err(),
        wrapper.decrypt(&blob, b"").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("a new one is needed"), "{error}");
        assert_hidden(token.as_bytes(), &whole(&error));
    }
}

#[tokio::test]
async fn a_new_token_in_the_file_needs_no_restart() {
    let Some(key) = Key::new().await else { return };
    let first = key.token(BOTH, json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sink");
    std::fs::write(&file, format!("{first}\n")).unwrap();
    let wrapper = key.builder().auth(Auth::token_file(&file)).build().unwrap();
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();

    key.vault.revoke(&first).await;
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);

    std::fs::write(&file, key.token(BOTH, json!({})).await).unwrap();
    let back = wrapper.decrypt(&blob, b"").await.unwrap();
    assert_eq!(back.expose(), b"plaintext");
}

#[tokio::test]
async fn a_token_file_that_is_missing_or_holds_something_else_is_denied_by_name() {
    let Some(key) = Key::new().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sink");
    let wrapper = key.builder().auth(Auth::token_file(&file)).build().unwrap();
    for text in [None, Some(""), Some("two words"), Some("a\nb")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{text:?}");
        assert_eq!(error.context("file"), file.to_str());
    }
}

#[tokio::test]
async fn a_dropped_wrapper_leaves_no_task_behind() {
    let Some(key) = Key::new().await else { return };
    let token = key
        .token(BOTH, json!({ "ttl": "1h", "renewable": true }))
        .await;
    let wrapper = key.builder().auth(Auth::token(token)).build().unwrap();
    wrapper.preflight().await.unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    assert!(tasks() > 0, "something keeps the token");
    drop(wrapper);
    until("the end of its tasks", || async { tasks() == 0 }).await;
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A connection of a runtime that stands still answers nobody, and neither does a task in it.
#[test]
fn a_wrapper_works_from_one_runtime_after_another_and_renews_from_the_one_in_use() {
    let (first, second) = (runtime(), runtime());
    let Some(key) = second.block_on(Key::new()) else {
        return;
    };
    let token = second.block_on(key.token(BOTH, json!({ "ttl": "12s", "renewable": true })));
    let wrapper = key.builder().auth(Auth::token(&token)).build().unwrap();
    let blob = first.block_on(wrapper.encrypt(b"plaintext", b"")).unwrap();
    // Time for the background task to look the token up; from here on it stands still.
    let start = Instant::now();
    first.block_on(until("a moment", || async {
        start.elapsed() > Duration::from_millis(500)
    }));
    for runtime in [&second, &first, &second] {
        let back = runtime.block_on(wrapper.decrypt(&blob, b"")).unwrap();
        assert_eq!(back.expose(), b"plaintext");
    }
    second.block_on(until("the token's last moments", || async {
        let known = key.look_up(&token).await.expect("the token lives");
        assert!(known["last_renewal"].is_null(), "something renewed it");
        known["ttl"].as_u64().unwrap() <= 1
    }));
    second.block_on(wrapper.decrypt(&blob, b"")).unwrap();
    let known = second.block_on(key.look_up(&token)).unwrap();
    assert!(
        known["last_renewal"].is_string(),
        "the call did not renew it"
    );
}

#[test]
fn a_runtime_that_is_gone_takes_nothing_along() {
    let Some(key) = runtime().block_on(Key::new()) else {
        return;
    };
    let token = runtime().block_on(key.token(BOTH, json!({ "ttl": "6s", "renewable": true })));
    let wrapper = key.builder().auth(Auth::token(&token)).build().unwrap();
    for _ in 0..6 {
        runtime().block_on(wrapper.preflight()).unwrap();
    }
    // The last one lives, and what keeps the token is in it.
    let last = runtime();
    last.block_on(wrapper.preflight()).unwrap();
    last.block_on(until("a renewal", || async {
        let known = key.look_up(&token).await.expect("the token lives on");
        known["last_renewal"].is_string()
    }));
}
