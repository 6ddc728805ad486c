//! The two ways to encrypt with a key in a service, and what their blobs look like.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::aead::{Aead, NONCE_LEN, TAG_LEN};
use crate::blob::Blob;
use crate::envelope::{ENVELOPE_MECHANISM, Envelope};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{KeyBytes, SecretBytes};
use crate::service::{invalid_blob, misconfigured};

/// `mechanism` of a blob that a service encrypted itself.
pub const DIRECT_MECHANISM: u64 = 0;

/// `mechanism` of an envelope whose fresh key the service bound to the `aad`. Far from Go's, which count from 0.
pub const BOUND_ENVELOPE_MECHANISM: u64 = 1001;

const AAD_OF_PREFLIGHT: &[u8] = b"kms preflight";

/// How a wrapper of a key in a service encrypts. It decrypts what either way made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Here, under a fresh key, which the service encrypts. Any length; a damaged answer of the service can't pass
    /// for a plaintext.
    ///
    /// `aad` is authenticated here, and by the service as a hash, so that a fresh key serves the blob that it was
    /// made for and no other. Without `aad` there is nothing to bind: such a blob is one of Go's, and Go's wrapper
    /// opens it.
    #[default]
    Envelope,
    /// In the service, which authenticates `aad`. The lengths are limited by the service, and the integrity of its
    /// answers is that of TLS and of the service's own checksums.
    Direct,
}

/// A key in a service: the two calls that a wrapper of it is made of.
///
/// Both fail with the kinds of [`Wrapper`](crate::Wrapper), within the wrapper's
/// [`CallLimits`](crate::CallLimits), and check that the answer is about the configured key.
#[async_trait]
pub trait ServiceKey: Send + Sync {
    /// Encrypts in the service, which authenticates `aad`.
    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Encrypted>;

    /// Decrypts in the service, with the configured key.
    async fn decrypt(&self, ciphertext: &[u8], aad: &[u8]) -> Result<SecretBytes>;
}

/// What a service encrypted.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// The key that did, as blobs carry it.
    pub key_id: String,
    /// The service's ciphertext.
    pub ciphertext: Vec<u8>,
}

/// Makes blobs with a [`ServiceKey`], and opens them: in the mode that it was made with, and those of the other.
#[derive(Clone, Debug)]
pub struct Sealing {
    mode: Mode,
    /// Needed for envelopes only.
    envelope: Option<Envelope>,
}

impl Sealing {
    /// In this mode. In direct mode, only blobs made in envelope mode need the provider of AES-256-GCM.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfiguration`] for envelope mode without a provider.
    pub fn new(mode: Mode, aead: Option<Arc<dyn Aead>>) -> Result<Self> {
        if mode == Mode::Envelope && aead.is_none() {
            return Err(misconfigured(
                "no aead: envelope mode encrypts with it; give one, or choose direct mode",
            ));
        }
        let envelope = aead.map(Envelope::new);
        Ok(Self { mode, envelope })
    }

    /// Whether the blob's mechanism is one of those that blobs of services have.
    #[must_use]
    pub fn makes(blob: &Blob) -> bool {
        matches!(
            blob.mechanism(),
            DIRECT_MECHANISM | ENVELOPE_MECHANISM | BOUND_ENVELOPE_MECHANISM
        )
    }

    /// Encrypts, with one call to the service.
    ///
    /// # Errors
    ///
    /// Those of the service; [`ErrorKind::InvalidBlob`] for a plaintext that is too long.
    pub async fn encrypt(
        &self,
        key: &dyn ServiceKey,
        plaintext: &[u8],
        aad: &[u8],
    ) -> Result<Blob> {
        match self.mode {
            Mode::Envelope => {
                let sealed = self.envelope()?.seal(plaintext, aad)?;
                let bound = bound(aad);
                let wrapped = key.encrypt(sealed.key().expose(), &bound).await?;
                let mechanism = if bound.is_empty() {
                    ENVELOPE_MECHANISM
                } else {
                    BOUND_ENVELOPE_MECHANISM
                };
                Ok(sealed.into_blob_of(mechanism, wrapped.key_id, wrapped.ciphertext))
            }
            Mode::Direct => {
                let encrypted = key.encrypt(plaintext, aad).await?;
                Ok(Blob::new(encrypted.ciphertext, encrypted.key_id))
            }
        }
    }

    /// Decrypts, with one call to the service.
    ///
    /// # Errors
    ///
    /// Those of the service; [`ErrorKind::InvalidBlob`] for a blob of another shape, before anything is asked;
    /// [`ErrorKind::AuthenticationFailed`]; [`ErrorKind::InvalidConfiguration`] for an envelope without a provider
    /// of AES-256-GCM.
    pub async fn decrypt(
        &self,
        key: &dyn ServiceKey,
        blob: &Blob,
        aad: &[u8],
    ) -> Result<SecretBytes> {
        check_shape(blob)?;
        let bound = match blob.mechanism() {
            DIRECT_MECHANISM => return key.decrypt(blob.ciphertext(), aad).await,
            BOUND_ENVELOPE_MECHANISM => bound(aad),
            _ => Vec::new(),
        };
        let envelope = self.envelope()?;
        let fresh = key.decrypt(blob.wrapped_key(), &bound).await?;
        let fresh = KeyBytes::from_slice(fresh.expose())
            .map_err(|_| invalid_blob("its wrapped key is not one of 32 bytes"))?;
        envelope.open(blob, &fresh, aad)
    }

    /// Encrypts and decrypts a random probe.
    ///
    /// # Errors
    ///
    /// Those of encrypting and decrypting; [`ErrorKind::Internal`] if the probe comes back altered.
    pub async fn preflight(&self, key: &dyn ServiceKey) -> Result<()> {
        let probe = KeyBytes::generate()?;
        let blob = self.encrypt(key, probe.expose(), AAD_OF_PREFLIGHT).await?;
        let back = self.decrypt(key, &blob, AAD_OF_PREFLIGHT).await?;
        if back.expose() == probe.expose() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Internal)
            .with_detail("the service decrypted its own ciphertext to something else"))
    }

    fn envelope(&self) -> Result<&Envelope> {
        self.envelope.as_ref().ok_or_else(|| {
            misconfigured("the blob was made in envelope mode; give the wrapper's builder an aead")
        })
    }
}

/// What the service authenticates beside a fresh key. It differs from the `aad` of a direct blob, so that a fresh key
/// that somebody learned does not pass for what the service encrypted itself.
fn bound(aad: &[u8]) -> Vec<u8> {
    const FORMAT: &[u8] = b"kms-fresh-key-v1";
    match aad {
        [] => Vec::new(),
        aad => [FORMAT, &Sha256::digest(aad)].concat(),
    }
}

/// Refuses what no wrapper of a service can have made.
fn check_shape(blob: &Blob) -> Result<()> {
    let fits = match blob.mechanism() {
        DIRECT_MECHANISM => blob.iv().is_empty() && blob.wrapped_key().is_empty(),
        ENVELOPE_MECHANISM | BOUND_ENVELOPE_MECHANISM => {
            blob.iv().len() == NONCE_LEN
                && blob.ciphertext().len() >= TAG_LEN
                && !blob.wrapped_key().is_empty()
        }
        _ => false,
    };
    if fits && !blob.ciphertext().is_empty() {
        return Ok(());
    }
    Err(invalid_blob(
        "it has not the shape of one that a key in a service made",
    ))
}
