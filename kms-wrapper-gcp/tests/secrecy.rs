//! What the dependencies write to `log` and `tracing`, at their most talkative.
//!
//! In a process of its own, since both are global.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex};

use kms_core::{Blob, CallLimits, Wrapper as _};
use kms_testkit::fake_cloud_kms::{CloudKmsFault, FakeCloudKms};
use kms_testkit::wrapper::assert_hidden;
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_gcp::{CloudKmsMode, CloudKmsWrapper};
use serde_json::json;

const PLAINTEXT: &[u8] = b"plaintext of 32 bytes, like keys";
const AAD: &[u8] = b"aad of this test, not a secret";
const CLIENT_SECRET: &str = "a client secret of this test";
const REFRESH_TOKEN: &str = "a refresh token of this test";
const TOKEN: &str = "ya29.an-access-token-of-this-test";

/// Collects what is written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl log::Log for Written {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        writeln!(self.clone(), "{} {}", record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

#[test]
fn neither_log_nor_tracing_shows_plaintext_or_credentials() {
    let written = Written::default();
    log::set_boxed_logger(Box::new(written.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let block_on = |future| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(future)
    };

    // Without a subscriber, `tracing` hands its events to `log`.
    let secrets = block_on(use_wrappers());
    let said = written.take();
    for secret in &secrets {
        assert_hidden(secret, &said);
    }
    // It was really listening, to the client and to what fetches tokens.
    for target in ["hyper_util::client", "reqwest"] {
        assert!(said.contains(target), "nothing of {target} in {said}");
    }

    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer({
            let written = written.clone();
            move || written.clone()
        })
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let secrets = block_on(use_wrappers());
    let said = written.take();
    for secret in &secrets {
        assert_hidden(secret, &said);
    }
    assert!(said.contains("hyper_util::client"), "{said}");
}

/// Uses the wrapper in both modes, well and badly; gives what must not be seen.
async fn use_wrappers() -> Vec<Vec<u8>> {
    let fake = FakeCloudKms::start().await;
    let client = fake.client();
    let key = client.create_key().await;
    let tokens = FaultyProxy::start("127.0.0.1:1");
    let json = [("content-type", "application/json")];
    let token = json!({ "access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer" });
    let invalid = json!({ "error": "invalid_grant", "echo": REFRESH_TOKEN });
    tokens.fail_next(1, NetworkFault::answer(400, &json, invalid.to_string()));
    tokens.fail(NetworkFault::answer(200, &json, token.to_string()));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let user = json!({
        "type": "authorized_user",
        "client_id": "764086051850.apps.googleusercontent.com",
        "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN,
        "token_uri": tokens.url(),
    });
    file.write_all(user.to_string().as_bytes()).unwrap();

    let mut secrets: Vec<Vec<u8>> = vec![
        PLAINTEXT.into(),
        CLIENT_SECRET.into(),
        REFRESH_TOKEN.into(),
        TOKEN.into(),
    ];
    for mode in [CloudKmsMode::Envelope, CloudKmsMode::Direct] {
        client.demand_token(Some(TOKEN)).await;
        let wrapper = CloudKmsWrapper::builder(&key)
            .endpoint(fake.url())
            .credentials_file(file.path())
            .mode(mode)
            .limits(CallLimits::default().with_attempts(2))
            .aead(Arc::new(kms_wrapper_aead::AesGcm))
            .build()
            .unwrap();
        let mut errors = Vec::new();
        if mode == CloudKmsMode::Envelope {
            errors.push(wrapper.encrypt(PLAINTEXT, AAD).await.unwrap_err());
        }
        let blob = wrapper.encrypt(PLAINTEXT, AAD).await.unwrap();
        wrapper.decrypt(&blob, AAD).await.unwrap();
        for fault in [
            CloudKmsFault::unavailable(),
            CloudKmsFault::reset(),
            CloudKmsFault::flipped_bit(),
            CloudKmsFault::cut_short(),
            CloudKmsFault::not_json(),
        ] {
            client.inject(fault).await;
            errors.push(wrapper.encrypt(PLAINTEXT, AAD).await.unwrap_err());
            errors.push(wrapper.decrypt(&blob, AAD).await.unwrap_err());
            client.clear_faults().await;
        }
        client.demand_token(Some("another")).await;
        errors.push(wrapper.encrypt(PLAINTEXT, AAD).await.unwrap_err());
        if mode == CloudKmsMode::Envelope {
            client.demand_token(None).await;
            secrets.push(fresh_key(&fake, &key, &blob).await);
        }
        let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
        for secret in &secrets {
            assert_hidden(secret, &format!("{wrapper:?} {errors:?} {messages:?}"));
        }
    }
    secrets
}

/// The one that the blob was encrypted under.
async fn fresh_key(fake: &FakeCloudKms, key: &str, blob: &Blob) -> Vec<u8> {
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, AAD);
    let bound = [b"kms-fresh-key-v1", hash.as_ref()].concat();
    let body = json!({
        "ciphertext": base64(blob.wrapped_key()),
        "additionalAuthenticatedData": base64(&bound),
    });
    let (_, answer) = fake
        .client()
        .request("POST", &format!("v1/{key}:decrypt"), &body)
        .await;
    let plaintext = answer["plaintext"].as_str().unwrap();
    data_encoding::BASE64.decode(plaintext.as_bytes()).unwrap()
}
