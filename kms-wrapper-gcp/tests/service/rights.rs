//! Permissions that the caller lacks.

use kms_core::{Error, ErrorKind, Wrapper as _};
use kms_testkit::fake_cloud_kms::{CloudKmsFault, CloudKmsMethod, CloudKmsPermission};

use crate::support::{MODES, Own};

const ENCRYPT: &str = "cloudkms.cryptoKeyVersions.useToEncrypt";
const DECRYPT: &str = "cloudkms.cryptoKeyVersions.useToDecrypt";

fn assert_denied(error: &Error, permission: &str) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(!error.is_retryable());
    assert_eq!(error.context("permission"), Some(permission));
    assert!(error.to_string().contains(permission), "{error}");
}

#[tokio::test]
async fn a_denial_names_the_permission_that_is_missing() {
    for mode in MODES {
        let own = Own::start(mode).await;
        let blob = own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
        let client = own.client();
        client.deny(&own.key, &[CloudKmsPermission::Encrypt]).await;
        let error = own.wrapper.encrypt(b"x", b"").await.unwrap_err();
        assert_denied(&error, ENCRYPT);
        own.wrapper.decrypt(&blob, b"").await.unwrap();
        client.deny(&own.key, &[CloudKmsPermission::Decrypt]).await;
        let error = own.wrapper.decrypt(&blob, b"").await.unwrap_err();
        assert_denied(&error, DECRYPT);
        own.wrapper.encrypt(b"x", b"").await.unwrap();
        client.deny(&own.key, &[]).await;
        own.wrapper.decrypt(&blob, b"").await.unwrap();
    }
}

#[tokio::test]
async fn preflight_names_every_permission_that_is_missing() {
    let own = Own::start(MODES[0]).await;
    let client = own.client();
    for (denied, missing) in [
        (vec![CloudKmsPermission::Encrypt], ENCRYPT.to_owned()),
        (vec![CloudKmsPermission::Decrypt], DECRYPT.to_owned()),
        (
            vec![CloudKmsPermission::Encrypt, CloudKmsPermission::Decrypt],
            format!("{ENCRYPT}, {DECRYPT}"),
        ),
    ] {
        client.deny(&own.key, &denied).await;
        let error = own.wrapper.preflight().await.unwrap_err();
        assert_denied(&error, &missing);
        assert_eq!(error.operation(), Some("preflight"));
    }
    client.deny(&own.key, &[]).await;
    own.wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn a_denial_of_another_cause_names_its_reason_and_project_and_no_permission() {
    let own = Own::start(MODES[0]).await;
    let client = own.client();
    let blob = own.wrapper.encrypt(b"plaintext", b"").await.unwrap();
    for reason in [
        "SERVICE_DISABLED",
        "USER_PROJECT_DENIED",
        "BILLING_DISABLED",
        "SECURITY_POLICY_VIOLATED",
    ] {
        client.inject(CloudKmsFault::denied(reason)).await;
        for error in [
            own.wrapper.encrypt(b"x", b"").await.unwrap_err(),
            own.wrapper.decrypt(&blob, b"").await.unwrap_err(),
            own.wrapper.preflight().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            assert_eq!(error.context("permission"), None);
            assert_eq!(error.context("reason"), Some(reason));
            assert_eq!(error.context("project"), Some("projects/kms-testkit"));
            assert!(error.to_string().contains(reason), "{error}");
        }
        client.clear_faults().await;
    }
    assert_eq!(client.calls(CloudKmsMethod::TestIamPermissions).await, 0);
}

/// The roles for encrypting and decrypting don't have the right to look at the key.
#[tokio::test]
async fn the_right_to_look_at_the_key_is_not_needed() {
    let own = Own::start(MODES[0]).await;
    own.client()
        .deny(&own.key, &[CloudKmsPermission::Get])
        .await;
    own.wrapper.preflight().await.unwrap();
    assert_eq!(own.client().calls(CloudKmsMethod::GetCryptoKey).await, 0);
}
