//! The root wrapper over a transit key.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use data_encoding::BASE64;
use kms_core::service::damaged;
use kms_core::{
    Blob, Claim, Error, ErrorKind, Ownership, Result, SecretBytes, VersionAge, Wrapper,
};
use zeroize::Zeroize as _;

use crate::builder::TransitWrapperBuilder;
use crate::ciphertext::{Ciphertext, is_version, version_number};
use crate::key_path::KeyPath;
use crate::preflight;
use crate::request;
use crate::session::{Operation, Session};

/// A root wrapper whose key is in the transit engine of Vault or OpenBao.
///
/// Each encryption and each decryption is one call to the service. Its blobs are those of Go's transit wrapper:
/// each reads the other's where no `aad` is given (Go's drops it, this one binds it as `associated_data`).
///
/// # Ownership
///
/// A blob's key id is the version of the key that made it, `v3` say, behind the
/// [prefix](TransitWrapperBuilder::key_id_prefix). With a prefix the wrapper knows its blobs; without one, the
/// `v3` of any transit key looks the same, so it can't tell ([`Ownership::Unknown`]). The version in the key id
/// and the one in the ciphertext must be the same.
///
/// Blobs of all versions of the key are current: a version is not another key. Before an old version is retired, rewrap
/// [what older versions made](kms_core::RewrapKeys::OlderVersions).
///
/// # Security
///
/// - The key never leaves the service. Whoever has a token that may decrypt with it can open every blob.
/// - It never creates a key. Transit does so on its own when the key of an encryption is missing and the token
///   has the capability `create`; requests here are such that the service refuses instead.
/// - Redirects are not followed, so that the token goes to the configured address only.
/// - What the service answers is protected by TLS alone: over plain HTTP (to a loopback address, or by
///   [`dangerous`](TransitWrapperBuilder::dangerous)) a bit flipped on the way in a ciphertext shows only when it
///   does not open.
/// - Plaintext and credentials are wiped from the buffers of this crate. Copies stay for a while where it can't
///   reach: in the JSON text that `rustify` makes of a request, in the buffers of HTTP and TLS, and in the header
///   with the token.
/// - Base64 is taken in its one canonical form only, so no two blobs open as the same one.
pub struct TransitWrapper {
    key: KeyPath,
    prefix: Option<String>,
    session: Arc<Session>,
    /// Version that encrypted last.
    version: Mutex<Option<String>>,
    /// Where the service is, for `Debug`.
    address: String,
    namespace: Option<String>,
}

impl TransitWrapper {
    /// Starts a wrapper without any setting.
    pub fn builder() -> TransitWrapperBuilder {
        TransitWrapperBuilder::new()
    }

    /// Starts a wrapper with what the environment says: see [`TransitWrapperBuilder::from_env`].
    pub fn from_env() -> TransitWrapperBuilder {
        TransitWrapperBuilder::from_env()
    }

    pub(crate) fn new(
        key: KeyPath,
        prefix: Option<String>,
        session: Session,
        address: String,
        namespace: Option<String>,
    ) -> Self {
        Self {
            key,
            prefix,
            session: Arc::new(session),
            version: Mutex::new(None),
            address,
            namespace,
        }
    }

    /// The version of the key that a blob names; `None` for one that is not this wrapper's.
    #[must_use]
    pub fn version_named_by(&self, blob: &Blob) -> Option<u32> {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        version_number(blob.key_id().strip_prefix(prefix)?)
    }

    /// The newest version of the key that this wrapper has seen: the service tells it in each encryption. `None` before
    /// the first one.
    #[must_use]
    pub fn newest_version_seen(&self) -> Option<u32> {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.as_deref().and_then(version_number)
    }

    /// Asks the service for the newest version of the key, by encrypting nothing: reading the key would need another
    /// right.
    ///
    /// # Errors
    ///
    /// Those of [`encrypt`](Wrapper::encrypt).
    pub async fn newest_version(&self) -> Result<u32> {
        let outcome = self.try_encrypt(b"", b"").await;
        let blob = outcome.map_err(|error| self.named(error, "newest version"))?;
        self.version_named_by(&blob)
            .ok_or_else(|| damaged("it names no version"))
    }

