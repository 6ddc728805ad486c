//! What an operator of the service does with it, and how tests disturb it: over HTTP, so also from another process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{CloudKmsFault, CloudKmsMethod};

/// A client of a fake Cloud KMS, in this process or another. It panics where the fake refuses.
#[derive(Clone, Debug)]
pub struct FakeCloudKmsClient {
    url: String,
    address: String,
}

/// What can be denied to the caller for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloudKmsPermission {
    /// `cloudkms.cryptoKeyVersions.useToEncrypt`
    Encrypt,
    /// `cloudkms.cryptoKeyVersions.useToDecrypt`
    Decrypt,
    /// `cloudkms.cryptoKeys.get`
    Get,
}

impl CloudKmsPermission {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Encrypt, Self::Decrypt, Self::Get];

    /// The name that it has in IAM.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "cloudkms.cryptoKeyVersions.useToEncrypt",
            Self::Decrypt => "cloudkms.cryptoKeyVersions.useToDecrypt",
            Self::Get => "cloudkms.cryptoKeys.get",
        }
    }
}

impl FakeCloudKmsClient {
    /// For the fake at this base URL, `http://127.0.0.1:4321`.
    ///
    /// # Panics
    ///
    /// If the URL is not one of `http`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        let address = url
            .strip_prefix("http://")
            .expect("the fake speaks plain HTTP")
            .to_owned();
        Self { url, address }
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a key that encrypts, with one version, in a key ring of its own. Gives its full name.
    pub async fn create_key(&self) -> String {
        self.create_key_as(&json!({ "purpose": "ENCRYPT_DECRYPT" }))
            .await
    }

    /// Makes a key that signs, which can't encrypt.
    pub async fn create_signing_key(&self) -> String {
        let key = json!({
            "purpose": "ASYMMETRIC_SIGN",
            "versionTemplate": { "algorithm": "EC_SIGN_P256_SHA256" },
        });
        self.create_key_as(&key).await
    }

    /// Makes a key from this `CryptoKey`, in a key ring of its own. Gives its full name.
    pub async fn create_key_as(&self, key: &Value) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let ring = format!("ring-{}-{number}", std::process::id());
        let location = "projects/kms-testkit/locations/global";
        let path = format!("v1/{location}/keyRings?keyRingId={ring}");
        self.call("POST", &path, &json!({})).await;
        let name = format!("{location}/keyRings/{ring}/cryptoKeys");
        self.call("POST", &format!("v1/{name}?cryptoKeyId=key"), key)
            .await;
        format!("{name}/key")
    }

    /// Adds a version to a key and makes it the primary one. Gives the version's name.
    pub async fn rotate(&self, key: &str) -> String {
        let path = format!("v1/{key}/cryptoKeyVersions");
        let version = self.call("POST", &path, &json!({})).await;
        let name = version["name"].as_str().unwrap().to_owned();
        let id = name.rsplit('/').next().unwrap();
        let path = format!("v1/{key}:updatePrimaryVersion");
        self.call("POST", &path, &json!({ "cryptoKeyVersionId": id }))
            .await;
        name
    }

    /// Disables a key version.
    pub async fn disable(&self, version: &str) {
        self.set_state(version, "DISABLED").await;
    }

    /// Enables a key version that was disabled.
    pub async fn enable(&self, version: &str) {
        self.set_state(version, "ENABLED").await;
    }

    /// Schedules a key version for destruction.
    pub async fn destroy(&self, version: &str) {
        self.call("POST", &format!("v1/{version}:destroy"), &json!({}))
            .await;
    }

    /// Takes a scheduled destruction back; the version is disabled then.
    pub async fn restore(&self, version: &str) {
        self.call("POST", &format!("v1/{version}:restore"), &json!({}))
            .await;
    }

    /// Makes a scheduled destruction happen now.
    pub async fn finish_destruction(&self, version: &str) {
        let body = json!({ "version": version });
        self.call("POST", "_fake/destructions", &body).await;
    }

    /// Denies this of a key to any caller, and allows the rest.
    pub async fn deny(&self, key: &str, permissions: &[CloudKmsPermission]) {
        let body = json!({ "key": key, "denied": permissions });
        self.call("POST", "_fake/denials", &body).await;
    }

    /// From now on, calls need this bearer token; `None` lets anyone in.
    pub async fn demand_token(&self, token: Option<&str>) {
        match token {
            Some(token) => {
                let body = json!({ "token": token });
                self.call("POST", "_fake/token", &body).await
            }
            None => self.call("DELETE", "_fake/token", &json!({})).await,
        };
    }

    /// Adds a fault.
    pub async fn inject(&self, fault: CloudKmsFault) {
        self.call("POST", "_fake/faults", &json!(fault)).await;
    }

    /// Takes back all faults.
    pub async fn clear_faults(&self) {
        self.call("DELETE", "_fake/faults", &json!({})).await;
    }

    /// How often this method was called.
    pub async fn calls(&self, method: CloudKmsMethod) -> u64 {
        let calls = self.call("GET", "_fake/calls", &json!({})).await;
        let calls: BTreeMap<CloudKmsMethod, u64> = serde_json::from_value(calls).unwrap();
        calls.get(&method).copied().unwrap_or_default()
    }

    /// Counts calls from zero.
    pub async fn forget_calls(&self) {
        self.call("DELETE", "_fake/calls", &json!({})).await;
    }

    /// Any request: gives the status code and the body. `path` has no slash at its start.
    pub async fn request(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address)
            .await
            .expect("the fake Cloud KMS runs");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        let response = String::from_utf8(response).unwrap();
        let (head, body) = response
            .split_once("\r\n\r\n")
            .expect("a response has a head");
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn set_state(&self, version: &str, state: &str) {
        let path = format!("v1/{version}?updateMask=state");
        self.call("PATCH", &path, &json!({ "state": state })).await;
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (code, answer) = self.request(method, path, body).await;
        assert_eq!(code, 200, "{method} {path}: {answer}");
        answer
    }
}
