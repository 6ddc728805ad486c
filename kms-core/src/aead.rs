//! The primitive that everything local is encrypted with, as a role that a provider fills.

use std::fmt;

use crate::secret::KeyBytes;

/// Length of a nonce in bytes (NIST SP 800-38D, section 8.2: 96 bits).
pub const NONCE_LEN: usize = 12;

/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;

/// A provider of AES-256-GCM. The core has none of its own: `kms-wrapper-aead` brings them.
///
/// # Contract
///
/// - The cipher is AES-256-GCM (NIST SP 800-38D), and nothing else: blobs don't say which cipher made them.
/// - [`prepare`](Self::prepare) expands a key once; what it gives is used many times, by many threads.
/// - What it gives wipes everything derived from the key when it is dropped, and shows none of it in `Debug`.
///
/// An implementation is checked by `kms_testkit::aead`, which holds it against published vectors.
pub trait Aead: fmt::Debug + Send + Sync {
    /// The provider's name, for diagnostics: `"ring"`, `"aes-gcm"`, …
    fn name(&self) -> &'static str;

    /// Expands a key.
    fn prepare(&self, key: &KeyBytes) -> Box<dyn AeadKey>;
}

/// A prepared AES-256-GCM key.
///
/// # Security
///
/// The caller never repeats a nonce under one key; this system takes random ones.
pub trait AeadKey: fmt::Debug + Send + Sync {
    /// Encrypts the buffer where it is, and gives the tag. `aad` is authenticated with it.
    ///
    /// # Errors
    ///
    /// [`AeadError`] if the input is longer than the cipher allows (about 64 GiB).
    fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError>;

    /// Checks the tag and decrypts the buffer where it is.
    ///
    /// # Errors
    ///
    /// [`AeadError`] if anything does not match. What the buffer then holds must not be used.
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError>;
}

/// The primitive refused. It doesn't say why, on purpose: the reason is an oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed or input too long")]
pub struct AeadError;