    async fn try_encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let request = request::encrypt(&self.key, plaintext, aad);
        let call = || self.session.call(&request, &self.key, Operation::Encrypt);
        let answer = self.session.limits().run(call).await?;
        let ciphertext = Ciphertext::parse(answer.ciphertext.as_bytes())
            .ok_or_else(|| damaged("it is not a ciphertext of transit"))?;
        let version = ciphertext.version();
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.to_owned());
        Ok(Blob::new(
            ciphertext.text().as_bytes().to_vec(),
            self.id_of(version),
        ))
    }

    async fn try_decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let ciphertext = self.checked(blob)?;
        let request = request::decrypt(&self.key, ciphertext.text(), aad);
        let call = || self.session.call(&request, &self.key, Operation::Decrypt);
        let mut answer = self.session.limits().run(call).await?;
        let plaintext = BASE64.decode(answer.plaintext.as_bytes());
        answer.plaintext.zeroize();
        // The decoder's error says where it stumbled and over which byte.
        plaintext
            .map(SecretBytes::new)
            .map_err(|_| damaged("its plaintext is not base64"))
    }

    /// The ciphertext of a blob that has the shape of this wrapper's.
    fn checked<'a>(&self, blob: &'a Blob) -> Result<Ciphertext<'a>> {
        let refused = |detail| {
            Err(Error::new(ErrorKind::InvalidBlob)
                .with_detail(detail)
                .with_context("key_id", blob.key_id()))
        };
        if blob.mechanism() != 0 || !blob.iv().is_empty() || !blob.wrapped_key().is_empty() {
            return refused("it has parts that transit doesn't make");
        }
        let Some(ciphertext) = Ciphertext::parse(blob.ciphertext()) else {
            return refused("it is not a ciphertext of transit");
        };
        if blob.key_id() != self.id_of(ciphertext.version()) {
            return refused("its key id is not of this wrapper and the version in its ciphertext");
        }
        Ok(ciphertext)
    }

    fn id_of(&self, version: &str) -> String {
        format!("{}{version}", self.prefix.as_deref().unwrap_or_default())
    }

    fn named(&self, error: Error, operation: &'static str) -> Error {
        error
            .with_operation(operation)
            .with_context("root_key_id", &self.key)
    }
}

#[async_trait]
impl Wrapper for TransitWrapper {
    fn kind(&self) -> &'static str {
        "transit"
    }

    fn key_id(&self) -> Option<String> {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.as_deref().map(|version| self.id_of(version))
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        match &self.prefix {
            Some(prefix) => match blob.key_id().strip_prefix(prefix.as_str()) {
                Some(version) if is_version(version) => Ownership::Yes,
                _ => Ownership::No,
            },
            None if is_version(blob.key_id()) => Ownership::Unknown,
            None => Ownership::No,
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
    }

    /// The prefix is a label: a key elsewhere, or one made again under this name, may have the same.
    fn claims(&self) -> Vec<Claim> {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let Self {
            address,
            namespace,
            key,
            ..
        } = self;
        let place = format!(
            "{address} {} {key}",
            namespace.as_deref().unwrap_or_default()
        );
        vec![Claim::by_label(prefix, place)]
    }

    fn version_of(&self, blob: &Blob) -> VersionAge {
        match self.key_id() {
            Some(newest) if self.owns(blob) != Ownership::No => {
                VersionAge::of(blob.key_id() == newest)
            }
            _ => VersionAge::Untold,
        }
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let outcome = self.try_encrypt(plaintext, aad).await;
        outcome.map_err(|error| self.named(error, "encrypt"))
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let outcome = self.try_decrypt(blob, aad).await;
        outcome.map_err(|error| self.named(error, "decrypt"))
    }

    /// Names every right that is missing, encrypts and decrypts a random probe, and makes sure that the service
    /// refuses another `aad` (releases from before associated data drop it). Warns, through `tracing`, of a token
    /// that could create keys.
    async fn preflight(&self) -> Result<()> {
        let outcome = preflight::run(self, &self.session, &self.key).await;
        outcome.map_err(|error| self.named(error, "preflight"))
    }
}

impl Drop for TransitWrapper {
    fn drop(&mut self) {
        self.session.close();
    }
}

impl fmt::Debug for TransitWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransitWrapper")
            .field("address", &self.address)
            .field("key", &format_args!("{}", self.key))
            .field("key_id", &self.key_id())
            .field("key_id_prefix", &self.prefix)
            .field("auth", self.session.auth())
            .field("limits", self.session.limits())
            .finish_non_exhaustive()
    }
}
