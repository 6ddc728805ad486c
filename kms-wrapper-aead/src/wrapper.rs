//! The root wrapper over a local key.

use async_trait::async_trait;
use kms_core::{Blob, LocalKey, Ownership, Result, SecretBytes, Wrapper};

use crate::wrapper::builder::AeadWrapperBuilder;

pub(crate) mod builder;

/// A root wrapper whose key is in this process: AES-256-GCM, local, no service behind it.
///
/// Its blobs are those of Go's AEAD wrapper with a key of 32 bytes: each reads the other's, as long as both
/// have the same key. (Go's also takes keys of 16 and 24 bytes; this one doesn't.)
///
/// # Ownership
///
/// A blob with this wrapper's key id is its own, one with another id is not. A blob without a key id, as Go's
/// wrapper makes them when it was given none, may be anyone's: [`Ownership::Unknown`]. Decrypting looks at no
/// id: the key decides, by authentication.
///
/// # Security
///
/// Whoever can read this process's memory or the source of the key can decrypt everything. The key is wiped
/// when the wrapper is dropped; see the [crate's docs](crate#providers) for what that covers.
///
/// Nonces are random: rotate the key before 2^32 encryptions ([`LocalKey`] says why).
#[derive(Debug)]
pub struct AeadWrapper {
    key: LocalKey,
}

impl AeadWrapper {
    /// Starts a wrapper whose blobs carry this key id.
    ///
    /// The id names the key for as long as blobs of it exist: give each new key a new one, `root-2026` say.
    /// It is not a secret.
    #[must_use]
    pub fn builder(key_id: impl Into<String>) -> AeadWrapperBuilder {
        AeadWrapperBuilder::new(key_id.into())
    }
}

#[async_trait]
impl Wrapper for AeadWrapper {
    fn kind(&self) -> &'static str {
        "aead"
    }

    fn key_id(&self) -> Option<String> {
        Some(self.key.id().to_owned())
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        match blob.key_id() {
            "" => Ownership::Unknown,
            id if id == self.key.id() => Ownership::Yes,
            _ => Ownership::No,
        }
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.key.encrypt(plaintext, aad)
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        self.key.decrypt(blob, aad)
    }
}
