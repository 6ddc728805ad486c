//! The calls to the service, bounded in time, and checked both ways.

use std::fmt;
use std::future::Future;

use async_trait::async_trait;
use google_cloudkms1::api::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, TestIamPermissionsRequest,
    TestIamPermissionsResponse,
};
use kms_core::service::{Encrypted, PerRuntime, ServiceKey, damaged};
use kms_core::{CallLimits, Error, ErrorKind, Result, SecretBytes};
use reqwest::Client;
use zeroize::Zeroize as _;

use crate::endpoint::Endpoint;
use crate::failure;
use crate::key_name::KeyName;
use crate::login::Logins;
use crate::network::Network;

mod transport;

/// What is asked of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Encrypt,
    Decrypt,
    TestPermissions,
}

impl Operation {
    fn verb(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::TestPermissions => "testIamPermissions",
        }
    }
}

/// The permissions that a wrapper needs.
const PERMISSIONS: [&str; 2] = [
    "cloudkms.cryptoKeyVersions.useToEncrypt",
    "cloudkms.cryptoKeyVersions.useToDecrypt",
];

/// A key in the service.
pub(crate) struct Service {
    key: KeyName,
    endpoint: Endpoint,
    network: Network,
    logins: Logins,
    clients: PerRuntime<Client>,
    limits: CallLimits,
}

impl Service {
    pub(crate) fn new(
        key: KeyName,
        endpoint: Endpoint,
        network: Network,
        logins: Logins,
        limits: CallLimits,
    ) -> Self {
        Self {
            key,
            endpoint,
            network,
            logins,
            clients: PerRuntime::new(),
            limits,
        }
    }

    pub(crate) fn key(&self) -> &KeyName {
        &self.key
    }

    /// Those of the permissions that the caller lacks on the key; all of them if there is no such key.
    pub(crate) async fn missing_permissions(&self) -> Result<Vec<&'static str>> {
        let held = self.ask(|client| async move {
            let request = TestIamPermissionsRequest {
                permissions: Some(PERMISSIONS.map(str::to_owned).to_vec()),
            };
            let operation = Operation::TestPermissions;
            self.call::<TestIamPermissionsResponse>(&client, operation, &request)
                .await
        });
        let held = held.await?.permissions.unwrap_or_default();
        let lacks = |name: &&str| !held.iter().any(|held| held == name);
        Ok(PERMISSIONS.into_iter().filter(lacks).collect())
    }

    /// Asks within the limits. Inside of an attempt, what can be mended at once is asked once more: a damaged
    /// answer, as the service's guidelines want it, and a token that is no longer taken.
    async fn ask<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.limits
            .run(|| async {
                let client = self.client().await?;
                let login = self.logins.current();
                let was_made_before = login.is_made();
                match call(client.clone()).await {
                    Err(error) if error.kind() == ErrorKind::DamagedResponse => call(client).await,
                    Err(error) if failure::is_about_credentials(&error) => {
                        // The library keeps a final refusal for good, and any other for a while.
                        let forgotten = self.logins.forget(&login);
                        if forgotten && was_made_before && !error.is_retryable() {
                            return call(client).await;
                        }
                        Err(error)
                    }
                    outcome => outcome,
                }
            })
            .await
            .map_err(|error| error.with_context("root_key_id", self.key.as_str()))
    }

    async fn client(&self) -> Result<Client> {
        self.clients
            .current(async || {
                let (network, endpoint) = (self.network.clone(), self.endpoint.clone());
                let connect_timeout = self.limits.connect_timeout();
                // Reads certificates from the disk.
                tokio::task::spawn_blocking(move || network.client(&endpoint, connect_timeout))
                    .await
                    .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))?
            })
            .await
    }

    fn checked_encryption(&self, answer: EncryptResponse) -> Result<Encrypted> {
        let version = answer.name.unwrap_or_default();
        if !self.key.has_version(&version) {
            return Err(damaged("it names no version of the configured key")
                .with_context("answered_key_id", version));
        }
        let verified = answer.verified_plaintext_crc32c == Some(true)
            && answer.verified_additional_authenticated_data_crc32c == Some(true);
        if !verified {
            return Err(damaged(
                "the service did not verify the request's checksums",
            ));
        }
        let ciphertext = answer.ciphertext.unwrap_or_default();
        if ciphertext.is_empty() || answer.ciphertext_crc32c != Some(checksum(&ciphertext)) {
            return Err(damaged("the ciphertext does not match its checksum"));
        }
        Ok(Encrypted {
            key_id: version,
            ciphertext,
        })
    }
}

#[async_trait]
impl ServiceKey for Service {
    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Encrypted> {
        self.ask(|client| async move {
            let request = EncryptRequest {
                plaintext: Some(plaintext.to_vec()),
                plaintext_crc32c: Some(checksum(plaintext)),
                additional_authenticated_data: Some(aad.to_vec()),
                additional_authenticated_data_crc32c: Some(checksum(aad)),
            };
            self.checked_encryption(self.call(&client, Operation::Encrypt, &request).await?)
        })
        .await
    }

    async fn decrypt(&self, ciphertext: &[u8], aad: &[u8]) -> Result<SecretBytes> {
        self.ask(|client| async move {
            let request = DecryptRequest {
                ciphertext: Some(ciphertext.to_vec()),
                ciphertext_crc32c: Some(checksum(ciphertext)),
                additional_authenticated_data: Some(aad.to_vec()),
                additional_authenticated_data_crc32c: Some(checksum(aad)),
            };
            checked_decryption(self.call(&client, Operation::Decrypt, &request).await?)
        })
        .await
    }
}

fn checked_decryption(answer: DecryptResponse) -> Result<SecretBytes> {
    // An empty plaintext is left out of the answer; its checksum is not.
    let mut plaintext = answer.plaintext.unwrap_or_default();
    if answer.plaintext_crc32c == Some(checksum(&plaintext)) {
        Ok(SecretBytes::new(plaintext))
    } else {
        plaintext.zeroize();
        Err(damaged("the plaintext does not match its checksum"))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("key", &self.key)
            .field("endpoint", &self.endpoint)
            .field("network", &self.network)
            .field("credentials", &self.logins)
            .field("limits", &self.limits)
            .finish()
    }
}

/// CRC32C, as the service takes it
/// ([data integrity guidelines](https://cloud.google.com/kms/docs/data-integrity-guidelines)).
fn checksum(data: &[u8]) -> i64 {
    i64::from(crc32c::crc32c(data))
}
