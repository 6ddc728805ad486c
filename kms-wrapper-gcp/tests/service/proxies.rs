//! The way to the service: proxies, and whose certificates are trusted.

use std::env;
use std::io::Write as _;
use std::sync::Arc;

use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::fake_cloud_kms::FakeCloudKms;
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_gcp::{CloudKmsWrapper, CloudKmsWrapperBuilder};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::logins::{file, gives, service_account};
use crate::support::{assert_works, builder, in_child, patient};
use crate::tls::{TlsFront, TunnelProxy};

/// Hosts that no resolver knows: only a proxy finds them.
const KMS: &str = "kms.invalid";
const TOKENS: &str = "tokens.invalid";

fn ca_file(front: &TlsFront) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(front.ca.as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn a_ca_of_ones_own_is_trusted_as_bundle_or_file_and_not_without() {
    let fake = FakeCloudKms::start().await;
    let key = fake.client().create_key().await;
    let front = TlsFront::start(&["localhost"], fake.url()).await;
    let file = ca_file(&front);
    let endpoint = format!("https://localhost:{}", front.address.port());
    let with_bundle = builder(&endpoint, &key).ca_bundle(front.ca.clone());
    assert_works(&with_bundle.build().unwrap()).await;
    let with_file = builder(&endpoint, &key).ca_bundle_file(file.path());
    assert_works(&with_file.build().unwrap()).await;
    let another = TlsFront::start(&["localhost"], fake.url()).await;
    for stranger in [
        builder(&endpoint, &key),
        builder(&endpoint, &key).ca_bundle(another.ca),
    ] {
        let limits = patient().with_attempts(1);
        let wrapper = stranger.limits(limits).build().unwrap();
        let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    }
}

#[tokio::test]
async fn the_proxy_of_the_setting_is_asked_for_a_tunnel_and_shown_nothing_else() {
    let fake = FakeCloudKms::start().await;
    let key = fake.client().create_key().await;
    let front = TlsFront::start(&[KMS], fake.url()).await;
    let address = front.address;
    let proxy = TunnelProxy::start(move |_| address).await;
    let with_password = proxy.url().replace("http://", "http://user:hunter2@");
    let wrapper = builder(&format!("https://{KMS}"), &key)
        .ca_bundle(front.ca)
        .proxy(with_password)
        .build()
        .unwrap();
    assert_works(&wrapper).await;
    let heads = proxy.heads();
    assert!(!heads.is_empty());
    let password = data_encoding::BASE64.encode(b"user:hunter2");
    for head in heads {
        assert!(head.starts_with(&format!("CONNECT {KMS}:443 ")), "{head}");
        assert!(head.contains(&password), "{head}");
    }
    assert!(!format!("{wrapper:?}").contains("hunter2"), "{wrapper:?}");
}

#[tokio::test]
async fn a_proxy_that_makes_no_tunnel_is_unreachable() {
    let proxy = FaultyProxy::start("127.0.0.1:1");
    proxy.fail(NetworkFault::status(407));
    let key = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
    let wrapper = builder(&format!("https://{KMS}"), key).proxy(proxy.url());
    let error = wrapper.build().unwrap().encrypt(b"x", b"").await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
}

const KEY: &str = "KMS_TEST_GCP_OWN_KEY";
const FILE: &str = "KMS_TEST_GCP_OWN_FILE";

/// A service and a server of tokens, both of which only a proxy finds.
struct Behind {
    fake: FakeCloudKms,
    key: String,
    proxy: TunnelProxy,
    ca: NamedTempFile,
    credentials: NamedTempFile,
    _tokens: FaultyProxy,
}

impl Behind {
    async fn start() -> Self {
        let fake = FakeCloudKms::start().await;
        let key = fake.client().create_key().await;
        fake.client().demand_token(Some("ya29.token")).await;
        let tokens = FaultyProxy::start("127.0.0.1:1");
        tokens.fail(gives("ya29.token"));
        let kms = TlsFront::start(&[KMS], fake.url()).await;
        let login = TlsFront::start(&[TOKENS], &tokens.url()).await;
        let mut ca = ca_file(&kms);
        ca.write_all(login.ca.as_bytes()).unwrap();
        let (kms, login) = (kms.address, login.address);
        let proxy = TunnelProxy::start(move |head| if head.contains(TOKENS) { login } else { kms });
        let credentials = file(&json!({
            "type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r",
            "token_uri": format!("https://{TOKENS}/token"),
        }));
        Self {
            fake,
            key,
            proxy: proxy.await,
            ca,
            credentials,
            _tokens: tokens,
        }
    }

    /// What the child is told, with this in `NO_PROXY`.
    fn variables<'a>(&'a self, proxy: &'a str, no_proxy: &'a str) -> [(&'a str, &'a str); 5] {
        [
            ("HTTPS_PROXY", proxy),
            ("NO_PROXY", no_proxy),
            ("SSL_CERT_FILE", self.ca.path().to_str().unwrap()),
            (KEY, &self.key),
            (FILE, self.credentials.path().to_str().unwrap()),
        ]
    }
}

