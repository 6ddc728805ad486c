//! An agent that adds the token itself, on a Unix socket and on a port.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::service::{Vault, variable};
use kms_wrapper_vault::{Auth, TransitWrapper};
use serde_json::json;
use tempfile::TempDir;

use super::fixture::{Key, NAME, short, until};
use super::logins::{AppRole, BOTH};

/// Vault's own agent in a process of this test, which ends with it.
struct Agent {
    process: Child,
    folder: TempDir,
}

impl Agent {
    /// `None` where there is no program to start.
    async fn start(vault: &Vault, role: &AppRole) -> Option<Self> {
        let binary = variable("vault", "KMS_TEST_VAULT_BINARY")?;
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let config = json!({
            "vault": { "address": vault.url() },
            "auto_auth": { "method": [{
                "type": "approle",
                "mount_path": format!("auth/{}", role.mount),
                "config": {
                    "role_id_file_path": file("role-id", &role.role_id),
                    "secret_id_file_path": file("secret-id", &role.secret_id),
                },
            }] },
            "api_proxy": { "use_auto_auth_token": true },
            "listener": { "unix": { "address": folder.path().join("socket"), "tls_disable": true } },
        });
        let config = file("config.json", &config.to_string());
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(binary)
            .arg("proxy")
            .arg(format!("-config={}", config.display()))
            .env_clear()
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let agent = Self { process, folder };
        until("the agent's listening", || async {
            std::os::unix::net::UnixStream::connect(agent.socket()).is_ok()
        })
        .await;
        Some(agent)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn an_agent_on_a_unix_socket_adds_the_token() {
    let Some(key) = Key::new().await else { return };
    let role = AppRole::new(&key, json!({}), BOTH).await;
    let Some(agent) = Agent::start(&key.vault, &role).await else {
        return;
    };
    let address = format!("unix://{}", agent.socket().display());
    let wrapper = TransitWrapper::builder()
        .address(&address)
        .mount_path(&key.mount)
        .key_name(NAME)
        .auth(Auth::agent())
        .limits(short())
        .build()
        .unwrap();
    assert!(format!("{wrapper:?}").contains(&address));
    // Its first login may not be done yet.
    until("the agent's login", || async {
        wrapper.preflight().await.is_ok()
    })
    .await;
    let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    let direct = key.wrapper();
    let opened = direct.decrypt(&blob, b"aad").await.unwrap();
    assert_eq!(opened.expose(), b"plaintext");
    drop(agent);
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
}

#[tokio::test]
async fn an_address_where_nothing_adds_a_token_is_denied_and_says_so() {
    let Some(key) = Key::new().await else { return };
    let wrapper = key.builder().auth(Auth::agent()).build().unwrap();
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(!error.is_retryable());
    let shown = error.to_string();
    assert!(!shown.contains("expired"), "{shown}");
}
