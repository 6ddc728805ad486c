//! Blobs that were tampered with.

use kms_core::Blob;

/// A part of a blob that has to be authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Ciphertext,
    Iv,
    WrappedKey,
}

impl Part {
    const ALL: [Self; 3] = [Self::Ciphertext, Self::Iv, Self::WrappedKey];

    /// The parts that this blob has.
    pub(super) fn of(blob: &Blob) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|part| !part.bytes(blob).is_empty())
    }

    pub(super) fn bytes(self, blob: &Blob) -> &[u8] {
        match self {
            Self::Ciphertext => blob.ciphertext(),
            Self::Iv => blob.iv(),
            Self::WrappedKey => blob.wrapped_key(),
        }
    }

    /// The blob with this part replaced.
    pub(super) fn replaced(self, blob: &Blob, bytes: &[u8]) -> Blob {
        let choose = |part: Self| {
            if part == self {
                bytes.to_vec()
            } else {
                part.bytes(blob).to_vec()
            }
        };
        let altered = Blob::new(choose(Self::Ciphertext), blob.key_id())
            .with_iv(choose(Self::Iv))
            .with_wrapped_key(blob.mechanism(), choose(Self::WrappedKey));
        if blob.is_marked_bound() {
            altered.marked_bound()
        } else {
            altered
        }
    }
}

/// The blob under another key id.
pub(super) fn renamed(blob: &Blob, key_id: &str) -> Blob {
    Blob::new(blob.ciphertext().to_vec(), key_id)
        .with_iv(blob.iv())
        .with_wrapped_key(blob.mechanism(), blob.wrapped_key().to_vec())
}
