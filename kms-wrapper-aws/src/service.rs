//! The two calls to the service, bounded in time and checked.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::OnceLock;
use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::decrypt::DecryptOutput;
use aws_sdk_kms::operation::encrypt::EncryptOutput;
use aws_sdk_kms::primitives::Blob;
use data_encoding::BASE64;
use kms_core::service::{Encrypted, PerRuntime, PlainHttp, ServiceKey, damaged, invalid_blob};
use kms_core::{CallLimits, Error, KeyBytes, Result, SecretBytes};
use sha2::{Digest as _, Sha256};

use crate::failure::{ServiceError, explain};
use crate::key_name::{KeyArn, KeyName};
use crate::service::body::HideBody;
use crate::service::connection::{Connected, Connection};
use crate::service::guard::Guard;

mod body;
pub(crate) mod connection;
mod guard;
pub(crate) mod network;

/// Longest plaintext that the service encrypts, in bytes
/// ([Encrypt](https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html)).
const MAX_PLAINTEXT: usize = 4096;

/// Longest ciphertext that the service takes, in bytes
/// ([Decrypt](https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html)).
const MAX_CIPHERTEXT: usize = 6144;

/// Name of the one pair in the encryption context.
const AAD_CONTEXT: &str = "aad-sha256";

/// A key in the service, by its configured name.
pub(crate) struct Service {
    name: KeyName,
    /// The key that the name stood for in the first answer, and the only one that is asked from then on.
    pinned: OnceLock<KeyArn>,
    connection: Connection,
    plain_http: PlainHttp,
    clients: PerRuntime<Connected>,
    limits: Limits,
}

/// How long and how often the service is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limits {
    Set(CallLimits),
    /// The defaults, with as many attempts as a profile says that has something to say.
    ByProfile,
}

impl Service {
    pub(crate) fn new(
        name: KeyName,
        connection: Connection,
        plain_http: PlainHttp,
        limits: Limits,
    ) -> Self {
        Self {
            name,
            pinned: OnceLock::new(),
            connection,
            plain_http,
            clients: PerRuntime::new(),
            limits,
        }
    }

    pub(crate) fn name(&self) -> &KeyName {
        &self.name
    }

    /// The key, once it is known.
    pub(crate) fn key(&self) -> Option<&KeyArn> {
        self.pinned.get().or(self.name.arn())
    }

    /// The key that the configured name stands for now, as the service tells whoever encrypts. Pins it if none was.
    pub(crate) async fn look_up(&self) -> Result<KeyArn> {
        let probe = KeyBytes::generate()?;
        let output = self.encrypting(self.name.as_str(), probe.expose(), b"");
        let key = answered(output.await?.key_id.as_deref())?;
        if !self.name.may_be(&key) {
            return Err(self.about_another(self.name.as_str(), &key));
        }
        self.pinned.get_or_init(|| key.clone());
        Ok(key)
    }

    async fn encrypting(&self, key: &str, plaintext: &[u8], aad: &[u8]) -> Result<EncryptOutput> {
        let context = context(aad);
        self.call("kms:Encrypt", |client| {
            let request = client
                .encrypt()
                .key_id(key)
                .plaintext(Blob::new(plaintext))
                .set_encryption_context(context.clone())
                .customize()
                .interceptor(HideBody)
                .interceptor(Guard(self.plain_http));
            async move { request.send().await }
        })
        .await
    }

    /// Makes a call, and once more where only the clock was wrong.
    async fn call<T, E, F>(
        &self,
        permission: &'static str,
        send: impl Fn(&Client) -> F + Sync,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, SdkError<E>>> + Send,
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let attempt = || async {
            let client = &self.connected().await?.client;
            let mut failure = match send(client).await {
                Ok(output) => return Ok(output),
                Err(error) => explain(&error, permission),
            };
            if is_of_clock(&failure) {
                failure = match send(client).await {
                    Ok(output) => return Ok(output),
                    Err(error) => explain(&error, permission),
                };
            }
            Err(failure)
        };
        let calls = async { self.limits().await?.run(attempt).await };
        calls
            .await
            .map_err(|error| error.with_context("root_key_id", self.asked()))
    }

