//! Credentials: where they come from, and what happens when they are no longer taken.

use std::env;
use std::error::Error as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD};
use kms_core::{Error, ErrorKind, Wrapper as _};
use kms_testkit::fake_cloud_kms::{CloudKmsMethod, FakeCloudKms};
use kms_testkit::wrapper::assert_hidden;
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_gcp::{CloudKmsWrapper, CloudKmsWrapperBuilder};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::{Listener, assert_works, in_child, patient};

const SECRETS: [&str; 2] = [
    "a client secret of this test",
    "a refresh token of this test",
];

/// A service that lets only a token in, a server that gives out tokens, and a wrapper that logs in there.
pub(crate) struct Login {
    pub(crate) fake: FakeCloudKms,
    pub(crate) key: String,
    pub(crate) tokens: FaultyProxy,
    file: NamedTempFile,
}

impl Login {
    pub(crate) async fn start() -> Self {
        let fake = FakeCloudKms::start().await;
        // It only ever answers with its faults.
        let tokens = FaultyProxy::start("127.0.0.1:1");
        let file = file(&json!({
            "type": "authorized_user",
            "client_id": "764086051850.apps.googleusercontent.com",
            "client_secret": SECRETS[0],
            "refresh_token": SECRETS[1],
            "token_uri": format!("{}/token", tokens.url()),
        }));
        let key = fake.client().create_key().await;
        Self {
            fake,
            key,
            tokens,
            file,
        }
    }

    pub(crate) fn builder(&self) -> CloudKmsWrapperBuilder {
        CloudKmsWrapper::builder(&self.key)
            .endpoint(self.fake.url())
            .credentials_file(self.file.path())
            .aead(Arc::new(kms_wrapper_aead::AesGcm))
            .limits(patient())
    }

    pub(crate) async fn demand(&self, token: &str) {
        self.fake.client().demand_token(Some(token)).await;
    }

    pub(crate) fn give(&self, token: &str) {
        self.tokens.clear();
        self.tokens.fail(gives(token));
    }

    fn answer(&self, status: u16, body: &Value) {
        self.tokens.clear();
        let headers = [("content-type", "application/json")];
        let answer = NetworkFault::answer(status, &headers, body.to_string());
        self.tokens.fail(answer);
    }
}

pub(crate) fn gives(token: &str) -> NetworkFault {
    let body = json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer" });
    NetworkFault::answer(
        200,
        &[
            ("content-type", "application/json"),
            ("metadata-flavor", "Google"),
        ],
        body.to_string(),
    )
}

pub(crate) fn file(content: &Value) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.to_string().as_bytes()).unwrap();
    file
}

fn assert_denied(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(!error.is_retryable());
    assert!(error.source().is_some());
    for secret in SECRETS {
        assert_hidden(secret.as_bytes(), &format!("{error} {error:?}"));
    }
}

#[tokio::test]
async fn a_users_file_gets_a_token_and_one_is_enough_for_many_calls() {
    let login = Login::start().await;
    login.demand("ya29.first").await;
    login.give("ya29.first");
    let wrapper = login.builder().build().unwrap();
    assert_eq!(login.tokens.requests(), 0, "building asks nobody");
    for _ in 0..3 {
        assert_works(&wrapper).await;
    }
    assert_eq!(login.tokens.requests(), 1);
}

#[tokio::test]
async fn a_token_that_is_no_longer_taken_is_replaced_within_the_call() {
    let login = Login::start().await;
    login.demand("ya29.first").await;
    login.give("ya29.first");
    let wrapper = login.builder().build().unwrap();
    assert_works(&wrapper).await;
    login.demand("ya29.second").await;
    login.give("ya29.second");
    login.fake.client().forget_calls().await;
    wrapper.encrypt(b"plaintext", b"").await.unwrap();
    assert_eq!(login.fake.client().calls(CloudKmsMethod::Encrypt).await, 2);
    assert_eq!(login.tokens.requests(), 2);
    assert_works(&wrapper).await;
    assert_eq!(login.tokens.requests(), 2);
}

#[tokio::test]
async fn a_token_that_is_never_taken_is_a_denial_without_endless_logins() {
    let login = Login::start().await;
    login.demand("ya29.other").await;
    login.give("ya29.ours");
    let wrapper = login.builder().build().unwrap();
    for logins in 1..=3 {
        let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
        assert_denied(&error);
        assert_hidden(b"ya29.ours", &format!("{error:?}"));
        assert_eq!(login.tokens.requests(), logins);
    }
    login.demand("ya29.ours").await;
    assert_works(&wrapper).await;
}

