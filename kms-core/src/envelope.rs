//! Envelope encryption for wrappers of cloud services: a fresh key for the data, and the service for that key.

use std::sync::Arc;

use crate::aead::{Aead, NONCE_LEN, TAG_LEN};
use crate::blob::Blob;
use crate::error::{Error, ErrorKind, Result};
use crate::local_key::{open, too_short};
use crate::random;
use crate::secret::{KeyBytes, SecretBytes};

/// `mechanism` of a blob made by envelope encryption.
pub const ENVELOPE_MECHANISM: u64 = 1;

/// The local half of envelope encryption, which wrappers of cloud services share.
///
/// Encrypting: [`seal`](Self::seal), let the service encrypt [`Sealed::key`], then
/// [`Sealed::into_blob`]. Decrypting: let the service decrypt [`Blob::wrapped_key`], then
/// [`open`](Self::open).
#[derive(Clone, Debug)]
pub struct Envelope {
    aead: Arc<dyn Aead>,
}

impl Envelope {
    /// With this provider of AES-256-GCM.
    #[must_use]
    pub fn new(aead: Arc<dyn Aead>) -> Self {
        Self { aead }
    }

    /// Encrypts under a fresh key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] without random numbers, [`ErrorKind::InvalidBlob`] for a plaintext that is
    /// longer than the cipher allows.
    pub fn seal(&self, plaintext: &[u8], aad: &[u8]) -> Result<Sealed> {
        let key = KeyBytes::generate()?;
        let nonce = random::nonce();
        let mut ciphertext = Vec::with_capacity(plaintext.len() + TAG_LEN);
        ciphertext.extend_from_slice(plaintext);
        let tag = self
            .aead
            .prepare(&key)
            .seal_in_place(&nonce, aad, &mut ciphertext)
            .map_err(|_| Error::new(ErrorKind::InvalidBlob).with_detail("plaintext too long"))?;
        ciphertext.extend_from_slice(&tag);
        Ok(Sealed {
            key,
            nonce,
            ciphertext,
        })
    }

    /// Decrypts with the fresh key that the service decrypted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidBlob`] if the blob has another shape, [`ErrorKind::AuthenticationFailed`] if
    /// anything does not match.
    pub fn open(&self, blob: &Blob, key: &KeyBytes, aad: &[u8]) -> Result<SecretBytes> {
        let nonce: &[u8; NONCE_LEN] = blob
            .iv()
            .try_into()
            .map_err(|_| Error::new(ErrorKind::InvalidBlob).with_detail("no nonce of 12 bytes"))?;
        let (ciphertext, tag) = blob
            .ciphertext()
            .split_last_chunk::<TAG_LEN>()
            .ok_or_else(too_short)?;
        open(&*self.aead.prepare(key), nonce, aad, ciphertext, tag)
    }
}

/// Data encrypted under a fresh key that nobody has encrypted yet.
#[derive(Debug)]
pub struct Sealed {
    key: KeyBytes,
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
}

impl Sealed {
    /// The fresh key, for the service to encrypt.
    #[must_use]
    pub fn key(&self) -> &KeyBytes {
        &self.key
    }

    /// The blob, with the fresh key as the service encrypted it and the service's id of its key.
    #[must_use]
    pub fn into_blob(self, key_id: impl Into<String>, wrapped_key: Vec<u8>) -> Blob {
        self.into_blob_of(ENVELOPE_MECHANISM, key_id.into(), wrapped_key)
    }

    pub(crate) fn into_blob_of(self, mechanism: u64, key_id: String, wrapped: Vec<u8>) -> Blob {
        Blob::new(self.ciphertext, key_id)
            .with_iv(self.nonce)
            .with_wrapped_key(mechanism, wrapped)
    }
}
