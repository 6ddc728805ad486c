//! What a key ring hands out to encrypt and decrypt with.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{DataKey, DataKeyVersion, Held, KeyRing, Opened};
use crate::blob::{Blob, Encoded};
use crate::error::{Error, ErrorKind, Result};
use crate::id::DataKeyVersionId;
use crate::local_key::LocalKey;
use crate::opener::Opener;
use crate::scope::{Purpose, ScopeId};
use crate::secret::SecretBytes;
use crate::wrapper::{Claim, Ownership, Wrapper};

/// The data key of one scope and purpose: encrypts with its newest version, decrypts with any.
///
/// Local and synchronous; cheap to clone. Take a new one from the engine for each piece of work rather
/// than keeping it: it holds the keys as they were when it was handed out. It is also a [`Wrapper`].
///
/// One key version is good for [`LocalKey::BUDGET`] encryptions; [`encryptions`](Self::encryptions) counts
/// those of this process.
///
/// What the methods say of allocations holds for the newest version. The others lie in memory unexpanded, so that a
/// cached scope stays small: decrypting with one expands it for that call, which takes some 0.3 µs and small
/// allocations of its own.
#[derive(Clone)]
pub struct DataKeyWrapper {
    ring: KeyRing,
    position: usize,
}

impl DataKeyWrapper {
    #[inline]
    pub(super) fn new(ring: KeyRing, position: usize) -> Result<Self> {
        if ring.is_damaged() {
            let mut versions = ring.ring().data_keys[position].versions.iter();
            if versions.all(|version| version.key.is_err()) {
                return Err(Self::nothing_opens(&ring, position));
            }
        }
        Ok(Self { ring, position })
    }

    /// The failure of the newest version, since somebody needs the key.
    #[cold]
    fn nothing_opens(ring: &KeyRing, position: usize) -> Error {
        let key = &ring.ring().data_keys[position];
        match key.versions.last().map(|newest| &newest.key) {
            Some(Err(failure)) => failure.wanted(),
            _ => Error::new(ErrorKind::UnknownKeyVersion)
                .with_detail("the data key has no version")
                .with_context("scope", ring.scope())
                .with_context("purpose", &key.purpose),
        }
    }

