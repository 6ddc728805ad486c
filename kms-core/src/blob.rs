//! The blob: what encrypting gives and decrypting takes, in the format of go-kms-wrapping.

use std::fmt;

use prost::Message;

use crate::error::{Error, ErrorKind, Result};

mod encoded;

pub(crate) use encoded::Encoded;

/// Bit of `key_info.flags` that says a wrapped key is bound to its row. A hint for counting: whether a
/// key is bound shows only when it is opened.
const FLAG_BOUND: u64 = 1;

/// An encrypted value with what is needed to find its key: the message `BlobInfo` of go-kms-wrapping v2.
///
/// Fields that no wrapper of this system uses are skipped when reading (`docs` of the format name them).
/// A blob is public by nature: it holds ciphertext, a nonce and the key's id.
///
/// | wrapper | [`ciphertext`](Self::ciphertext) | [`iv`](Self::iv) | key info |
/// |---|---|---|---|
/// | AES-256-GCM with a local key | nonce (12 bytes), ciphertext, tag (16 bytes) | empty | `key_id` |
/// | envelope of a cloud KMS | ciphertext and tag under a fresh key | nonce | `mechanism` 1, `key_id`, `wrapped_key` |
/// | direct cloud KMS, transit | what the service returned | empty | `key_id` |
///
/// ```
/// use kms_core::Blob;
///
/// let blob = Blob::new(vec![1, 2, 3], "kdkv_0123456789");
/// let read = Blob::decode(&blob.encode())?;
/// assert_eq!(read.key_id(), "kdkv_0123456789");
/// # Ok::<(), kms_core::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Blob {
    info: BlobInfo,
    key: KeyInfo,
}

impl Blob {
    /// A blob of this ciphertext, made with the key of this id.
    #[must_use]
    pub fn new(ciphertext: Vec<u8>, key_id: impl Into<String>) -> Self {
        Self {
            info: BlobInfo {
                ciphertext,
                ..BlobInfo::default()
            },
            key: KeyInfo {
                key_id: key_id.into(),
                ..KeyInfo::default()
            },
        }
    }

    /// Sets the nonce that is kept outside of the ciphertext.
    #[must_use]
    pub fn with_iv(mut self, iv: impl Into<Vec<u8>>) -> Self {
        self.info.iv = iv.into();
        self
    }

    /// Sets the wrapper's mechanism and the fresh key that its service encrypted.
    #[must_use]
    pub fn with_wrapped_key(mut self, mechanism: u64, wrapped_key: Vec<u8>) -> Self {
        self.key.mechanism = mechanism;
        self.key.wrapped_key = wrapped_key;
        self
    }

    /// Says, as a hint, that this is a wrapped key bound to its row.
    #[must_use]
    pub fn marked_bound(mut self) -> Self {
        self.key.flags |= FLAG_BOUND;
        self
    }

    /// Reads the serialized form.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidBlob`] if it is not such a message, or holds no ciphertext. (An empty input
    /// is a valid protobuf message, and is refused here.)
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut info = BlobInfo::decode(bytes)
            .map_err(|source| Error::new(ErrorKind::InvalidBlob).with_source(source))?;
        if info.ciphertext.is_empty() {
            return Err(Error::new(ErrorKind::InvalidBlob).with_detail("no ciphertext"));
        }
        let key = info.key_info.take().unwrap_or_default();
        Ok(Self { info, key })
    }

    /// The serialized form, to be stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        BlobRef {
            info: &self.info,
            key: &self.key,
        }
        .encode()
    }

    /// The ciphertext, in the layout of the wrapper that made it.
    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.info.ciphertext
    }

    /// The nonce, where it is kept outside of the ciphertext; else empty.
    #[must_use]
    pub fn iv(&self) -> &[u8] {
        &self.info.iv
    }

    /// Id of the key that made it. For data it is the data key version's id.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key.key_id
    }

    /// How the wrapper works: 1 is envelope, 0 all else.
    #[must_use]
    pub fn mechanism(&self) -> u64 {
        self.key.mechanism
    }

    /// The fresh key of an envelope, encrypted by the service; else empty.
    #[must_use]
    pub fn wrapped_key(&self) -> &[u8] {
        &self.key.wrapped_key
    }

    /// Whether the blob claims to be a key bound to its row. A hint: nothing may trust it.
    #[must_use]
    pub fn is_marked_bound(&self) -> bool {
        self.key.flags & FLAG_BOUND != 0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("key_id", &self.key_id())
            .field("mechanism", &self.mechanism())
            .field(
                "ciphertext",
                &format_args!("{} bytes", self.ciphertext().len()),
            )
            .finish_non_exhaustive()
    }
}

