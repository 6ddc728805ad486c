//! What a token may do, and how a refusal names what it may not.

use kms_core::{ErrorKind, Wrapper as _};
use kms_wrapper_vault::Auth;
use serde_json::json;

use super::fixture::{Key, NAME};

#[tokio::test]
async fn update_on_both_paths_is_enough() {
    let Some(key) = Key::new().await else { return };
    let token = key.token(&["encrypt", "decrypt"], json!({})).await;
    let wrapper = key.builder().auth(Auth::token(token)).build().unwrap();
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn it_is_enough_also_without_the_default_policy() {
    let Some(key) = Key::new().await else { return };
    let token = key
        .token(
            &["encrypt", "decrypt"],
            json!({ "no_default_policy": true }),
        )
        .await;
    let wrapper = key.builder().auth(Auth::token(token)).build().unwrap();
    wrapper.preflight().await.unwrap();
    key.delete().await;
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Denied,
        "nobody may say why: {error}"
    );
}

#[tokio::test]
async fn preflight_names_every_right_that_is_missing() {
    let Some(key) = Key::new().await else { return };
    let on = |operation: &str| format!("update on {}/{operation}/{NAME}", key.mount);
    for (granted, missing) in [
        (&["encrypt"][..], on("decrypt")),
        (&["decrypt"], on("encrypt")),
        (&[], format!("{}, {}", on("encrypt"), on("decrypt"))),
    ] {
        let token = key.token(granted, json!({})).await;
        let wrapper = key.builder().auth(Auth::token(token)).build().unwrap();
        let error = wrapper.preflight().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.operation(), Some("preflight"));
        assert_eq!(error.context("permission"), Some(&*missing));
    }
}

#[tokio::test]
async fn a_refused_call_names_the_right_and_works_once_it_is_granted() {
    let Some(key) = Key::new().await else { return };
    let policy = key.policy(&["decrypt"]).await;
    let token = key
        .vault
        .create_token(json!({ "policies": [policy] }))
        .await;
    let wrapper = key.builder().auth(Auth::token(token)).build().unwrap();
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let missing = format!("update on {}/encrypt/{NAME}", key.mount);
    assert_eq!(error.context("permission"), Some(&*missing));
    assert!(!error.is_retryable());

    let rules = format!("path \"{}/*\" {{ capabilities = [\"update\"] }}", key.mount);
    key.vault
        .write(
            &format!("sys/policies/acl/{policy}"),
            json!({ "policy": rules }),
        )
        .await;
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn a_token_without_rights_is_not_logged_in_for_again() {
    let Some(key) = Key::new().await else { return };
    let role = super::logins::AppRole::new(&key, json!({ "secret_id_num_uses": 1 }), &[]).await;
    let wrapper = key.builder().auth(role.auth()).build().unwrap();
    for _ in 0..3 {
        let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        // A second login would be refused, and that would be the error.
        assert!(error.context("permission").is_some(), "{error}");
    }
}

/// Vault says "permission denied" to both, with the same words.
#[tokio::test]
async fn a_policy_that_forbids_a_parameter_is_denied_and_no_missing_key() {
    let Some(key) = Key::new().await else { return };
    let mount = &key.mount;
    let rule = |operation: &str, more: &str| {
        format!("path \"{mount}/{operation}/{NAME}\" {{ capabilities = [\"update\"]\n{more} }}\n")
    };
    let no_binding = "denied_parameters = { \"associated_data\" = [] }";
    let only_plaintext = "allowed_parameters = { \"plaintext\" = [] }";
    let wrapper = async |rules: String| {
        let policy = key.vault.policy(&rules).await;
        let token = key
            .vault
            .create_token(json!({ "policies": [policy] }))
            .await;
        key.builder().auth(Auth::token(token)).build().unwrap()
    };
    let both = wrapper(rule("encrypt", no_binding) + &rule("decrypt", no_binding)).await;
    let encrypting = wrapper(rule("encrypt", only_plaintext)).await;
    let blob = both.encrypt(b"plaintext", b"").await.unwrap();
    for error in [
        both.encrypt(b"plaintext", b"aad").await.unwrap_err(),
        both.decrypt(&blob, b"aad").await.unwrap_err(),
        both.preflight().await.unwrap_err(),
        encrypting.encrypt(b"plaintext", b"").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(
            error.to_string().contains("allowed_parameters"),
            "{error:?}"
        );
        assert!(error.context("path").is_some(), "{error:?}");
    }
    key.delete().await;
    let error = both.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{error:?}");
    // Without the right to decrypt nothing tells, and the error names both.
    let error = encrypting.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("no such key"), "{error:?}");
}
