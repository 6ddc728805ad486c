//! A key that is in memory: what root keys, data keys and local root wrappers are made of.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use zeroize::Zeroize as _;

use crate::aead::{Aead, AeadKey, NONCE_LEN, TAG_LEN};
use crate::blob::{Blob, Encoded};
use crate::error::{Error, ErrorKind, Result};
use crate::random;
use crate::secret::{KeyBytes, SecretBytes};
use crate::usage::Count;
use smol_str::SmolStr;

/// An AES-256-GCM key with an id, ready to use. Synchronous, local, shared by any number of threads.
///
/// A blob's ciphertext is nonce, ciphertext and tag in one, the nonce random: rotate before
/// [`BUDGET`](Self::BUDGET) is used up.
pub struct LocalKey {
    id: SmolStr,
    key: Box<dyn AeadKey>,
    /// Where encryptions are counted, if anybody wants to know.
    encryptions: Option<Count>,
}

impl LocalKey {
    /// Encryptions under one key, by all processes together, before a repetition of a random 96-bit nonce
    /// gets likelier than 2^-32 (NIST SP 800-38D, section 8.3).
    pub const BUDGET: u64 = 1 << 32;

    /// Prepares the key. `id` goes into each blob's key info.
    #[must_use]
    pub fn new(aead: &dyn Aead, key: &KeyBytes, id: impl Into<Arc<str>>) -> Self {
        Self::named(aead, key, id.into().into(), Some(Count::default()))
    }

    pub(crate) fn named(
        aead: &dyn Aead,
        key: &KeyBytes,
        id: SmolStr,
        encryptions: Option<Count>,
    ) -> Self {
        Self {
            id,
            key: aead.prepare(key),
            encryptions,
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
        let counted = self.encryptions.as_ref();
        counted.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Encrypts; an empty plaintext is fine. `aad` is authenticated and not stored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidBlob`] if the plaintext is longer than the cipher allows (about 64 GiB).
    pub fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let mut buffer = Vec::with_capacity(sealed_length(plaintext)?);
        self.seal_into(plaintext, aad, &mut buffer)?;
        Ok(Blob::new(buffer, &*self.id))
    }

    /// Encrypts as [`encrypt`](Self::encrypt) does, and appends the serialized blob: the same bytes as
    /// [`Blob::encode`] gives. It allocates only if the spare capacity does not suffice.
    ///
    /// # Errors
    ///
    /// As [`encrypt`](Self::encrypt); nothing is appended then.
    pub fn encrypt_into(&self, plaintext: &[u8], aad: &[u8], blob: &mut Vec<u8>) -> Result<()> {
        let sealed = sealed_length(plaintext)?;
        let start = blob.len();
        blob.reserve(Encoded::length(sealed, &self.id));
        Encoded::begin(blob, sealed);
        if let Err(error) = self.seal_into(plaintext, aad, blob) {
            blob.truncate(start);
            return Err(error);
        }
        Encoded::end(blob, &self.id);
        Ok(())
    }

    /// As [`encrypt_into`](Self::encrypt_into), in a buffer of exactly the right size.
    ///
    /// # Errors
    ///
    /// As [`encrypt`](Self::encrypt).
    pub fn encrypt_to_vec(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        let length = Encoded::length(sealed_length(plaintext)?, &self.id);
        let mut blob = Vec::with_capacity(length);
        self.encrypt_into(plaintext, aad, &mut blob)?;
        Ok(blob)
    }

    /// Appends nonce, ciphertext and tag. Capacity for them is there.
    fn seal_into(&self, plaintext: &[u8], aad: &[u8], buffer: &mut Vec<u8>) -> Result<()> {
        if let Some(count) = &self.encryptions {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nonce = random::nonce();
        buffer.extend_from_slice(&nonce);
        let start = buffer.len();
        buffer.extend_from_slice(plaintext);
        match self.key.seal_in_place(&nonce, aad, &mut buffer[start..]) {
            Ok(tag) => {
                buffer.extend_from_slice(&tag);
                Ok(())
            }
            Err(_) => {
                // It may still be the plaintext.
                buffer[start..].zeroize();
                Err(too_long())
            }
        }
    }

    /// Decrypts what [`encrypt`](Self::encrypt) made, with the same `aad`. The blob's key id is not looked
    /// at: choosing the key is the caller's part.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidBlob`] if it is too short, [`ErrorKind::AuthenticationFailed`] if anything
    /// does not match.
    pub fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let mut plaintext = SecretBytes::default();
        self.open_into(blob.ciphertext(), aad, &mut plaintext)?;
        Ok(plaintext)
    }

    /// Decrypts nonce, ciphertext and tag, in place of what `plaintext` held. After a failure it holds
    /// nothing.
    pub(crate) fn open_into(
        &self,
        sealed: &[u8],
        aad: &[u8],
        plaintext: &mut SecretBytes,
    ) -> Result<()> {
        let Some((nonce, ciphertext, tag)) = parts(sealed) else {
            plaintext.clear();
            return Err(too_short());
        };
        plaintext.replace(ciphertext);
        self.key
            .open_in_place(nonce, aad, plaintext.expose_mut(), tag)
            .map_err(|_| {
                plaintext.clear();
                Error::new(ErrorKind::AuthenticationFailed)
            })
    }

    /// Decrypts nonce, ciphertext and tag where they are. After a failure the ciphertext is overwritten.
    pub(crate) fn open_in_place<'a>(
        &self,
        sealed: &'a mut [u8],
        aad: &[u8],
    ) -> Result<&'a mut [u8]> {
        let (nonce, rest) = sealed
            .split_first_chunk_mut::<NONCE_LEN>()
            .ok_or_else(too_short)?;
        let (buffer, tag) = rest
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or_else(too_short)?;
        match self.key.open_in_place(nonce, aad, buffer, tag) {
            Ok(()) => Ok(buffer),
            Err(_) => {
                buffer.zeroize();
                Err(Error::new(ErrorKind::AuthenticationFailed))
            }
        }
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

/// Nonce, ciphertext and tag.
fn parts(sealed: &[u8]) -> Option<(&[u8; NONCE_LEN], &[u8], &[u8; TAG_LEN])> {
    let (nonce, rest) = sealed.split_first_chunk()?;
    let (ciphertext, tag) = rest.split_last_chunk()?;
    Some((nonce, ciphertext, tag))
}

/// How long nonce, ciphertext and tag are together.
fn sealed_length(plaintext: &[u8]) -> Result<usize> {
    plaintext
        .len()
        .checked_add(NONCE_LEN + TAG_LEN)
        .ok_or_else(too_long)
}

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidBlob).with_detail("plaintext too long")
}

pub(crate) fn too_short() -> Error {
    Error::new(ErrorKind::InvalidBlob).with_detail("shorter than a nonce and a tag")
}
