//! The root wrapper over a local key.

use std::fmt;

use async_trait::async_trait;
use kms_core::{Blob, Claim, LocalKey, Ownership, Result, SecretBytes, VersionAge, Wrapper};

use crate::key_name::{Identity, KeyName};
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
/// A key id that somebody chose is a label: another key may be put in this one's place under the same id. The id of a
/// key that was [named](Self::named) carries a check value of the key, and two keys never have the same one. Such a
/// wrapper opens the blobs under the bare name too, where the key is the same, but doesn't call them its own for sure:
/// [`Ownership::Unknown`]. So a campaign moves them to the new id.
///
/// # Security
///
/// Whoever can read this process's memory or the source of the key can decrypt everything. The key is wiped
/// when the wrapper is dropped; see the [crate's docs](crate#providers) for what that covers.
///
/// Nonces are random: rotate the key before 2^32 encryptions ([`LocalKey`] says why).
pub struct AeadWrapper {
    key: LocalKey,
    name: KeyName,
}

impl AeadWrapper {
    /// Starts a wrapper whose blobs carry this key id.
    ///
    /// The id names the key for as long as blobs of it exist: give each new key a new one, `root-2026` say.
    /// It is not a secret. Of a new key, give the [name](Self::named) instead.
    ///
    /// An id with a check value, as `named` makes them, is held against the key.
    #[must_use]
    pub fn builder(key_id: impl Into<String>) -> AeadWrapperBuilder {
        AeadWrapperBuilder::new(key_id.into(), Identity::Given)
    }

    /// Starts a wrapper whose blobs carry this name and a check value of the key: `root-2026#kcv-0a1b2c3d4e5f6071`.
    /// Two keys then never have one id, whatever they are called.
    ///
    /// The check value is the beginning of an HMAC-SHA-256 with the key over a fixed text: it tells two keys apart, and
    /// nothing about either.
    ///
    /// Processes of releases before this one don't know blobs under such an id for their own. A fleet that goes on with
    /// the key that it has moves to the new id when no process of such a release is left.
    #[must_use]
    pub fn named(name: impl Into<String>) -> AeadWrapperBuilder {
        AeadWrapperBuilder::new(name.into(), Identity::Checked)
    }
}

impl fmt::Debug for AeadWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadWrapper")
            .field("key", &self.key)
            .finish_non_exhaustive()
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
            id if id == self.key.id() || id == self.name.checked() => Ownership::Yes,
            id if id == self.name.bare() => Ownership::Unknown,
            _ => Ownership::No,
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
    }

    fn claims(&self) -> Vec<Claim> {
        let id = self.key.id();
        vec![if id == self.name.checked() {
            Claim::by_key(id)
        } else {
            Claim::by_label(id, self.name.checked())
        }]
    }

    /// A local key has one version.
    fn version_of(&self, blob: &Blob) -> VersionAge {
        match self.owns(blob) {
            Ownership::Yes => VersionAge::Only,
            Ownership::No | Ownership::Unknown => VersionAge::Untold,
        }
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.key.encrypt(plaintext, aad)
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        self.key.decrypt(blob, aad)
    }
}
