//! Whether the environment has a say.

use std::process::Command;

use kms_core::Wrapper as _;
use kms_wrapper_vault::{Auth, TransitWrapper};

use super::fixture::{Key, NAME};

pub(crate) const CHILD: &str = "KMS_TEST_IN_CHILD";

/// Runs this test again in a process with these variables.
pub(crate) fn in_child(test: &str, variables: &[(&str, &str)]) {
    let outcome = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(
        outcome.status.success(),
        "{}{}",
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr)
    );
}

#[tokio::test]
async fn without_from_env_explicit_settings_alone_decide() {
    let Some(key) = Key::new().await else { return };
    if std::env::var_os(CHILD).is_some() {
        key.wrapper().preflight().await.unwrap();
        key.builder().build().expect_err("a token from nowhere");
        let https = key
            .builder()
            .address("https://127.0.0.1:1")
            .auth(Auth::token("t"));
        https
            .build()
            .expect("nobody reads the certificates that the variables name");
        return;
    }
    let nowhere = "http://127.0.0.1:9";
    in_child(
        "vault::environment::without_from_env_explicit_settings_alone_decide",
        &[
            ("VAULT_ADDR", nowhere),
            ("VAULT_TOKEN", "not-this-one"),
            ("VAULT_NAMESPACE", "nowhere"),
            ("VAULT_CACERT", "/nowhere"),
            ("VAULT_CAPATH", "/nowhere"),
            ("VAULT_CLIENT_CERT", "/nowhere"),
            ("VAULT_CLIENT_KEY", "/nowhere"),
            ("VAULT_SKIP_VERIFY", "true"),
            ("VAULT_TLS_SERVER_NAME", "nowhere"),
            ("HTTP_PROXY", nowhere),
            ("http_proxy", nowhere),
            ("HTTPS_PROXY", nowhere),
            ("https_proxy", nowhere),
            ("ALL_PROXY", nowhere),
        ],
    );
}

#[tokio::test]
async fn from_env_takes_all_that_go_s_wrapper_takes() {
    if std::env::var_os(CHILD).is_some() {
        let wrapper = TransitWrapper::from_env().build().unwrap();
        wrapper.preflight().await.unwrap();
        return;
    }
    let Some(key) = Key::new().await else { return };
    in_child(
        "vault::environment::from_env_takes_all_that_go_s_wrapper_takes",
        &[
            ("VAULT_ADDR", &key.vault.url()),
            ("VAULT_TOKEN", key.vault.token()),
            ("TRANSIT_WRAPPER_MOUNT_PATH", &key.mount),
            ("VAULT_TRANSIT_SEAL_MOUNT_PATH", "nowhere"),
            ("VAULT_TRANSIT_SEAL_KEY_NAME", NAME),
            ("TRANSIT_WRAPPER_DISABLE_RENEWAL", "true"),
        ],
    );
}