    /// The bounds of a call that begins now. What it takes to read the profile counts.
    async fn limits(&self) -> Result<CallLimits> {
        let limits = self.limits.without_profile();
        let Limits::ByProfile = self.limits else {
            return Ok(limits);
        };
        let begun = Instant::now();
        let connected = limits.run(|| self.connected()).await?;
        let left = limits.deadline().saturating_sub(begun.elapsed());
        let attempts = connected.attempts.unwrap_or(limits.attempts());
        Ok(limits.with_attempts(attempts).with_deadline(left))
    }

    async fn connected(&self) -> Result<Connected> {
        match &self.connection {
            Connection::Given(client) => Ok(Connected {
                client: client.clone(),
                attempts: None,
            }),
            Connection::Own(settings) => {
                let limits = self.limits.without_profile();
                self.clients
                    .current(|| async move { settings.connect(&limits).await })
                    .await
            }
        }
    }

    /// What the service is asked for.
    fn asked(&self) -> &str {
        match self.key() {
            Some(key) => key.as_str(),
            None => self.name.as_str(),
        }
    }

    /// Checks that an answer is about the key that was asked for, and pins that.
    fn pin(&self, id: Option<&str>) -> Result<KeyArn> {
        let key = answered(id)?;
        if !self.name.may_be(&key) {
            return Err(self.about_another(self.name.as_str(), &key));
        }
        let pinned = self.pinned.get_or_init(|| key.clone());
        if !pinned.is_same_key(&key) {
            return Err(self.about_another(pinned.as_str(), &key));
        }
        Ok(key)
    }

    fn about_another(&self, asked: &str, answered: &KeyArn) -> Error {
        damaged("it is about another key")
            .with_context("root_key_id", asked)
            .with_context("answered_key_id", answered.as_str())
    }
}

impl Limits {
    fn without_profile(self) -> CallLimits {
        match self {
            Self::Set(limits) => limits,
            Self::ByProfile => CallLimits::default(),
        }
    }
}

#[async_trait]
impl ServiceKey for Service {
    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Encrypted> {
        if !(1..=MAX_PLAINTEXT).contains(&plaintext.len()) {
            return Err(invalid_blob(format!(
                "AWS KMS encrypts 1 to {MAX_PLAINTEXT} bytes itself, not {}; use envelope mode",
                plaintext.len()
            )));
        }
        let output = self.encrypting(self.asked(), plaintext, aad).await?;
        let key = self.pin(output.key_id.as_deref())?;
        let ciphertext = output.ciphertext_blob.map(Blob::into_inner);
        Ok(Encrypted {
            key_id: key.as_str().to_owned(),
            ciphertext: ciphertext
                .filter(|ciphertext| !ciphertext.is_empty())
                .ok_or_else(|| damaged("it is without a ciphertext"))?,
        })
    }

    async fn decrypt(&self, ciphertext: &[u8], aad: &[u8]) -> Result<SecretBytes> {
        if !(1..=MAX_CIPHERTEXT).contains(&ciphertext.len()) {
            return Err(invalid_blob("a part of it is of an impossible length"));
        }
        let context = context(aad);
        let output = self
            .call("kms:Decrypt", |client| {
                let request = client
                    .decrypt()
                    .key_id(self.asked())
                    .ciphertext_blob(Blob::new(ciphertext))
                    .set_encryption_context(context.clone())
                    .customize()
                    .interceptor(HideBody)
                    .interceptor(Guard(self.plain_http));
                async move { request.send().await }
            })
            .await?;
        let DecryptOutput {
            plaintext, key_id, ..
        } = output;
        // Taken over first, so that it is wiped in any case.
        let plaintext = plaintext.map(|blob| SecretBytes::new(blob.into_inner()));
        self.pin(key_id.as_deref())?;
        plaintext.ok_or_else(|| damaged("it is without a plaintext"))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name.as_str())
            .field("pinned", &self.pinned.get().map(KeyArn::as_str))
            .field("connection", &self.connection)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The encryption context that binds `aad`: public data that the service authenticates.
fn context(aad: &[u8]) -> Option<HashMap<String, String>> {
    (!aad.is_empty()).then(|| {
        let hash = BASE64.encode(&Sha256::digest(aad));
        HashMap::from([(AAD_CONTEXT.to_owned(), hash)])
    })
}

fn answered(id: Option<&str>) -> Result<KeyArn> {
    id.and_then(KeyArn::parse)
        .ok_or_else(|| damaged("it is without the ARN of a key"))
}

fn is_of_clock(error: &Error) -> bool {
    ServiceError::of(error).is_some_and(ServiceError::is_of_clock)
}