/// `BlobInfo`, less what is deprecated or unused: 3 `hmac`, 4 `wrapped`, 6 `value_path`,
/// 7 `plaintext`, 8 `client_data`.
#[derive(Clone, PartialEq, Message)]
struct BlobInfo {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    iv: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    key_info: Option<KeyInfo>,
}

/// `KeyInfo`, less what is unused: 2 `hmac_mechanism`, 4 `hmac_key_id`, 7 `key_type`,
/// 8 `key_purposes`, 9 `key`, 10 `key_encoding`, 11 `wrapped_key_encoding`.
#[derive(Clone, PartialEq, Message)]
struct KeyInfo {
    #[prost(uint64, tag = "1")]
    mechanism: u64,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(bytes = "vec", tag = "5")]
    wrapped_key: Vec<u8>,
    #[prost(uint64, tag = "6")]
    flags: u64,
}

/// Writes both messages without joining them first, which would copy the ciphertext.
struct BlobRef<'a> {
    info: &'a BlobInfo,
    key: &'a KeyInfo,
}

impl BlobRef<'_> {
    fn encode(&self) -> Vec<u8> {
        const KEY_INFO: u32 = 5;
        let capacity =
            self.info.encoded_len() + prost::encoding::message::encoded_len(KEY_INFO, self.key);
        let mut bytes = Vec::with_capacity(capacity);
        self.info.encode_raw(&mut bytes);
        prost::encoding::message::encode(KEY_INFO, self.key, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let blob = Blob::new(vec![9, 8], "id")
            .with_iv([7])
            .with_wrapped_key(1, vec![6])
            .marked_bound();
        assert_eq!(
            blob.encode(),
            [
                0x0a, 2, 9, 8, // ciphertext
                0x12, 1, 7, // iv
                0x2a, 11, // key_info
                0x08, 1, // mechanism
                0x1a, 2, b'i', b'd', // key_id
                0x2a, 1, 6, // wrapped_key
                0x30, 1, // flags
            ]
        );
    }

    #[test]
    fn what_is_no_blob_is_refused() {
        let whole = Blob::new(vec![1; 40], "kdkv_0123456789").encode();
        for bad in [
            &[][..],
            &[0xff],
            b"hello, world",
            &whole[..10],
            &whole[42..],
        ] {
            assert_eq!(
                Blob::decode(bad).unwrap_err().kind(),
                ErrorKind::InvalidBlob,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let mut bytes = Blob::new(vec![1], "id").encode();
        bytes.extend([0x20, 1]); // 4: wrapped
        bytes.extend([0x3a, 1, b'p']); // 7: plaintext
        bytes.extend([0xfa, 0x07, 1, 0]); // 127: not known to anyone
        assert_eq!(Blob::decode(&bytes).unwrap(), Blob::new(vec![1], "id"));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(
            ciphertext in proptest::collection::vec(any::<u8>(), 1..200),
            iv in proptest::collection::vec(any::<u8>(), 0..20),
            wrapped in proptest::collection::vec(any::<u8>(), 0..50),
            key_id in ".{0,40}",
            mechanism: u64,
        ) {
            let blob = Blob::new(ciphertext, key_id).with_iv(iv).with_wrapped_key(mechanism, wrapped);
            prop_assert_eq!(Blob::decode(&blob.encode()).unwrap(), blob);
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Blob::decode(&bytes);
        }
    }
}