/// Google's library keeps such a refusal for good.
#[tokio::test]
async fn credentials_that_were_refused_are_tried_again_by_the_next_call() {
    let login = Login::start().await;
    login.demand("ya29.first").await;
    let invalid =
        json!({ "error": "invalid_grant", "error_description": "Token has been revoked." });
    login.answer(400, &invalid);
    let wrapper = login.builder().build().unwrap();
    for _ in 0..2 {
        let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
        assert_denied(&error);
        assert!(format!("{error:?}").contains("invalid_grant"), "{error:?}");
    }
    login.give("ya29.first");
    assert_works(&wrapper).await;
}

#[tokio::test]
async fn new_credentials_in_the_file_are_read_when_the_old_ones_are_refused() {
    let login = Login::start().await;
    login.demand("ya29.first").await;
    login.give("ya29.first");
    let wrapper = login.builder().build().unwrap();
    assert_works(&wrapper).await;
    let other = FaultyProxy::start("127.0.0.1:1");
    other.fail(gives("ya29.second"));
    let renewed = json!({
        "type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r",
        "token_uri": other.url(),
    });
    std::fs::write(login.file.path(), renewed.to_string()).unwrap();
    login.demand("ya29.second").await;
    assert_works(&wrapper).await;
    assert_eq!(other.requests(), 1);
}

#[tokio::test]
async fn a_server_of_tokens_that_is_down_or_hangs_is_given_up_at_the_deadline() {
    let login = Login::start().await;
    login.demand("ya29.first").await;
    let limits = patient()
        .with_attempt_timeout(Duration::from_millis(600))
        .with_deadline(Duration::from_secs(2));
    for fault in [
        NetworkFault::status(503),
        NetworkFault::Hang,
        NetworkFault::Cut,
    ] {
        login.tokens.clear();
        login.tokens.fail(fault.clone());
        let wrapper = login.builder().limits(limits).build().unwrap();
        let start = Instant::now();
        let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20), "{fault:?}");
        assert!(error.is_retryable(), "{fault:?}: {error:?}");
        login.give("ya29.first");
        let end = Instant::now() + Duration::from_secs(60);
        while let Err(error) = wrapper.encrypt(b"x", b"").await {
            assert!(error.is_retryable(), "{fault:?}: {error:?}");
            assert!(Instant::now() < end, "{fault:?} is not over: {error:?}");
        }
    }
}

/// Also when the runtime that asked first is gone, and what renews the token would have gone with it.
#[test]
fn one_login_serves_all_runtimes() {
    let first = runtime();
    let login = first.block_on(Login::start());
    first.block_on(login.demand("ya29.first"));
    login.give("ya29.first");
    let wrapper = login.builder().build().unwrap();
    first.block_on(assert_works(&wrapper));
    drop(first);
    for _ in 0..3 {
        runtime().block_on(assert_works(&wrapper));
    }
    assert_eq!(login.tokens.requests(), 1);
}

