//! A transit key of one test.

use std::time::Duration;

use kms_core::{CallLimits, Error};
use kms_testkit::service::Vault;
use kms_wrapper_vault::{Auth, TransitWrapper, TransitWrapperBuilder};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Far above what anything takes here.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A key of the default type, alone in its engine.
pub(super) struct Key {
    pub(super) vault: Vault,
    pub(super) mount: String,
}

pub(super) const NAME: &str = "app";

impl Key {
    /// On the server that tests share; `None` without one.
    pub(super) async fn new() -> Option<Self> {
        Some(Self::on(&Vault::shared()?).await)
    }

    pub(super) async fn on(vault: &Vault) -> Self {
        let mount = vault.transit().await;
        vault.create_key(&mount, NAME).await;
        Self {
            vault: vault.clone(),
            mount,
        }
    }

    /// A builder with this key and its address, without credentials.
    pub(super) fn builder(&self) -> TransitWrapperBuilder {
        TransitWrapper::builder()
            .address(self.vault.url())
            .mount_path(&self.mount)
            .key_name(NAME)
    }

    /// A wrapper with the token that may do everything.
    pub(super) fn wrapper(&self) -> TransitWrapper {
        let builder = self.builder().auth(Auth::token(self.vault.token()));
        builder.build().unwrap()
    }

    pub(super) async fn rotate(&self) {
        let path = format!("{}/keys/{NAME}/rotate", self.mount);
        self.vault.write(&path, json!({})).await;
    }

    pub(super) async fn configure(&self, settings: Value) {
        let path = format!("{}/keys/{NAME}/config", self.mount);
        self.vault.write(&path, settings).await;
    }

    pub(super) async fn delete(&self) {
        self.vault.delete_key(&self.mount, NAME).await;
    }

    pub(super) async fn exists(&self) -> bool {
        let path = format!("{}/keys/{NAME}", self.mount);
        let answer = self.vault.call("GET", &path, &Value::Null).await.unwrap();
        answer.status == 200
    }

    /// A policy with the capability `update` on these operations of the key.
    pub(super) async fn policy(&self, operations: &[&str]) -> String {
        let rules: String = operations
            .iter()
            .map(|operation| {
                let mount = &self.mount;
                format!("path \"{mount}/{operation}/{NAME}\" {{ capabilities = [\"update\"] }}\n")
            })
            .collect();
        // Not empty even without a rule.
        self.vault.policy(&format!("# a test's\n{rules}")).await
    }

    /// A token with that policy and these options.
    pub(super) async fn token(&self, operations: &[&str], mut options: Value) -> String {
        options["policies"] = json!([self.policy(operations).await]);
        self.vault.create_token(options).await
    }

    /// What the service knows about a token; `None` if it doesn't know it.
    pub(super) async fn look_up(&self, token: &str) -> Option<Value> {
        let asked = json!({ "token": token });
        let answer = self.vault.call("POST", "auth/token/lookup", &asked).await;
        let answer = answer.unwrap();
        (answer.status == 200).then(|| answer.body["data"].clone())
    }
}

/// Waits until this holds.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} does not happen");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Bounds that let a test of a failing service end soon.
pub(super) fn short() -> CallLimits {
    CallLimits::default()
        .with_attempt_timeout(Duration::from_secs(2))
        .with_deadline(Duration::from_secs(4))
        .with_pauses(Duration::from_millis(5), Duration::from_millis(20))
}

/// An error with its causes.
pub(super) fn whole(error: &Error) -> String {
    let mut parts = vec![format!("{error} {error:?}")];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        parts.push(format!("{error} {error:?}"));
        cause = error.source();
    }
    parts.join(" / ")
}
