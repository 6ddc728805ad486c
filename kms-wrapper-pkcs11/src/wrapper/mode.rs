//! The two ways to encrypt, and what their blobs look like.

use kms_core::service::{DIRECT_MECHANISM, invalid_blob};
use kms_core::{Blob, ENVELOPE_MECHANISM, NONCE_LEN, Result, TAG_LEN};

use crate::cipher::WRAPPED_LEN;

/// How a wrapper encrypts. It decrypts what either way made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pkcs11Mode {
    /// On the token, by AES-GCM (`CKM_AES_GCM`), which authenticates `aad` too. The nonce is 96 random bits; a key
    /// is good for 2³² encryptions ([NIST SP 800-38D](https://doi.org/10.6028/NIST.SP.800-38D), 8.3).
    #[default]
    Direct,
    /// Here, under a fresh key, which the token wraps by AES key wrap (`CKM_AES_KEY_WRAP`, RFC 3394): for tokens
    /// without AES-GCM. Key wrap takes no `aad`: `aad` is authenticated here, under the fresh key, and not by the
    /// token. The token has to take the fresh key as an object of its session, and to give it out again.
    Envelope,
}

/// The two kinds of blobs that a wrapper makes.
pub(super) enum Shape {
    Direct([u8; NONCE_LEN]),
    Envelope,
}

impl Shape {
    /// That of this blob; checked before the token is asked.
    pub(super) fn of(blob: &Blob) -> Result<Self> {
        let nonce = blob
            .iv()
            .try_into()
            .map_err(|_| invalid_blob("no nonce of 12 bytes"))?;
        if blob.ciphertext().len() < TAG_LEN {
            return Err(invalid_blob("it is too short"));
        }
        match (blob.mechanism(), blob.wrapped_key().len()) {
            (DIRECT_MECHANISM, 0) => Ok(Self::Direct(nonce)),
            (ENVELOPE_MECHANISM, WRAPPED_LEN) => Ok(Self::Envelope),
            (DIRECT_MECHANISM | ENVELOPE_MECHANISM, _) => {
                Err(invalid_blob("its wrapped key has an impossible length"))
            }
            _ => Err(invalid_blob("its mechanism is not one of PKCS#11")),
        }
    }
}
