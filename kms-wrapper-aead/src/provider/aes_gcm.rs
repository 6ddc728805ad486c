//! The provider that is always there: pure Rust, and it wipes its keys itself.

use std::fmt;

use ::aes_gcm::aead::AeadInOut as _;
use ::aes_gcm::{Aes256Gcm, KeyInit as _};
use kms_core::{Aead, AeadError, AeadKey, KeyBytes, NONCE_LEN, TAG_LEN};
use zeroize::ZeroizeOnDrop;

use crate::clean_stack;

/// AES-256-GCM of the crate `aes-gcm`: pure Rust, with the processor's AES instructions where there are any.
///
/// It wipes its keys: the crate's feature `zeroize` is on, and this code does not compile without it. While it
/// works, though, it puts round keys aside on the stack and leaves them there, so that part of the stack is
/// overwritten after every call. That costs about as much as sealing 32 bytes does: use `ring` where speed
/// matters.
///
/// ```
/// use kms_core::{Aead as _, KeyBytes};
/// use kms_wrapper_aead::AesGcm;
///
/// let key = AesGcm.prepare(&KeyBytes::generate()?);
/// let mut buffer = *b"attack at dawn";
/// let tag = key.seal_in_place(&[0; 12], b"", &mut buffer).unwrap();
/// key.open_in_place(&[0; 12], b"", &mut buffer, &tag).unwrap();
/// assert_eq!(&buffer, b"attack at dawn");
/// # Ok::<(), kms_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AesGcm;

impl Aead for AesGcm {
    fn name(&self) -> &'static str {
        "aes-gcm"
    }

    fn prepare(&self, key: &KeyBytes) -> Box<dyn AeadKey> {
        clean_stack::after::<{ clean_stack::BUILDING }, _>(|| {
            Box::new(Prepared(Aes256Gcm::new(key.expose().into())))
        })
    }
}

/// Bytes of stack that sealing and opening may use. Measured on x86-64 with the widest of the backends (VAES on
/// 512 bits): just under 7 KiB optimized, whatever the length of the message, and about 14 KiB not. So half as much
/// again, and twice as much: each KiB is overwritten on every call, and costs 8 ns.
const USING: usize = if cfg!(debug_assertions) {
    32 * 1024
} else {
    10 * 1024
};

struct Prepared(Aes256Gcm);

/// Holds as long as the cipher wipes itself; compilation fails when it no longer does.
const _: fn() = || {
    fn wipes_itself<T: ZeroizeOnDrop>() {}
    wipes_itself::<Aes256Gcm>();
};

impl AeadKey for Prepared {
    fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        clean_stack::after::<USING, _>(|| {
            self.0
                .encrypt_inout_detached(nonce.into(), aad, buffer.into())
                .map(Into::into)
                .map_err(|_| AeadError)
        })
    }

    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        clean_stack::after::<USING, _>(|| {
            self.0
                .decrypt_inout_detached(nonce.into(), aad, buffer.into(), tag.into())
                .map_err(|_| AeadError)
        })
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey(aes-gcm)")
    }
}
