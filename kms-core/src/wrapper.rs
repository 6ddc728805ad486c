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

    /// Whether the key that encrypts *now* made the blob. Differs from [`owns`](Self::owns) for a pool,
    /// which owns the blobs of its decrypt-only members too.
    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
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
