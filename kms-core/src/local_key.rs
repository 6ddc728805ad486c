//! A key that is in memory: what root keys, data keys and local root wrappers are made of.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::aead::{Aead, AeadKey, NONCE_LEN, TAG_LEN};
use crate::blob::Blob;
use crate::error::{Error, ErrorKind, Result};
use crate::random;
use crate::secret::{KeyBytes, SecretBytes};

/// An AES-256-GCM key with an id, ready to use. Synchronous, local, shared by any number of threads.
///
/// A blob's ciphertext is nonce, ciphertext and tag in one, the nonce random: rotate before
/// [`BUDGET`](Self::BUDGET) is used up.
pub struct LocalKey {
    id: Arc<str>,
    key: Box<dyn AeadKey>,
    encryptions: AtomicU64,
}

impl LocalKey {
    /// Encryptions under one key, by all processes together, before a repetition of a random 96-bit nonce
    /// gets likelier than 2^-32 (NIST SP 800-38D, section 8.3).
    pub const BUDGET: u64 = 1 << 32;

    /// Prepares the key. `id` goes into each blob's key info.
    #[must_use]
    pub fn new(aead: &dyn Aead, key: &KeyBytes, id: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            key: aead.prepare(key),
            encryptions: AtomicU64::new(0),
        }
    }

    /// The id that blobs carry.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How often [`encrypt`](Self::encrypt) was called.
    #[must_use]
    pub fn encryptions(&self) -> u64 {
        self.encryptions.load(Ordering::Relaxed)
    }

    /// Encrypts; an empty plaintext is fine. `aad` is authenticated and not stored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidBlob`] if the plaintext is longer than the cipher allows (about 64 GiB).
    pub fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.encryptions.fetch_add(1, Ordering::Relaxed);
        let nonce = random::nonce();
        let mut buffer = Vec::with_capacity(NONCE_LEN + plaintext.len() + TAG_LEN);
        buffer.extend_from_slice(&nonce);
        buffer.extend_from_slice(plaintext);
        let tag = self
            .key
            .seal_in_place(&nonce, aad, &mut buffer[NONCE_LEN..])
            .map_err(|_| Error::new(ErrorKind::InvalidBlob).with_detail("plaintext too long"))?;
        buffer.extend_from_slice(&tag);
        Ok(Blob::new(buffer, &*self.id))
    }

    /// Decrypts what [`encrypt`](Self::encrypt) made, with the same `aad`. The blob's key id is not looked
    /// at: choosing the key is the caller's part.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidBlob`] if it is too short, [`ErrorKind::AuthenticationFailed`] if anything
    /// does not match.
    pub fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let (nonce, rest) = blob
            .ciphertext()
            .split_first_chunk::<NONCE_LEN>()
            .ok_or_else(too_short)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or_else(too_short)?;
        open(&*self.key, nonce, aad, ciphertext, tag)
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Decrypts a copy in a buffer that is wiped, also if the tag does not match.
pub(crate) fn open(
    key: &dyn AeadKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    ciphertext: &[u8],
    tag: &[u8; TAG_LEN],
) -> Result<SecretBytes> {
    let mut plaintext = SecretBytes::new(ciphertext.to_vec());
    key.open_in_place(nonce, aad, plaintext.expose_mut(), tag)
        .map_err(|_| Error::new(ErrorKind::AuthenticationFailed))?;
    Ok(plaintext)
}

pub(crate) fn too_short() -> Error {
    Error::new(ErrorKind::InvalidBlob).with_detail("shorter than a nonce and a tag")
}
