//! The methods `approle` and `kubernetes`: logging in, and logging in again.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::FaultyProxy;
use kms_testkit::service::Vault;
use kms_testkit::wrapper::assert_hidden;
use kms_wrapper_vault::{Auth, TransitWrapper};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::fixture::{Key, PATIENCE, until, whole};

/// A role for one key, in a login method of its own.
pub(super) struct AppRole {
    pub(super) mount: String,
    pub(super) role_id: String,
    pub(super) secret_id: String,
}

impl AppRole {
    pub(super) async fn new(key: &Key, mut options: Value, operations: &[&str]) -> Self {
        let vault = &key.vault;
        let mount = format!("approle-{}", Vault::unique());
        vault
            .write(&format!("sys/auth/{mount}"), json!({ "type": "approle" }))
            .await;
        options["token_policies"] = json!([key.policy(operations).await]);
        let role = format!("auth/{mount}/role/app");
        vault.write(&role, options).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let role_id = text(&vault.read(&format!("{role}/role-id")).await["data"]["role_id"]);
        let secret = vault.write(&format!("{role}/secret-id"), json!({})).await;
        Self {
            mount,
            role_id,
            secret_id: text(&secret["data"]["secret_id"]),
        }
    }

    pub(super) fn auth(&self) -> Auth {
        Auth::app_role(&self.role_id, &self.secret_id).mount(&self.mount)
    }

    /// Ends every token that it gave.
    async fn revoke_all(&self, vault: &Vault) {
        let path = format!("sys/leases/revoke-prefix/auth/{}", self.mount);
        vault.write(&path, json!({})).await;
    }
}

pub(super) const BOTH: &[&str] = &["encrypt", "decrypt"];

#[tokio::test]
async fn it_logs_in_by_app_role() {
    let Some(key) = Key::new().await else { return };
    let role = AppRole::new(&key, json!({}), BOTH).await;
    let wrapper = key.builder().auth(role.auth()).build().unwrap();
    wrapper.preflight().await.unwrap();
    let shown = format!("{wrapper:?} {:?}", key.builder().auth(role.auth()));
    assert_hidden(role.secret_id.as_bytes(), &shown);
}

#[tokio::test]
async fn the_secret_id_may_come_from_a_file_that_is_read_at_each_login() {
    let Some(key) = Key::new().await else { return };
    let role = AppRole::new(&key, json!({}), BOTH).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret-id");
    let auth = Auth::app_role_with_secret_file(&role.role_id, &file).mount(&role.mount);
    let wrapper = key.builder().auth(auth).build().unwrap();
    let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Denied,
        "there is no file yet: {error}"
    );
    std::fs::write(&file, format!("{}\n", role.secret_id)).unwrap();
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn a_refused_login_is_denied_names_it_and_shows_no_secret() {
    let Some(key) = Key::new().await else { return };
    let role = AppRole::new(&key, json!({}), BOTH).await;
    let wrong = "5b2d3c0e-8c80-4f0e-a1e4-aaaaaaaaaaaa";
    for auth in [
        Auth::app_role(&role.role_id, wrong).mount(&role.mount),
        Auth::app_role("nobody", wrong).mount(&role.mount),
        Auth::app_role(&role.role_id, wrong).mount("nowhere"),
    ] {
        let wrapper = key.builder().auth(auth).build().unwrap();
        let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(error.context("login").unwrap().starts_with("auth/"));
        assert_hidden(wrong.as_bytes(), &whole(&error));
    }
}

