//! Vault or OpenBao, as its root: the server that the environment names.

use std::fmt;
use std::time::Duration;

use kms_core::KeyBytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::service::variable;

mod process;

pub use process::{VaultListener, VaultProcess};

const ADDRESS: &str = "KMS_TEST_VAULT_ADDR";
const TOKEN: &str = "KMS_TEST_VAULT_TOKEN";

/// Far above what any call takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Vault or OpenBao with a token that may do everything there, for the preparations of a test. Plain HTTP.
///
/// Many tests share the server that `KMS_TEST_VAULT_ADDR` and `KMS_TEST_VAULT_TOKEN` name, so each makes a
/// [mount](Self::transit) of its own. Where a test stops or seals the server, it takes a [`VaultProcess`].
#[derive(Clone)]
pub struct Vault {
    host: String,
    token: String,
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct VaultAnswer {
    /// The status code.
    pub status: u16,
    /// The body; `null` if there was none.
    pub body: Value,
}

impl Vault {
    /// The server that the environment names; `None`, and a line that says so, if it names none.
    ///
    /// # Panics
    ///
    /// If it is required and not there.
    #[must_use]
    pub fn shared() -> Option<Self> {
        let address = variable("vault", ADDRESS)?;
        let token = variable("vault", TOKEN)?;
        Some(Self::at(&address, &token))
    }

    /// A server at an `http` address.
    #[must_use]
    pub fn at(address: &str, token: &str) -> Self {
        let host = address
            .strip_prefix("http://")
            .expect("tests talk plain HTTP to Vault")
            .trim_end_matches('/');
        Self {
            host: host.to_owned(),
            token: token.to_owned(),
        }
    }

    /// `http://host:port`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// The token that may do everything.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Calls `/v1/{path}`.
    ///
    /// # Errors
    ///
    /// If there is no connection, or no answer.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> std::io::Result<VaultAnswer> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} /v1/{path} HTTP/1.0\r\nhost: {}\r\nx-vault-token: {}\r\nx-vault-request: true\r\n\
             content-length: {}\r\n\r\n{body}",
            self.host,
            self.token,
            body.len(),
        );
        let exchange = async {
            let mut connection = TcpStream::connect(&self.host).await?;
            connection.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = timeout(PATIENCE, exchange).await??;
        parse(&answer).ok_or_else(|| std::io::Error::other("not an answer of HTTP"))
    }

    /// Writes, and gives what was answered.
    ///
    /// # Panics
    ///
    /// If that is not a success.
    pub async fn write(&self, path: &str, body: Value) -> Value {
        self.succeed("POST", path, body).await
    }

    /// Reads what is there.
    ///
    /// # Panics
    ///
    /// If there is nothing to read.
    pub async fn read(&self, path: &str) -> Value {
        self.succeed("GET", path, Value::Null).await
    }

    /// Deletes what is there.
    ///
    /// # Panics
    ///
    /// If that is not a success.
    pub async fn delete(&self, path: &str) {
        self.succeed("DELETE", path, Value::Null).await;
    }

    /// A new transit engine; gives its mount path.
    pub async fn transit(&self) -> String {
        let mount = format!("transit-{}", Self::unique());
        self.write(&format!("sys/mounts/{mount}"), json!({ "type": "transit" }))
            .await;
        mount
    }

    /// A new key of the default type in that engine.
    pub async fn create_key(&self, mount: &str, name: &str) {
        self.write(&format!("{mount}/keys/{name}"), json!({})).await;
    }

    /// Deletes a key for good.
    pub async fn delete_key(&self, mount: &str, name: &str) {
        let key = format!("{mount}/keys/{name}");
        self.write(
            &format!("{key}/config"),
            json!({ "deletion_allowed": true }),
        )
        .await;
        self.delete(&key).await;
    }

    /// A new policy of these rules; gives its name.
    pub async fn policy(&self, rules: &str) -> String {
        let name = format!("policy-{}", Self::unique());
        self.write(
            &format!("sys/policies/acl/{name}"),
            json!({ "policy": rules }),
        )
        .await;
        name
    }

    /// A new token, as `auth/token/create` takes its options.
    pub async fn create_token(&self, options: Value) -> String {
        let made = self.write("auth/token/create", options).await;
        let token = &made["auth"]["client_token"];
        token.as_str().expect("a token is text").to_owned()
    }

    /// Ends a token at once.
    pub async fn revoke(&self, token: &str) {
        self.write("auth/token/revoke", json!({ "token": token }))
            .await;
    }

    /// Sixteen hex digits that no other test has.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers.
    #[must_use]
    pub fn unique() -> String {
        let random = KeyBytes::generate().expect("the system has random numbers");
        let digits = u64::from_be_bytes(random.expose()[..8].try_into().expect("eight bytes"));
        format!("{digits:016x}")
    }

    async fn succeed(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(method, path, &body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        answer.body
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

fn parse(answer: &[u8]) -> Option<VaultAnswer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = serde_json::from_slice(&answer[end + 4..]).unwrap_or_default();
    Some(VaultAnswer { status, body })
}
