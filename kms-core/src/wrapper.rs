//! The role of anything that encrypts bytes into a blob.

use std::fmt;

use async_trait::async_trait;

use crate::blob::Blob;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{KeyBytes, SecretBytes};

/// Encrypts bytes into a [`Blob`] and decrypts a blob back: a key in a cloud KMS or Vault, a local key,
/// a pool of them, or one of the system's own keys.
///
/// As the *root wrapper* of an engine it is the root of trust: it encrypts root keys and nothing else.
///
/// # Contract
///
/// - [`encrypt`](Self::encrypt) authenticates `aad` without storing it; [`decrypt`](Self::decrypt) with
///   another `aad` fails. A wrapper whose service can't take an `aad` refuses a non-empty one, and never
///   drops it silently.
/// - An empty plaintext is valid. Two encryptions of one plaintext differ.
/// - A blob survives [`Blob::encode`] and [`Blob::decode`].
/// - It keeps decrypting what it encrypted, also after its key has rotated in the service.
/// - Constructing it does no I/O. Calls are bounded in time by the wrapper's own settings.
/// - It works on a current-thread and on a multi-thread tokio runtime, and from many tasks at once.
/// - A dropped future leaves nothing behind.
///
/// # Security
///
/// - It decrypts with the key it was configured with, never with one that the blob names: whoever can
///   write to the database could name a key of their own there.
/// - `Debug` and errors show no key material, no plaintext, no credentials.
/// - A failed authentication says only that it failed.
///
/// # Errors
///
/// Of the kinds in [`ErrorKind`]: `AuthenticationFailed` for a wrong `aad`, a damaged or a foreign
/// blob, `InvalidBlob` for one that can't be read, `ForeignRootKey` or `UnknownKeyVersion` for one that
/// another key made where [`owns`](Self::owns) tells so, and for services `Unreachable`, `TimedOut`,
/// `Throttled`, `Denied`, `UnknownRootKey`, `RootKeyDisabled`.
///
/// # Implementing it
///
/// `kms_testkit::wrapper` is the suite that an implementation passes; the facade's example
/// `custom_root_wrapper` is a whole one in under 60 lines.
#[async_trait]
pub trait Wrapper: fmt::Debug + Send + Sync {
    /// What kind of wrapper it is, for diagnostics: `"aead"`, `"awskms"`, `"transit"`, …
    fn kind(&self) -> &'static str;

    /// Id of the key that encrypts now, as blobs carry it; `None` while the service has not told it yet.
    fn key_id(&self) -> Option<String>;

    /// Whether this wrapper made the blob, told from its key info alone, without I/O.
    fn owns(&self, blob: &Blob) -> Ownership;

    /// Whether the key that encrypts *now* made the blob, told as [`owns`](Self::owns) is. It differs from that
    /// for a wrapper that also decrypts with other keys: a pool, or a list of keys of which the last one encrypts.
    ///
    /// A campaign leaves alone what is current, and the operator then shuts the other keys down. So
    /// [`Ownership::Yes`] must be sure, and there is no default. A wrapper of one key answers what `owns` does.
    fn is_current(&self, blob: &Blob) -> Ownership;

    /// Which keys this wrapper decrypts with, as it is configured: known before the first call, and never changed
    /// by one. A [pool](crate::PooledWrapper) compares them.
    fn claims(&self) -> Vec<Claim>;

    /// Which version of its key made a blob that [`is_current`](Self::is_current) does not exclude. The newest
    /// version is the one that encrypted last, as far as this wrapper has seen.
    ///
    /// Only a wrapper whose key has versions *inside its service*, and whose blobs tell them, can answer.
    fn version_of(&self, _blob: &Blob) -> VersionAge {
        VersionAge::Untold
    }

    /// Encrypts.
    ///
    /// # Errors
    ///
    /// As in the trait's docs.
    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob>;

    /// Decrypts.
    ///
    /// # Errors
    ///
    /// As in the trait's docs.
    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes>;

    /// Encrypts and decrypts a random probe, to find out at start-up rather than at night that a right
    /// or a key is missing.
    ///
    /// # Errors
    ///
    /// Those of encrypting and decrypting; [`ErrorKind::Internal`] if the probe comes back altered.
    async fn preflight(&self) -> Result<()> {
        const AAD: &[u8] = b"kms preflight";
        let probe = KeyBytes::generate()?;
        let blob = self.encrypt(probe.expose(), AAD).await?;
        let back = self.decrypt(&blob, AAD).await?;
        if back.expose() == probe.expose() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Internal)
                .with_operation("preflight")
                .with_detail("the wrapper decrypted its own blob to something else"))
        }
    }
}

/// Whether a blob is a wrapper's own, as far as its key info tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It is.
    Yes,
    /// It isn't.
    No,
    /// Only trying will tell.
    Unknown,
}

/// Which version of a root key made a blob, as far as the blob tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionAge {
    /// The one that encrypts now.
    Newest,
    /// Another one.
    Older,
    /// The one there is: the key has no versions.
    Only,
    /// The service does not tell versions, or nothing was encrypted yet.
    Untold,
}

impl VersionAge {
    /// Of a blob whose version can be told.
    #[must_use]
    pub fn of(is_newest: bool) -> Self {
        if is_newest { Self::Newest } else { Self::Older }
    }
}

/// A key that a wrapper decrypts with, and how far the key ids in its blobs prove that they are that key's.
///
/// ```
/// use kms_core::Claim;
///
/// // Two transit engines whose keys were given the same prefix: other keys, and blobs that look the same.
/// let old = Claim::by_label("main-", "https://old.internal:8200/transit/keys/app");
/// let new = Claim::by_label("main-", "https://new.internal:8200/transit/keys/app");
/// assert!(!new.is_same_key(&old));
/// assert!(!new.is_proven_by_id());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    label: String,
    /// `None` where only the service knows.
    key: Option<String>,
    proven: bool,
}

impl Claim {
    /// A key whose blobs carry an id that no other key can have: an ARN, a resource name of a cloud, an id with a
    /// check value of the key in it.
    #[must_use]
    pub fn by_key(key: impl Into<String>) -> Self {
        let key = key.into();
        Self {
            label: key.clone(),
            key: Some(key),
            proven: true,
        }
    }

    /// As [`by_key`](Self::by_key), of a key that is configured by a name which only its service resolves: an alias.
    #[must_use]
    pub fn by_alias(alias: impl Into<String>) -> Self {
        Self {
            label: alias.into(),
            key: None,
            proven: true,
        }
    }

    /// A key whose blobs carry a label that somebody chose, so that blobs of another key may carry it too. `key`
    /// tells the key as far as the configuration does: an address and a path, a check value.
    #[must_use]
    pub fn by_label(label: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            key: Some(key.into()),
            proven: false,
        }
    }

    /// What the blobs' key ids are, or begin with; or the alias.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether both are of one key, as far as their configurations tell.
    #[must_use]
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.key.is_some() && (&self.label, &self.key) == (&other.label, &other.key)
    }

    /// Whether a blob that carries the label was surely made by this key.
    #[must_use]
    pub fn is_proven_by_id(&self) -> bool {
        self.proven
    }
}
