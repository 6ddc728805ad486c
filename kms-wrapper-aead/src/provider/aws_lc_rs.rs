//! The provider on `aws-lc-rs`.

use std::fmt;

use ::aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use kms_core::{Aead, AeadError, AeadKey, KeyBytes, NONCE_LEN, TAG_LEN};

use crate::clean_stack;

/// AES-256-GCM of the crate `aws-lc-rs` (feature `aws-lc-rs`), on AWS-LC's C and assembly.
///
/// It wipes its keys: the expanded key lies in one allocation of AWS-LC, whose `EVP_AEAD_CTX_free` frees it
/// with `OPENSSL_free`, which overwrites every block before it gives it back (unless the program has put an
/// allocator of its own into AWS-LC).
///
/// This is AWS-LC as it is, not its FIPS module.
///
/// ```
/// use kms_core::{Aead as _, KeyBytes};
/// use kms_wrapper_aead::AwsLcRs;
///
/// let key = AwsLcRs.prepare(&KeyBytes::generate()?);
/// let mut buffer = *b"attack at dawn";
/// let tag = key.seal_in_place(&[0; 12], b"", &mut buffer).unwrap();
/// key.open_in_place(&[0; 12], b"", &mut buffer, &tag).unwrap();
/// assert_eq!(&buffer, b"attack at dawn");
/// # Ok::<(), kms_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AwsLcRs;

impl Aead for AwsLcRs {
    fn name(&self) -> &'static str {
        "aws-lc-rs"
    }

    fn prepare(&self, key: &KeyBytes) -> Box<dyn AeadKey> {
        clean_stack::after::<{ clean_stack::BUILDING }, _>(|| {
            let key = UnboundKey::new(&AES_256_GCM, key.expose())
                .expect("a key of 32 bytes is refused only when no memory is left");
            Box::new(Prepared(LessSafeKey::new(key)))
        })
    }
}

struct Prepared(LessSafeKey);

impl AeadKey for Prepared {
    fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(aad),
                buffer,
            )
            .map_err(|_| AeadError)?;
        tag.as_ref().try_into().map_err(|_| AeadError)
    }

    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        self.0
            .open_in_place_separate_tag(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(aad),
                tag,
                buffer,
            )
            .map(|_| ())
            .map_err(|_| AeadError)
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey(aws-lc-rs)")
    }
}
