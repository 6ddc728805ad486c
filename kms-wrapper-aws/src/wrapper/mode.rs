//! The two ways to encrypt, and what their blobs look like.

use std::collections::HashMap;

use data_encoding::BASE64;
use kms_core::{Blob, ENVELOPE_MECHANISM, Error, ErrorKind, NONCE_LEN, Result, TAG_LEN};
use sha2::{Digest as _, Sha256};

use crate::service::Context;

/// `mechanism` of a blob that the service encrypted itself.
pub(super) const DIRECT_MECHANISM: u64 = 0;

/// Longest plaintext that the service encrypts itself, in bytes
/// ([Encrypt](https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html)).
const MAX_DIRECT_LEN: usize = 4096;

/// Longest ciphertext that the service takes, in bytes
/// ([Decrypt](https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html)).
const MAX_CIPHERTEXT_LEN: usize = 6144;

/// Name of the one pair in the encryption context of direct mode.
const AAD_CONTEXT: &str = "aad-sha256";

/// How a wrapper encrypts. It decrypts what either way made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AwsKmsMode {
    /// Here, under a fresh key, which the service encrypts. Any length; `aad` is authenticated here; a damaged
    /// answer of the service can't pass for a plaintext.
    #[default]
    Envelope,
    /// In the service: 1 to 4096 bytes. `aad` is authenticated as an encryption context of one pair,
    /// `aad-sha256`, and so shows as a hash in CloudTrail. Integrity of the answers is that of TLS.
    Direct,
}

/// The two kinds of blobs that a wrapper makes.
pub(super) enum Shape {
    Direct,
    Envelope,
}

impl Shape {
    /// That of this blob; checked before the service is asked.
    pub(super) fn of(blob: &Blob) -> Result<Self> {
        let wrapped = blob.wrapped_key().len();
        let ciphertext = blob.ciphertext().len();
        match blob.mechanism() {
            DIRECT_MECHANISM if !blob.iv().is_empty() || wrapped > 0 => {
                Err(invalid("it is not one of AWS KMS"))
            }
            DIRECT_MECHANISM if (1..=MAX_CIPHERTEXT_LEN).contains(&ciphertext) => Ok(Self::Direct),
            ENVELOPE_MECHANISM if blob.iv().len() != NONCE_LEN => {
                Err(invalid("no nonce of 12 bytes"))
            }
            ENVELOPE_MECHANISM
                if ciphertext >= TAG_LEN && (1..=MAX_CIPHERTEXT_LEN).contains(&wrapped) =>
            {
                Ok(Self::Envelope)
            }
            DIRECT_MECHANISM | ENVELOPE_MECHANISM => {
                Err(invalid("a part of it is of an impossible length"))
            }
            _ => Err(invalid("its mechanism is not one of AWS KMS")),
        }
    }
}

/// The encryption context that binds `aad` in direct mode.
pub(super) fn context(aad: &[u8]) -> Context {
    (!aad.is_empty()).then(|| {
        let hash = BASE64.encode(&Sha256::digest(aad));
        HashMap::from([(AAD_CONTEXT.to_owned(), hash)])
    })
}

/// Whether the service encrypts a plaintext of this length itself.
pub(super) fn check_direct(plaintext: &[u8]) -> Result<()> {
    if (1..=MAX_DIRECT_LEN).contains(&plaintext.len()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidBlob).with_detail(format!(
        "AWS KMS encrypts 1 to {MAX_DIRECT_LEN} bytes itself, not {}; use envelope mode",
        plaintext.len()
    )))
}

pub(super) fn invalid(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidBlob).with_detail(detail)
}
