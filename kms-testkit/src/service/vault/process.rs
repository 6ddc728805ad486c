//! A Vault of one test.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::port::ReservedPort;
use crate::service::variable;
use crate::service::vault::Vault;

const BINARY: &str = "KMS_TEST_VAULT_BINARY";

/// Far above what it takes, a second on an idle machine.
const START: Duration = Duration::from_secs(120);

/// Vault or OpenBao in a process of this test, which may seal it, stop it, and start it again on the same ports.
///
/// Its keys are in files, so they survive that. Dropping it ends the process and removes its files.
///
/// `KMS_TEST_VAULT_BINARY` names the program.
#[derive(Debug)]
pub struct VaultProcess {
    binary: PathBuf,
    port: ReservedPort,
    cluster_port: ReservedPort,
    tls: Option<(ReservedPort, Value)>,
    folder: PathBuf,
    process: Option<Child>,
    vault: Vault,
    unseal_key: String,
}

/// A listener with TLS: PEM, all of it.
#[derive(Clone, Copy, Debug)]
pub struct VaultListener<'a> {
    /// The server's certificate, with those that lead from it to its CA.
    pub certificate: &'a str,
    /// The key of that certificate.
    pub key: &'a str,
    /// The CA of clients, if they have to show a certificate.
    pub client_ca: Option<&'a str>,
}

impl VaultProcess {
    /// Starts one, unsealed; `None` where there is none to start, as [`variable`] says.
    ///
    /// # Panics
    ///
    /// If it does not start, or is required and not there.
    pub async fn start_own() -> Option<Self> {
        Self::start_new(None).await
    }

    /// Starts one that listens with TLS too.
    ///
    /// # Panics
    ///
    /// As [`start_own`](Self::start_own).
    pub async fn start_with_tls(listener: VaultListener<'_>) -> Option<Self> {
        Self::start_new(Some(listener)).await
    }

    async fn start_new(listener: Option<VaultListener<'_>>) -> Option<Self> {
        let binary = variable("vault", BINARY)?;
        let folder = std::env::temp_dir().join(format!("kms-vault-{}", Vault::unique()));
        fs::create_dir_all(folder.join("data"))
            .expect("the folder for temporary files takes another one");
        let port = ReservedPort::new().expect("the system has a free port");
        let address = format!("http://{}", port.address());
        let mut service = Self {
            binary: binary.into(),
            port,
            cluster_port: ReservedPort::new().expect("the system has a free port"),
            tls: None,
            folder,
            process: None,
            vault: Vault::at(&address, ""),
            unseal_key: String::new(),
        };
        if let Some(listener) = listener {
            service.add_tls(listener);
        }
        service.start().await;
        service.initialize().await;
        service.unseal().await;
        Some(service)
    }

    /// The server, as its root.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// `https://127.0.0.1:port`.
    ///
    /// # Panics
    ///
    /// If it was started without TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        let (port, _) = self.tls.as_ref().expect("it was started with TLS");
        format!("https://{}", port.address())
    }

    /// Seals it: it forgets its keys until it is unsealed.
    pub async fn seal(&self) {
        self.vault.write("sys/seal", json!({})).await;
    }

    /// Unseals it, and waits until it serves.
    ///
    /// # Panics
    ///
    /// If it doesn't within two minutes.
    pub async fn unseal(&self) {
        self.vault
            .write("sys/unseal", json!({ "key": self.unseal_key }))
            .await;
        let deadline = Instant::now() + START;
        loop {
            let health = self.vault.call("GET", "sys/health", &Value::Null).await;
            if health.is_ok_and(|health| health.status == 200) {
                return;
            }
            assert!(Instant::now() < deadline, "Vault stays sealed");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills the process. Connections to the ports are refused from then on.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it after a [`stop`](Self::stop), on the same ports. It is sealed.
    ///
    /// # Panics
    ///
    /// If it does not start within two minutes.
    pub async fn start(&mut self) {
        let config = self.folder.join("config.json");
        let log = self.folder.join("log");
        fs::write(&config, self.config().to_string()).expect("a file can be written there");
        let output = File::create(&log).expect("a file can be created there");
        let errors = output.try_clone().expect("a file handle can be cloned");
        let process = Command::new(&self.binary)
            .arg("server")
            .arg(format!("-config={}", config.display()))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.folder)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("the program of Vault starts");
        self.process = Some(process);
        let deadline = Instant::now() + START;
        while self
            .vault
            .call("GET", "sys/seal-status", &Value::Null)
            .await
            .is_err()
        {
            let ended = self
                .process
                .as_mut()
                .is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            assert!(
                !ended && Instant::now() < deadline,
                "Vault does not start: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn initialize(&mut self) {
        let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = self.vault.write("sys/init", shares).await;
        let text = |value: &Value| value.as_str().expect("it is text").to_owned();
        self.unseal_key = text(&made["keys_base64"][0]);
        self.vault = Vault::at(&self.vault.url(), &text(&made["root_token"]));
    }

    fn add_tls(&mut self, listener: VaultListener<'_>) {
        let port = ReservedPort::new().expect("the system has a free port");
        let file = |name: &str, text: &str| {
            let path = self.folder.join(name);
            fs::write(&path, text).expect("a file can be written there");
            path
        };
        let mut settings = json!({
            "address": port.address().to_string(),
            "cluster_address": self.cluster_port.address().to_string(),
            "tls_cert_file": file("certificate.pem", listener.certificate),
            "tls_key_file": file("key.pem", listener.key),
        });
        if let Some(ca) = listener.client_ca {
            settings["tls_client_ca_file"] = json!(file("client-ca.pem", ca));
            settings["tls_require_and_verify_client_cert"] = json!(true);
        }
        self.tls = Some((port, settings));
    }

    fn config(&self) -> Value {
        let cluster = self.cluster_port.address().to_string();
        let plain = json!({
            "address": self.port.address().to_string(),
            "cluster_address": cluster,
            "tls_disable": true,
        });
        let listeners: Vec<Value> = std::iter::once(&plain)
            .chain(self.tls.as_ref().map(|(_, settings)| settings))
            .map(|settings| json!({ "tcp": settings }))
            .collect();
        json!({
            // The one storage on disk that every build has.
            "storage": { "raft": {
                "path": self.folder.join("data"),
                "node_id": "alone",
                "performance_multiplier": 1,
            } },
            "listener": listeners,
            "api_addr": self.vault.url(),
            "cluster_addr": format!("https://{cluster}"),
            "disable_mlock": true,
        })
    }
}

impl Drop for VaultProcess {
    fn drop(&mut self) {
        self.stop();
        // What is left there is small, and in the way of nothing.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
