//! The two calls to the service, bounded in time and checked.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;

use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::decrypt::DecryptOutput;
use aws_sdk_kms::operation::encrypt::EncryptOutput;
use aws_sdk_kms::primitives::Blob;
use kms_core::{CallLimits, Error, ErrorKind, Result, SecretBytes};

use crate::failure::{ServiceError, explain};
use crate::key_name::{KeyArn, KeyName};
use crate::service::body::HideBody;
use crate::service::clients::Clients;
use crate::service::connection::Connection;

mod body;
mod clients;
pub(crate) mod connection;

/// An encryption context: public data that is authenticated.
pub(crate) type Context = Option<HashMap<String, String>>;

/// A key in the service, by its configured name.
pub(crate) struct Service {
    name: KeyName,
    clients: Clients,
    limits: CallLimits,
}

impl Service {
    pub(crate) fn new(name: KeyName, connection: Connection, limits: CallLimits) -> Self {
        Self {
            name,
            clients: Clients::new(connection),
            limits,
        }
    }

    pub(crate) fn name(&self) -> &KeyName {
        &self.name
    }

    /// Encrypts; tells which key did.
    pub(crate) async fn encrypt(
        &self,
        plaintext: &[u8],
        context: &Context,
    ) -> Result<(KeyArn, Vec<u8>)> {
        let output = self
            .call("kms:Encrypt", |client| {
                let request = client
                    .encrypt()
                    .key_id(self.name.as_str())
                    .plaintext(Blob::new(plaintext))
                    .set_encryption_context(context.clone())
                    .customize()
                    .interceptor(HideBody);
                async move { request.send().await }
            })
            .await?;
        let EncryptOutput {
            ciphertext_blob,
            key_id,
            ..
        } = output;
        let key = self.answered_key(key_id.as_deref())?;
        let ciphertext = ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        if ciphertext.is_empty() {
            return Err(damaged("without a ciphertext"));
        }
        Ok((key, ciphertext))
    }

    /// Decrypts with the configured key; tells which one that is now.
    pub(crate) async fn decrypt(
        &self,
        ciphertext: &[u8],
        context: &Context,
    ) -> Result<(KeyArn, SecretBytes)> {
        let output = self
            .call("kms:Decrypt", |client| {
                let request = client
                    .decrypt()
                    .key_id(self.name.as_str())
                    .ciphertext_blob(Blob::new(ciphertext))
                    .set_encryption_context(context.clone())
                    .customize()
                    .interceptor(HideBody);
                async move { request.send().await }
            })
            .await?;
        let DecryptOutput {
            plaintext, key_id, ..
        } = output;
        // Taken over first, so that it is wiped in any case.
        let plaintext = plaintext.map(|blob| SecretBytes::new(blob.into_inner()));
        let key = self.answered_key(key_id.as_deref())?;
        let plaintext = plaintext.ok_or_else(|| damaged("without a plaintext"))?;
        Ok((key, plaintext))
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
            let client = &self.clients.current(&self.limits).await?;
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
        self.limits
            .run(attempt)
            .await
            .map_err(|error| error.with_context("root_key_id", self.name.as_str()))
    }

    /// The key that the answer is about, if it can be the configured one.
    fn answered_key(&self, id: Option<&str>) -> Result<KeyArn> {
        let key = id
            .and_then(KeyArn::parse)
            .ok_or_else(|| damaged("without the ARN of a key"))?;
        if self.name.may_be(&key) {
            Ok(key)
        } else {
            Err(damaged("about another key")
                .with_context("root_key_id", self.name.as_str())
                .with_context("answered_key_id", key.as_str()))
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name.as_str())
            .field("clients", &self.clients)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn is_of_clock(error: &Error) -> bool {
    error
        .source()
        .and_then(|source| source.downcast_ref::<ServiceError>())
        .is_some_and(ServiceError::is_of_clock)
}

fn damaged(detail: &'static str) -> Error {
    Error::new(ErrorKind::DamagedResponse).with_detail(detail)
}