/// A token that is short-lived is renewed before its end, without a call that waits for it.
#[test]
fn a_token_is_renewed_while_no_runtime_of_the_callers_is_running() {
    let login = runtime().block_on(Login::start());
    runtime().block_on(login.demand("ya29.first"));
    let token = json!({ "access_token": "ya29.first", "expires_in": 1, "token_type": "Bearer" });
    login.answer(200, &token);
    let wrapper = login.builder().build().unwrap();
    runtime().block_on(assert_works(&wrapper));
    let end = Instant::now() + Duration::from_secs(60);
    while login.tokens.requests() < 2 {
        assert!(Instant::now() < end, "it is not renewed");
        std::thread::sleep(Duration::from_millis(5));
    }
    runtime().block_on(assert_works(&wrapper));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_said_by_the_call_and_read_once_it_is() {
    let login = Login::start().await;
    login.demand("ya29.first").await;
    login.give("ya29.first");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    let wrapper = CloudKmsWrapper::builder(&login.key)
        .endpoint(login.fake.url())
        .credentials_file(&path)
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
        .build()
        .unwrap();
    let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert_eq!(
        error.context("credentials_file"),
        Some(path.to_str().unwrap())
    );
    std::fs::copy(login.file.path(), &path).unwrap();
    assert_works(&wrapper).await;
}

/// The file of a service account, with its key.
pub(crate) fn service_account() -> (KeyPair, Value) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = BASE64.encode(pair.as_der().unwrap().as_ref());
    let account = json!({
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "a1b2c3",
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n"),
        "client_email": "app@acme.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    (pair, account)
}

/// The token of a service account is a JWT that it signs itself.
#[tokio::test]
async fn a_service_account_signs_its_own_token() {
    let (pair, account) = service_account();
    let file = file(&account);
    let listener = Listener::start();
    let wrapper = CloudKmsWrapper::builder("projects/p/locations/l/keyRings/r/cryptoKeys/k")
        .endpoint(format!("http://{}", listener.address))
        .credentials_file(file.path())
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
        .build()
        .unwrap();
    let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);

    let (request, _) = listener.request();
    let token = request
        .lines()
        .find_map(|line| line.strip_prefix("authorization: Bearer "))
        .expect("the request has a token");
    assert_hidden(token.as_bytes(), &format!("{error:?} {wrapper:?}"));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let decode = |text: &str| {
        BASE64URL_NOPAD
            .decode(text.as_bytes())
            .or_else(|_| BASE64URL.decode(text.as_bytes()))
            .unwrap()
    };
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
        .verify(signed.as_bytes(), &decode(signature))
        .unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let json = |text| serde_json::from_slice::<Value>(&decode(text)).unwrap();
    assert_eq!(json(head)["alg"], "RS256");
    assert_eq!(json(head)["kid"], "a1b2c3");
    assert_eq!(json(claims)["iss"], "app@acme.iam.gserviceaccount.com");
    assert_eq!(
        json(claims)["scope"],
        "https://www.googleapis.com/auth/cloud-platform"
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

const ENDPOINT: &str = "KMS_TEST_GCP_OWN_ENDPOINT";

/// A wrapper of what the environment names, at the endpoint that the parent started.
fn from_env() -> CloudKmsWrapper {
    CloudKmsWrapper::from_env()
        .endpoint(env::var(ENDPOINT).unwrap())
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
        .limits(patient())
        .build()
        .unwrap()
}

/// The variables that name a key.
fn named(key: &str) -> [(&'static str, &str); 4] {
    let parts: Vec<&str> = key.split('/').collect();
    [
        ("GOOGLE_PROJECT", parts[1]),
        ("GOOGLE_REGION", parts[3]),
        ("GCPCKMS_WRAPPER_KEY_RING", parts[5]),
        ("GCPCKMS_WRAPPER_CRYPTO_KEY", parts[7]),
    ]
}

#[test]
fn the_environment_is_enough() {
    let parent = runtime();
    let login = parent.block_on(Login::start());
    parent.block_on(login.demand("ya29.first"));
    login.give("ya29.first");
    for variable in ["GOOGLE_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"] {
        let mut variables = named(&login.key).to_vec();
        variables.push((variable, login.file.path().to_str().unwrap()));
        variables.push((ENDPOINT, login.fake.url()));
        if in_child("logins::the_environment_is_enough", &variables) {
            runtime().block_on(assert_works(&from_env()));
            return;
        }
    }
    assert_eq!(login.tokens.requests(), 2);
}

#[test]
fn without_a_file_the_metadata_server_is_asked() {
    let parent = runtime();
    let login = parent.block_on(Login::start());
    parent.block_on(login.demand("ya29.of-the-machine"));
    login.give("ya29.of-the-machine");
    let mut variables = named(&login.key).to_vec();
    let host = login.tokens.address().to_string();
    variables.push(("GCE_METADATA_HOST", &host));
    variables.push((ENDPOINT, login.fake.url()));
    if in_child(
        "logins::without_a_file_the_metadata_server_is_asked",
        &variables,
    ) {
        runtime().block_on(assert_works(&from_env()));
        return;
    }
    assert!(login.tokens.requests() > 0);
}

#[test]
fn a_default_file_that_is_not_there_or_malformed_is_said_without_its_content() {
    let bad = file(&json!({ "type": "service_account", "private_key": "hunter2hunter2" }));
    for path in ["/nonexistent/key.json", bad.path().to_str().unwrap()] {
        let variables = [
            ("GOOGLE_APPLICATION_CREDENTIALS", path),
            (ENDPOINT, "http://127.0.0.1:1"),
        ];
        if in_child(
            "logins::a_default_file_that_is_not_there_or_malformed_is_said_without_its_content",
            &variables,
        ) {
            let wrapper =
                CloudKmsWrapper::builder("projects/p/locations/l/keyRings/r/cryptoKeys/k")
                    .endpoint(env::var(ENDPOINT).unwrap())
                    .aead(Arc::new(kms_wrapper_aead::AesGcm))
                    .build()
                    .unwrap();
            let error = runtime().block_on(wrapper.encrypt(b"x", b"")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error:?}");
            assert_eq!(error.context("credentials"), Some("application default"));
            assert_hidden(b"hunter2hunter2", &format!("{error:?}"));
            return;
        }
    }
}