/// In the child.
fn of_variables() -> CloudKmsWrapperBuilder {
    CloudKmsWrapper::builder(env::var(KEY).unwrap())
        .endpoint(format!("https://{KMS}"))
        .credentials_file(env::var(FILE).unwrap())
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
        .limits(patient())
}

/// The certificates are those of `SSL_CERT_FILE`, too.
#[cfg(target_os = "linux")]
#[test]
fn the_proxy_of_the_environment_is_asked_by_calls_and_logins_alike() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let behind = runtime.block_on(Behind::start());
    let proxy = behind.proxy.url();
    let test = "proxies::the_proxy_of_the_environment_is_asked_by_calls_and_logins_alike";
    if in_child(test, &behind.variables(&proxy, "")) {
        runtime.block_on(assert_works(&of_variables().build().unwrap()));
        return;
    }
    let heads = behind.proxy.heads();
    for host in [KMS, TOKENS] {
        let connect = format!("CONNECT {host}:443 ");
        assert!(
            heads.iter().any(|head| head.starts_with(&connect)),
            "{heads:?}"
        );
    }
}

/// The library that asks for tokens knows neither.
#[cfg(target_os = "linux")]
#[test]
fn a_proxy_or_ca_of_ones_own_that_requests_for_tokens_would_not_obey_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let behind = runtime.block_on(Behind::start());
    let proxy = behind.proxy.url();
    let test =
        "proxies::a_proxy_or_ca_of_ones_own_that_requests_for_tokens_would_not_obey_is_refused";
    if in_child(test, &behind.variables(&proxy, "")) {
        let (proxy, ca) = (env::var("HTTPS_PROXY").unwrap(), env::var("SSL_CERT_FILE"));
        let ca = std::fs::read(ca.unwrap()).unwrap();
        let works = |builder: CloudKmsWrapperBuilder| {
            runtime.block_on(assert_works(&builder.build().unwrap()));
        };
        works(of_variables().proxy(&proxy).ca_bundle(ca.clone()));
        let mut other = NamedTempFile::new().unwrap();
        other.write_all(&ca[..ca.len() / 2]).unwrap();
        for (builder, setting, variable) in [
            (
                of_variables().proxy("http://127.0.0.1:1"),
                "proxy",
                "HTTPS_PROXY",
            ),
            (of_variables().no_proxy(), "proxy", "HTTPS_PROXY"),
            (
                of_variables().ca_bundle_file(other.path()),
                "ca",
                "SSL_CERT_FILE",
            ),
        ] {
            let wrapper = builder.build().unwrap();
            let error = runtime.block_on(wrapper.encrypt(b"x", b"")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error:?}");
            assert_eq!(error.context("setting"), Some(setting));
            assert_eq!(error.context("variable"), Some(variable));
        }
        // The key of a service account asks for none, so its calls are made, without a proxy that finds the service.
        let (_, account) = service_account();
        let account = file(&account);
        let wrapper = CloudKmsWrapper::builder(env::var(KEY).unwrap())
            .endpoint(format!("https://{KMS}"))
            .credentials_file(account.path())
            .no_proxy()
            .aead(Arc::new(kms_wrapper_aead::AesGcm))
            .limits(patient().with_attempts(1))
            .build()
            .unwrap();
        let error = runtime.block_on(wrapper.encrypt(b"x", b"")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        return;
    }
    assert!(!behind.proxy.heads().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_that_the_environment_exempts_is_asked_without_its_proxy() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let behind = runtime.block_on(Behind::start());
    let proxy = behind.proxy.url();
    let test = "proxies::a_host_that_the_environment_exempts_is_asked_without_its_proxy";
    if in_child(test, &behind.variables(&proxy, KMS)) {
        let wrapper = of_variables().limits(patient().with_attempts(1));
        let error = runtime.block_on(wrapper.build().unwrap().encrypt(b"x", b""));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unreachable);
        return;
    }
    let heads = behind.proxy.heads();
    assert!(heads.iter().all(|head| head.contains(TOKENS)), "{heads:?}");
    assert!(!heads.is_empty(), "logins go through it");
}

/// It would be shown the keys, and finds another machine there.
#[test]
fn a_service_on_this_machine_is_asked_without_the_environments_proxy() {
    const ENDPOINT: &str = "KMS_TEST_GCP_OWN_ENDPOINT";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let behind = runtime.block_on(Behind::start());
    runtime.block_on(behind.fake.client().demand_token(None));
    let proxy = behind.proxy.url();
    let test = "proxies::a_service_on_this_machine_is_asked_without_the_environments_proxy";
    let variables = [
        ("HTTP_PROXY", proxy.as_str()),
        ("ALL_PROXY", &proxy),
        (ENDPOINT, behind.fake.url()),
        (KEY, &behind.key),
    ];
    if in_child(test, &variables) {
        let wrapper = builder(&env::var(ENDPOINT).unwrap(), &env::var(KEY).unwrap());
        runtime.block_on(assert_works(&wrapper.build().unwrap()));
        return;
    }
    assert_eq!(behind.proxy.heads(), [""; 0]);
}
