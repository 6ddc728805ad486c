//! Vault's transit engine: a key for each tenant, and a request for each row over a connection that is kept open.

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use kms_peers::{AAD, Peer, TENANTS, measure, runtime, tenant};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// A mount of its own, so that the keys go with it afterwards.
const MOUNT: &str = "kms-bench-transit";

struct Transit {
    client: Client,
    address: String,
    token: String,
    tenants: Vec<String>,
}

impl Transit {
    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = self
            .client
            .request(method, format!("{}/v1/{path}", self.address));
        let request = request
            .header("X-Vault-Token", &self.token)
            .body(body.to_string());
        let response = request.send().await?;
        let (status, body) = (response.status(), response.bytes().await?);
        ensure!(status.is_success(), "{path}: {status}");
        if body.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Peer for Transit {
    type Plaintext = Vec<u8>;

    async fn encrypt(&self, tenant: usize, row: &[u8]) -> Result<Vec<u8>> {
        let path = format!("{MOUNT}/encrypt/{}", self.tenants[tenant]);
        let body =
            json!({ "plaintext": BASE64.encode(row), "associated_data": BASE64.encode(AAD) });
        let answer = self.send(Method::POST, &path, &body).await?;
        let ciphertext = answer["data"]["ciphertext"].as_str();
        Ok(ciphertext.context("no ciphertext")?.into())
    }

    async fn decrypt(&self, tenant: usize, stored: &[u8]) -> Result<Vec<u8>> {
        let path = format!("{MOUNT}/decrypt/{}", self.tenants[tenant]);
        let stored = std::str::from_utf8(stored)?;
        let body = json!({ "ciphertext": stored, "associated_data": BASE64.encode(AAD) });
        let answer = self.send(Method::POST, &path, &body).await?;
        let plaintext = answer["data"]["plaintext"].as_str();
        Ok(BASE64.decode(plaintext.context("no plaintext")?.as_bytes())?)
    }
}

fn main() -> Result<()> {
    let variable = |name: &str| std::env::var(name).context(name.to_owned());
    let peer = Transit {
        client: Client::builder().build()?,
        address: variable("KMS_TEST_VAULT_ADDR")?,
        token: variable("KMS_TEST_VAULT_TOKEN")?,
        tenants: (0..TENANTS).map(tenant).collect(),
    };
    let runtime = runtime()?;
    let mounts = format!("sys/mounts/{MOUNT}");
    runtime.block_on(async {
        // Fails if a run that was stopped left it. If it isn't there, making the first key fails.
        let mount = json!({ "type": "transit" });
        let _ = peer.send(Method::POST, &mounts, &mount).await;
        for tenant in &peer.tenants {
            let path = format!("{MOUNT}/keys/{tenant}");
            peer.send(Method::POST, &path, &json!({})).await?;
        }
        anyhow::Ok(())
    })?;
    measure("vault", &runtime, &peer)?;
    runtime.block_on(peer.send(Method::DELETE, &mounts, &Value::Null))?;
    Ok(())
}
