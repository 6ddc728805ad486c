//! Root keys in the services that the environment names, a new one for each test.

use std::env;
use std::sync::atomic::{AtomicU32, Ordering};

use data_encoding::HEXLOWER;
use kms_kit::core::KeyBytes;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

/// A root key and how an engine gets at it.
pub(crate) struct Root {
    kind: Kind,
    /// What a `RootWrapper` is made from.
    pub(crate) url: String,
    /// What it reads from the environment besides.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What the blobs that it wraps carry, in full or as a beginning.
    pub(crate) key_id: String,
    /// How its service names it.
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Aead,
    Aws,
    Gcp,
    Vault,
}

impl Root {
    /// A new key of this kind. `None`, and a line that says so, if its service is not there and not required.
    pub(crate) async fn new(kind: Kind) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{number}", std::process::id());
        match kind {
            Kind::Aead => Some(aead(name)),
            Kind::Aws => Some(aws(&service("aws", "KMS_TEST_AWS_ENDPOINT")?).await),
            Kind::Gcp => Some(gcp(&service("gcp", "KMS_TEST_GCP_ENDPOINT")?, name).await),
            Kind::Vault => Some(vault(&service("vault", "KMS_TEST_VAULT_ADDR")?, name).await),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Takes it out of use for good, as its service does that.
    pub(crate) async fn shut_down(&self) {
        match self.kind {
            // Nobody is given the variable any more.
            Kind::Aead => {}
            Kind::Aws => {
                let endpoint = env::var("KMS_TEST_AWS_ENDPOINT").unwrap();
                let order = json!({"KeyId": self.name, "PendingWindowInDays": 7});
                answer(aws_call(&endpoint, "ScheduleKeyDeletion", &order)).await;
            }
            Kind::Gcp => {
                let endpoint = env::var("KMS_TEST_GCP_ENDPOINT").unwrap();
                let version = format!("{}/cryptoKeyVersions/1", self.name);
                let url = format!("{}/v1/{version}:destroy", endpoint.trim_end_matches('/'));
                answer(Client::new().post(url).json(&json!({}))).await;
            }
            Kind::Vault => {
                let address = env::var("KMS_TEST_VAULT_ADDR").unwrap();
                let key = format!("{address}/v1/{}", self.name);
                let allowed = json!({"deletion_allowed": true});
                vault_call(Client::new().post(format!("{key}/config")).json(&allowed)).await;
                vault_call(Client::new().delete(key)).await;
            }
        }
    }
}

/// The value of a service's variable.
fn service(name: &str, variable: &str) -> Option<String> {
    if let Ok(value) = env::var(variable) {
        return Some(value);
    }
    let required = env::var("KMS_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|required| required.trim() == name),
        "{name} is required, and {variable} is not set"
    );
    eprintln!("skipped: {name} ({variable} is not set)");
    None
}

fn aead(name: String) -> Root {
    let key = HEXLOWER.encode(KeyBytes::generate().unwrap().expose());
    Root {
        kind: Kind::Aead,
        url: format!("aead:env:KMS_TEST_LOCAL_KEY?key_id={name}"),
        environment: vec![("KMS_TEST_LOCAL_KEY", key)],
        key_id: name.clone(),
        name,
    }
}

async fn aws(endpoint: &str) -> Root {
    let made = answer(aws_call(endpoint, "CreateKey", &json!({}))).await;
    let arn = made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    Root {
        kind: Kind::Aws,
        url: format!("awskms:///{arn}?region=us-east-1&endpoint={endpoint}"),
        environment: vec![
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ],
        key_id: arn.clone(),
        name: arn,
    }
}

fn aws_call(endpoint: &str, operation: &str, order: &Value) -> RequestBuilder {
    Client::new()
        .post(endpoint)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("TrentService.{operation}"))
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0",
        )
        .body(order.to_string())
}

async fn gcp(endpoint: &str, name: String) -> Root {
    let endpoint = endpoint.trim_end_matches('/');
    let location = "projects/test/locations/global";
    let ring = format!("{endpoint}/v1/{location}/keyRings?keyRingId={name}");
    answer(Client::new().post(ring).json(&json!({}))).await;
    let ring = format!("{location}/keyRings/{name}");
    let key = format!("{endpoint}/v1/{ring}/cryptoKeys?cryptoKeyId=root");
    let purpose = json!({"purpose": "ENCRYPT_DECRYPT"});
    answer(Client::new().post(key).json(&purpose)).await;
    let key = format!("{ring}/cryptoKeys/root");
    Root {
        kind: Kind::Gcp,
        url: format!("gcpkms://{key}?endpoint={endpoint}&credentials=anonymous"),
        environment: Vec::new(),
        key_id: format!("{key}/cryptoKeyVersions/1"),
        name: key,
    }
}

async fn vault(address: &str, name: String) -> Root {
    let address = address.trim_end_matches('/');
    let mount = format!("{address}/v1/sys/mounts/{name}");
    vault_call(Client::new().post(mount).json(&json!({"type": "transit"}))).await;
    let key = format!("{name}/keys/root");
    vault_call(
        Client::new()
            .post(format!("{address}/v1/{key}"))
            .json(&json!({})),
    )
    .await;
    let url = format!("vault+{address}/{key}?key_id_prefix={name}-");
    Root {
        kind: Kind::Vault,
        url,
        environment: vec![("VAULT_TOKEN", env::var("KMS_TEST_VAULT_TOKEN").unwrap())],
        key_id: format!("{name}-v1"),
        name: key,
    }
}

async fn vault_call(request: RequestBuilder) {
    let token = env::var("KMS_TEST_VAULT_TOKEN").unwrap();
    let response = request.header("x-vault-token", token).send().await.unwrap();
    let response = response.error_for_status().unwrap();
    response.bytes().await.unwrap();
}

async fn answer(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {body}");
    serde_json::from_str(&body).unwrap()
}
