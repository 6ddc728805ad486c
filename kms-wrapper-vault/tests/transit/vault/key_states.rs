//! Keys that are missing, deleted, of another type, or that no longer serve a version.

use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::service::Vault;
use kms_wrapper_vault::{Auth, TransitWrapper};
use serde_json::json;

use super::fixture::{Key, NAME};

#[tokio::test]
async fn a_missing_key_is_not_created_even_by_a_token_that_may() {
    let Some(vault) = Vault::shared() else { return };
    let mount = vault.transit().await;
    let wrapper = |token: &str| {
        TransitWrapper::builder()
            .address(vault.url())
            .mount_path(&mount)
            .key_name(NAME)
            .auth(Auth::token(token))
            .build()
            .unwrap()
    };
    let rules = format!("path \"{mount}/*\" {{ capabilities = [\"create\", \"update\"] }}");
    let creator = vault.policy(&rules).await;
    let creator = vault.create_token(json!({ "policies": [creator] })).await;
    for token in [vault.token(), &creator] {
        let error = wrapper(token)
            .encrypt(b"plaintext", b"aad")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{error}");
    }
    let listed = vault
        .call("LIST", &format!("{mount}/keys"), &json!(null))
        .await;
    assert_eq!(listed.unwrap().status, 404, "a key was created");
}

#[tokio::test]
async fn a_key_deleted_during_use_is_unknown_and_stays_deleted() {
    let Some(key) = Key::new().await else { return };
    let wrapper = key.wrapper();
    let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    key.delete().await;
    for error in [
        wrapper.encrypt(b"plaintext", b"aad").await.unwrap_err(),
        wrapper.decrypt(&blob, b"aad").await.unwrap_err(),
        wrapper.preflight().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{error}");
        assert!(!error.is_retryable());
    }
    assert!(!key.exists().await);
}

#[tokio::test]
async fn a_missing_key_is_unknown_also_to_a_token_that_may_only_update() {
    let Some(key) = Key::new().await else { return };
    let token = key.token(&["encrypt", "decrypt"], json!({})).await;
    let wrapper = key.builder().auth(Auth::token(token)).build().unwrap();
    let blob = wrapper.encrypt(b"plaintext", b"").await.unwrap();
    key.delete().await;
    // Vault calls this one "permission denied".
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{error}");
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{error}");
}

#[tokio::test]
async fn a_mount_that_is_not_there_or_not_transit_is_named() {
    let Some(key) = Key::new().await else { return };
    for mount in ["nowhere", "cubbyhole"] {
        let builder = key.builder().mount_path(mount);
        let wrapper = builder
            .auth(Auth::token(key.vault.token()))
            .build()
            .unwrap();
        let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownRootKey, "{mount}: {error}");
        let expected = format!("{mount}/keys/{NAME}");
        assert_eq!(error.context("root_key_id"), Some(&*expected));
    }
}

#[tokio::test]
async fn keys_that_can_not_encrypt_or_bind_an_aad_are_unsuitable() {
    let Some(vault) = Vault::shared() else { return };
    let mount = vault.transit().await;
    for (name, options) in [
        ("signing", json!({ "type": "ed25519" })),
        ("rsa", json!({ "type": "rsa-2048" })),
        ("derived", json!({ "derived": true })),
        (
            "convergent",
            json!({ "derived": true, "convergent_encryption": true }),
        ),
    ] {
        vault.write(&format!("{mount}/keys/{name}"), options).await;
        let wrapper = TransitWrapper::builder()
            .address(vault.url())
            .mount_path(&mount)
            .key_name(name)
            .auth(Auth::token(vault.token()))
            .build()
            .unwrap();
        let error = wrapper.encrypt(b"plaintext", b"aad").await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::UnsuitableRootKey,
            "{name}: {error:?}"
        );
        let error = wrapper.preflight().await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::UnsuitableRootKey,
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn all_types_with_associated_data_work() {
    let Some(vault) = Vault::shared() else { return };
    let mount = vault.transit().await;
    for name in ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"] {
        vault
            .write(&format!("{mount}/keys/{name}"), json!({ "type": name }))
            .await;
        let wrapper = TransitWrapper::builder()
            .address(vault.url())
            .mount_path(&mount)
            .key_name(name)
            .auth(Auth::token(vault.token()))
            .build()
            .unwrap();
        wrapper.preflight().await.unwrap();
    }
}

#[tokio::test]
async fn a_version_below_the_least_that_decrypts_is_retired_until_that_is_lowered() {
    let Some(key) = Key::new().await else { return };
    let wrapper = key.wrapper();
    let old = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    key.rotate().await;
    key.configure(json!({ "min_decryption_version": 2 })).await;
    let error = wrapper.decrypt(&old, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RootKeyVersionRetired, "{error}");
    wrapper.preflight().await.unwrap();

    key.configure(json!({ "min_decryption_version": 1 })).await;
    assert_eq!(
        wrapper.decrypt(&old, b"aad").await.unwrap().expose(),
        b"plaintext"
    );
}

#[tokio::test]
async fn a_version_that_was_trimmed_away_is_retired() {
    let Some(key) = Key::new().await else { return };
    let wrapper = key.wrapper();
    let old = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    key.rotate().await;
    key.configure(json!({ "min_decryption_version": 2, "min_encryption_version": 2 }))
        .await;
    let path = format!("{}/keys/{NAME}/trim", key.mount);
    key.vault
        .write(&path, json!({ "min_available_version": 2 }))
        .await;
    let error = wrapper.decrypt(&old, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RootKeyVersionRetired, "{error:?}");
}

#[tokio::test]
async fn a_blob_of_a_version_that_never_was_does_not_open() {
    let Some(key) = Key::new().await else { return };
    let newer = Key::on(&key.vault).await;
    newer.rotate().await;
    let blob = newer.wrapper().encrypt(b"plaintext", b"").await.unwrap();
    let error = key.wrapper().decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error}");
}