#[tokio::test]
async fn a_revoked_token_costs_one_login_however_many_calls_find_out() {
    let Some(key) = Key::new().await else { return };
    // The first login and one more: a third would be refused.
    let role = AppRole::new(&key, json!({ "secret_id_num_uses": 2 }), BOTH).await;
    let wrapper = Arc::new(key.builder().auth(role.auth()).build().unwrap());
    wrapper.preflight().await.unwrap();
    role.revoke_all(&key.vault).await;
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let wrapper = Arc::clone(&wrapper);
            tokio::spawn(async move { wrapper.encrypt(b"plaintext", b"").await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn many_first_calls_log_in_once() {
    let Some(key) = Key::new().await else { return };
    let role = AppRole::new(&key, json!({ "secret_id_num_uses": 1 }), BOTH).await;
    let wrapper = Arc::new(key.builder().auth(role.auth()).build().unwrap());
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let wrapper = Arc::clone(&wrapper);
            tokio::spawn(async move { wrapper.encrypt(b"plaintext", b"").await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

/// No call fails while tokens come and go under it.
async fn works_past(wrapper: &TransitWrapper, lifetime: Duration) {
    let end = Instant::now() + lifetime;
    while Instant::now() < end {
        wrapper.encrypt(b"plaintext", b"").await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn after_the_maximum_lifetime_of_a_token_it_logs_in_again() {
    let Some(key) = Key::new().await else { return };
    let options = json!({ "token_ttl": "3s", "token_max_ttl": "5s" });
    let role = AppRole::new(&key, options, BOTH).await;
    let wrapper = key.builder().auth(role.auth()).build().unwrap();
    works_past(&wrapper, Duration::from_secs(8)).await;
}

#[tokio::test]
async fn tokens_that_can_not_be_renewed_are_replaced_by_a_login() {
    let Some(key) = Key::new().await else { return };
    let options = json!({ "token_type": "batch", "token_ttl": "3s" });
    let role = AppRole::new(&key, options, BOTH).await;
    let wrapper = key.builder().auth(role.auth()).build().unwrap();
    works_past(&wrapper, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn such_a_token_is_replaced_before_its_end_without_a_call() {
    let Some(key) = Key::new().await else { return };
    let options = json!({ "token_type": "batch", "token_ttl": "3s" });
    let role = AppRole::new(&key, options, BOTH).await;
    let proxy = FaultyProxy::start(&key.vault.url());
    let builder = key.builder().address(proxy.url()).auth(role.auth());
    let wrapper = builder.build().unwrap();
    wrapper.encrypt(b"plaintext", b"").await.unwrap();
    let calls = proxy.requests();
    assert_eq!(calls, 2, "a login and the call");
    timeout(PATIENCE, proxy.requests_reach(calls + 2))
        .await
        .unwrap();
}

#[tokio::test]
async fn without_renewal_it_logs_in_when_the_token_is_over() {
    let Some(key) = Key::new().await else { return };
    let role = AppRole::new(&key, json!({ "token_ttl": "2s" }), BOTH).await;
    let builder = key.builder().auth(role.auth()).disable_renewal();
    let wrapper = builder.build().unwrap();
    works_past(&wrapper, Duration::from_secs(4)).await;
}

#[tokio::test]
async fn a_token_of_few_uses_is_replaced_when_they_are_gone() {
    let Some(key) = Key::new().await else { return };
    let role = AppRole::new(&key, json!({ "token_num_uses": 3 }), BOTH).await;
    let builder = key.builder().auth(role.auth()).disable_renewal();
    let wrapper = builder.build().unwrap();
    for _ in 0..8 {
        wrapper.encrypt(b"plaintext", b"").await.unwrap();
    }
}

/// Vault's method `jwt` takes the login of `kubernetes` (role and JWT), and checks the signature itself, where
/// `kubernetes` asks a cluster to.
pub(super) struct Cluster {
    pub(super) mount: String,
    key: KeyPair,
}

impl Cluster {
    pub(super) async fn new(key: &Key) -> Self {
        let signing = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mount = format!("kubernetes-{}", Vault::unique());
        let vault = &key.vault;
        vault
            .write(&format!("sys/auth/{mount}"), json!({ "type": "jwt" }))
            .await;
        let config = json!({
            "jwt_validation_pubkeys": [signing.public_key_pem()],
            "jwt_supported_algs": ["EdDSA"],
        });
        vault.write(&format!("auth/{mount}/config"), config).await;
        let role = json!({
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["vault"],
            "bound_subject": "system:serviceaccount:default:app",
            "token_policies": [key.policy(BOTH).await],
        });
        vault.write(&format!("auth/{mount}/role/app"), role).await;
        Self {
            mount,
            key: signing,
        }
    }

    pub(super) fn token(&self, account: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = now.as_secs();
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let head = part(json!({ "alg": "EdDSA", "typ": "JWT" }));
        let claims = part(json!({
            "sub": format!("system:serviceaccount:default:{account}"),
            "aud": ["vault"],
            "nbf": now - 60,
            "exp": now + 600,
        }));
        let signed = format!("{head}.{claims}");
        let signature = BASE64URL_NOPAD.encode(&self.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{signature}")
    }
}

#[tokio::test]
async fn it_logs_in_as_a_kubernetes_service_account_and_reads_the_token_anew() {
    let Some(key) = Key::new().await else { return };
    let cluster = Cluster::new(&key).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let foreign = cluster.token("other");
    std::fs::write(&file, &foreign).unwrap();
    let auth = Auth::kubernetes_with_token_file("app", &file).mount(&cluster.mount);
    let wrapper = key.builder().auth(auth).build().unwrap();

    let error = wrapper.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_hidden(foreign.as_bytes(), &whole(&error));

    std::fs::write(&file, cluster.token("app")).unwrap();
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn a_login_s_token_is_renewed_in_the_background() {
    let Some(key) = Key::new().await else { return };
    // One login only: what keeps it going is renewal.
    let options = json!({ "secret_id_num_uses": 1, "token_period": "3s" });
    let role = AppRole::new(&key, options, BOTH).await;
    let wrapper = key.builder().auth(role.auth()).build().unwrap();
    wrapper.preflight().await.unwrap();
    let start = Instant::now();
    until("time passing", || async {
        start.elapsed() > Duration::from_secs(8)
    })
    .await;
    wrapper.preflight().await.unwrap();
}