    /// Encrypts with the newest version. The plaintext may be empty; `aad` is authenticated, not stored,
    /// and wanted again for decrypting: what identifies the row is a good one.
    ///
    /// The blob carries the key version's id, the one to keep beside it in the row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DecryptOnly`] from a decrypt-only engine. If the newest version did not open: its
    /// failure; it never falls back to an older one.
    pub fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.encrypting()?
            .with_key(|key| key.encrypt(plaintext, aad))
    }

    /// Encrypts as [`encrypt`](Self::encrypt) does, right into the serialized form: the bytes that
    /// [`Blob::encode`] gives, in one allocation and without copying the ciphertext. What goes into a row.
    ///
    /// ```
    /// # fn check(wrapper: &kms_core::DataKeyWrapper) -> kms_core::Result<()> {
    /// let row = (wrapper.encrypt_to_vec(b"secret", b"client:7")?, wrapper.key_version_id());
    /// let secret = wrapper.decrypt_encoded(&row.0, b"client:7")?;
    /// assert_eq!(secret.expose(), b"secret");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`encrypt`](Self::encrypt).
    pub fn encrypt_to_vec(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        self.encrypting()?
            .with_key(|key| key.encrypt_to_vec(plaintext, aad))
    }

    /// Encrypts as [`encrypt_to_vec`](Self::encrypt_to_vec) does, and appends to a buffer of the caller's:
    /// no allocation where its capacity suffices.
    ///
    /// # Errors
    ///
    /// As [`encrypt`](Self::encrypt); nothing is appended then.
    pub fn encrypt_into(&self, plaintext: &[u8], aad: &[u8], blob: &mut Vec<u8>) -> Result<()> {
        self.encrypting()?
            .with_key(|key| key.encrypt_into(plaintext, aad, blob))
    }

    /// Decrypts with the version that the blob names, wanting the same `aad` again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownKeyVersion`] if this key has no such version ([`Kms::decrypt`] asks the
    /// database again), [`ErrorKind::AuthenticationFailed`] or [`ErrorKind::InvalidBlob`] for a blob
    /// that is damaged, another scope's, or made with another `aad`; the version's failure if it did not
    /// open.
    ///
    /// [`Kms::decrypt`]: crate::Kms::decrypt
    pub fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        self.version(blob.key_id())?
            .with_key(|key| key.decrypt(blob, aad))
    }

    /// Decrypts a serialized blob as [`decrypt`](Self::decrypt) does. The plaintext is the one allocation.
    ///
    /// # Errors
    ///
    /// As [`Blob::decode`] and [`decrypt`](Self::decrypt).
    pub fn decrypt_encoded(&self, blob: &[u8], aad: &[u8]) -> Result<SecretBytes> {
        let mut plaintext = SecretBytes::default();
        self.decrypt_into(blob, aad, &mut plaintext)?;
        Ok(plaintext)
    }

    /// Decrypts a serialized blob into a buffer that is used again and again: its old content is replaced,
    /// and nothing is allocated where the plaintext fits into it. After a failure it is empty.
    ///
    /// # Errors
    ///
    /// As [`decrypt_encoded`](Self::decrypt_encoded).
    pub fn decrypt_into(&self, blob: &[u8], aad: &[u8], plaintext: &mut SecretBytes) -> Result<()> {
        let Some(encoded) = Encoded::read(blob) else {
            plaintext.clear();
            *plaintext = self.decrypt(&Blob::decode(blob)?, aad)?;
            return Ok(());
        };
        let decrypted = self.version(encoded.key_id).and_then(|version| {
            version.with_key(|key| key.open_into(&blob[encoded.ciphertext], aad, plaintext))
        });
        if decrypted.is_err() {
            plaintext.clear();
        }
        decrypted
    }

    /// Decrypts a serialized blob where it is, without any allocation, and gives the part of the buffer that
    /// is the plaintext. Wiping the buffer is the caller's part. After a failed authentication it holds no
    /// plaintext, and the blob is lost.
    ///
    /// # Errors
    ///
    /// As [`decrypt_encoded`](Self::decrypt_encoded).
    pub fn decrypt_in_place<'a>(&self, blob: &'a mut [u8], aad: &[u8]) -> Result<&'a mut [u8]> {
        let Some(encoded) = Encoded::read(blob) else {
            // Some other writer's form, and never shorter than the plaintext.
            let plaintext = self.decrypt(&Blob::decode(blob)?, aad)?;
            let place = &mut blob[..plaintext.len()];
            place.copy_from_slice(plaintext.expose());
            return Ok(place);
        };
        let version = self.version(encoded.key_id)?;
        let ciphertext = encoded.ciphertext;
        version.with_key(|key| key.open_in_place(&mut blob[ciphertext], aad))
    }

    /// Whose key it is.
    #[must_use]
    pub fn scope(&self) -> &ScopeId {
        self.ring.scope()
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> &Purpose {
        &self.key().purpose
    }

    /// The version that encrypts: the newest.
    #[must_use]
    pub fn key_version_id(&self) -> &DataKeyVersionId {
        &self.newest().id
    }

    /// How often this process encrypted with the newest version: to be watched, and added up over a fleet, against
    /// [`LocalKey::BUDGET`]. The count belongs to the key version, and goes on whatever becomes of the key in memory.
    /// Zero if the newest version did not open.
    ///
    /// ```
    /// # fn check(wrapper: &kms_core::DataKeyWrapper) {
    /// use kms_core::LocalKey;
    ///
    /// if wrapper.encryptions() > LocalKey::BUDGET / 1000 {
    ///     // Rotate the keys of wrapper.scope() soon: a thousand such processes use up the budget.
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn encryptions(&self) -> u64 {
        match &self.newest().key {
            Ok(Held::Ready(key)) => key.encryptions(),
            Ok(Held::Resting(_)) | Err(_) => 0,
        }
    }

    /// Notes that somebody is going to encrypt, if the newest version did not open.
    pub(crate) fn want_newest(&self) {
        if let Err(failure) = &self.newest().key {
            failure.wanted();
        }
    }

    /// Whether the key has this version, opened or not.
    pub(crate) fn holds(&self, id: &str) -> bool {
        self.key().version(id).is_some()
    }

    /// The newest version, if it may encrypt.
    fn encrypting(&self) -> Result<&DataKeyVersion> {
        if !self.ring.ring().encrypts {
            return Err(Error::new(ErrorKind::DecryptOnly).with_operation("encrypt"));
        }
        Ok(self.newest())
    }

    /// The version of this id.
    fn version(&self, id: &str) -> Result<&DataKeyVersion> {
        self.key().version(id).ok_or_else(|| {
            Error::new(ErrorKind::UnknownKeyVersion)
                .with_operation("decrypt")
                .with_context("scope", self.scope())
                .with_context("purpose", self.purpose())
                .with_context("key_version", id)
        })
    }

    fn key(&self) -> &DataKey {
        &self.ring.ring().data_keys[self.position]
    }

    fn newest(&self) -> &DataKeyVersion {
        self.key()
            .versions
            .last()
            .expect("a wrapper is made of keys with an opened version only")
    }
}

