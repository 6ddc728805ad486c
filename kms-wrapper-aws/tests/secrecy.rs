//! What the dependencies write to `log` and `tracing`, at their most talkative.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::{Arc, Mutex};

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
        use io::Write as _;
        writeln!(self.clone(), "{} {}", record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

mod aws {
    use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
    use data_encoding::BASE64;
    use kms_core::{Blob, CallLimits, Wrapper as _};
    use kms_testkit::service::variable;
    use kms_testkit::wrapper::assert_hidden;
    use kms_testkit::{FaultyProxy, NetworkFault};
    use kms_wrapper_aead::AesGcm;
    use kms_wrapper_aws::{AwsKmsMode, AwsKmsWrapper};
    use sha2::{Digest as _, Sha256};

    use super::{Arc, Written};

    const PLAINTEXT: &[u8] = b"plaintext of 32 bytes, like keys";
    const AAD: &[u8] = b"aad of this test, not a secret";
    const SECRET: &str = "a secret access key of this test";
    const TOKEN: &str = "a session token of this test";

    #[test]
    fn neither_log_nor_tracing_shows_plaintext_or_credentials() {
        let Some(endpoint) = variable("aws", "KMS_TEST_AWS_ENDPOINT") else {
            return;
        };
        let written = Written::default();
        log::set_boxed_logger(Box::new(written.clone())).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        };
        let key = runtime().unwrap().block_on(key(&endpoint));

        // Without a subscriber, `tracing` hands its events to `log`.
        written.take();
        let secrets = runtime().unwrap().block_on(use_wrappers(&endpoint, &key));
        assert_nothing_secret(&written.take(), &secrets);

        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer({
                let written = written.clone();
                move || written.clone()
            })
            .finish();
        let secrets = tracing::subscriber::with_default(subscriber, || {
            runtime().unwrap().block_on(use_wrappers(&endpoint, &key))
        });
        assert_nothing_secret(&written.take(), &secrets);
    }

    fn assert_nothing_secret(written: &str, secrets: &[Vec<u8>]) {
        // It was really listening, where the SDK writes requests and answers.
        for part in [
            "transmitting request",
            "TrentService.Decrypt",
            "read HTTP response body",
        ] {
            assert!(written.contains(part), "{part} was not written");
        }
        for secret in secrets {
            assert_hidden(secret, written);
        }
    }

    /// Uses the wrapper in both modes, well and badly; returns what must not be seen.
    async fn use_wrappers(endpoint: &str, key: &str) -> Vec<Vec<u8>> {
        let proxy = FaultyProxy::start(endpoint);
        let mut secrets = vec![PLAINTEXT.to_vec(), SECRET.into(), TOKEN.into()];
        for mode in [AwsKmsMode::Envelope, AwsKmsMode::Direct] {
            let wrapper = AwsKmsWrapper::builder(key)
                .endpoint(proxy.url())
                .credentials("AKIDTESTTESTTESTTEST", SECRET)
                .session_token(TOKEN)
                .mode(mode)
                .limits(CallLimits::default().with_attempts(2))
                .aead(Arc::new(AesGcm))
                .build()
                .unwrap();
            let blob = wrapper.encrypt(PLAINTEXT, AAD).await.unwrap();
            wrapper.decrypt(&blob, AAD).await.unwrap();
            for fault in [
                NetworkFault::CutAnswer,
                NetworkFault::alter(|body| body.truncate(body.len() / 2)),
                NetworkFault::alter(|body| body[0] ^= 1),
                NetworkFault::status(503),
            ] {
                proxy.fail(fault);
                let errors = [
                    wrapper.encrypt(PLAINTEXT, AAD).await.unwrap_err(),
                    wrapper.decrypt(&blob, AAD).await.unwrap_err(),
                ];
                assert_hidden(PLAINTEXT, &format!("{errors:?}"));
                proxy.clear();
            }
            if mode == AwsKmsMode::Envelope {
                secrets.push(fresh_key(endpoint, &blob).await);
            }
        }
        secrets
    }

    fn client(endpoint: &str) -> aws_sdk_kms::Client {
        let credentials = Credentials::builder()
            .provider_name("test")
            .access_key_id("test")
            .secret_access_key("test")
            .build();
        let config = aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(credentials);
        aws_sdk_kms::Client::from_conf(config.build())
    }

    async fn key(endpoint: &str) -> String {
        let made = client(endpoint).create_key().send().await.unwrap();
        made.key_metadata.unwrap().arn.unwrap()
    }

    /// The one that the blob was encrypted under.
    async fn fresh_key(endpoint: &str, blob: &Blob) -> Vec<u8> {
        let bound = [b"kms-fresh-key-v1", &Sha256::digest(AAD)[..]].concat();
        let request = client(endpoint).decrypt();
        let request = request
            .ciphertext_blob(aws_sdk_kms::primitives::Blob::new(blob.wrapped_key()))
            .encryption_context("aad-sha256", BASE64.encode(&Sha256::digest(bound)));
        let answer = request.send().await.unwrap();
        answer.plaintext.unwrap().into_inner()
    }
}