#[async_trait]
impl Wrapper for DataKeyWrapper {
    fn kind(&self) -> &'static str {
        "data-key"
    }

    fn key_id(&self) -> Option<String> {
        Some(self.key_version_id().as_str().to_owned())
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        if self.holds(blob.key_id()) {
            Ownership::Yes
        } else {
            Ownership::No
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
    }

    /// One for each version: their ids are random, and no other key has one of them.
    fn claims(&self) -> Vec<Claim> {
        let versions = self.key().versions.iter();
        versions
            .map(|version| Claim::by_key(version.id.as_str()))
            .collect()
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        Self::encrypt(self, plaintext, aad)
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        Self::decrypt(self, blob, aad)
    }
}

impl fmt::Debug for DataKeyWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKeyWrapper")
            .field("scope", self.scope())
            .field("purpose", self.purpose())
            .field("key_version_id", self.key_version_id())
            .finish_non_exhaustive()
    }
}

/// The root key of a scope, which encrypts that scope's data keys.
///
/// **Never encrypt data with it.** Data belongs under a data key: nothing keeps track of what was
/// encrypted with a root key version, so that revoking one would destroy such data without a word. It is
/// for tools that look after keys.
#[derive(Clone)]
pub struct RootKeyWrapper {
    ring: KeyRing,
    opener: Arc<Opener>,
}

impl RootKeyWrapper {
    pub(crate) fn new(ring: KeyRing, opener: Arc<Opener>) -> Self {
        Self { ring, opener }
    }

    /// Unwrapped already, or on demand: versions that wrap nothing are not unwrapped on loading.
    async fn key(&self, position: usize) -> Result<LocalKey> {
        let ring = self.ring.ring();
        let version = &ring.root_key_versions[position];
        match &version.key {
            Opened::Key(key) => Ok(key.expand(version.id.text())),
            Opened::Failed(failure) => Err(failure.wanted()),
            Opened::NotNeeded(wrapped) => self
                .opener
                .root_key_version(
                    ring.root.as_ref(),
                    &ring.scope,
                    &ring.root_key,
                    &version.id,
                    version.version,
                    wrapped,
                )
                .await
                .map(|bytes| self.opener.prepare(&bytes, version.id.text())),
        }
    }
}

#[async_trait]
impl Wrapper for RootKeyWrapper {
    fn kind(&self) -> &'static str {
        "root-key"
    }

    fn key_id(&self) -> Option<String> {
        let newest = self.ring.ring().root_key_versions.last()?;
        Some(newest.id.as_str().to_owned())
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        let versions = &self.ring.ring().root_key_versions;
        if versions
            .iter()
            .any(|version| version.id.as_str() == blob.key_id())
        {
            Ownership::Yes
        } else {
            Ownership::No
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
    }

    /// One for each version: their ids are random, and no other key has one of them.
    fn claims(&self) -> Vec<Claim> {
        let versions = self.ring.ring().root_key_versions.iter();
        versions
            .map(|version| Claim::by_key(version.id.as_str()))
            .collect()
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let ring = self.ring.ring();
        if !ring.encrypts {
            return Err(Error::new(ErrorKind::DecryptOnly).with_operation("encrypt"));
        }
        let newest = ring.root_key_versions.len().checked_sub(1).ok_or_else(|| {
            Error::new(ErrorKind::UnknownKeyVersion)
                .with_detail("the root key has no version")
                .with_context("scope", &ring.scope)
        })?;
        self.key(newest).await?.encrypt(plaintext, aad)
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let ring = self.ring.ring();
        let position = ring
            .root_key_versions
            .iter()
            .position(|version| version.id.as_str() == blob.key_id())
            .ok_or_else(|| {
                Error::new(ErrorKind::UnknownKeyVersion)
                    .with_context("scope", &ring.scope)
                    .with_context("key_version", blob.key_id())
            })?;
        self.key(position).await?.decrypt(blob, aad)
    }
}

impl fmt::Debug for RootKeyWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootKeyWrapper")
            .field("scope", self.ring.scope())
            .field("key_id", &self.key_id())
            .finish_non_exhaustive()
    }
}
