//! A change that is ready to be applied, and the keys that it is about to create.

use std::fmt;
use std::sync::Arc;

use crate::blob::Blob;
use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind, Result};
use crate::id::DataKeyVersionId;
use crate::local_key::LocalKey;
use crate::scope::{Purpose, ScopeId};
use crate::secret::SecretBytes;

/// A change of one scope's keys with all calls to the root wrapper behind it: ready to be applied on a
/// connection of the caller's, inside a transaction of the caller's.
///
/// ```text
/// let prepared = kms.prepare_create_keys(&scope, &[OIDC]).await?;   // no transaction open yet
/// let receipts = connection.transaction(|connection| {
///     insert_organization(connection, &scope)?;
///     let receipts = connection.apply_changes(&[prepared.change_set()])?;
///     let blob = prepared.wrapper(&OIDC)?.encrypt(secret, aad)?;
///     insert_client(connection, &blob)?;
///     Ok(receipts)
/// })?;
/// kms.accept(&receipts);                                             // after the commit
/// ```
///
/// Dropping it undoes nothing and loses nothing: it has written nothing.
#[derive(Debug)]
pub struct Prepared {
    change: ChangeSet,
    keys: Vec<PendingDataKeyWrapper>,
}

impl Prepared {
    pub(crate) fn new(change: ChangeSet, keys: Vec<PendingDataKeyWrapper>) -> Self {
        Self { change, keys }
    }

    /// What to apply.
    #[must_use]
    pub fn change_set(&self) -> &ChangeSet {
        &self.change
    }

    /// What to apply, without the keys.
    #[must_use]
    pub fn into_change_set(self) -> ChangeSet {
        self.change
    }

    /// The data key version that this change is about to create for a purpose, to write encrypted rows in
    /// the same transaction.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownPurpose`] if the change creates no data key version of this purpose.
    pub fn wrapper(&self, purpose: &Purpose) -> Result<&PendingDataKeyWrapper> {
        self.keys
            .iter()
            .find(|key| key.purpose == *purpose)
            .ok_or_else(|| {
                Error::new(ErrorKind::UnknownPurpose)
                    .with_detail("this change creates no data key version of it")
                    .with_context("scope", &self.change.scope)
                    .with_context("purpose", purpose)
            })
    }
}

/// A data key version that does not exist yet: it will, if the transaction that applies its change set
/// commits. What it encrypts belongs into that same transaction and nowhere else.
///
/// It is no [`DataKeyWrapper`](crate::DataKeyWrapper), and knows no older versions; the compiler keeps the
/// two apart:
///
/// ```compile_fail,E0308
/// # fn check(prepared: &kms_core::Prepared, purpose: &kms_core::Purpose) -> kms_core::Result<()> {
/// let committed: &kms_core::DataKeyWrapper = prepared.wrapper(purpose)?;
/// # Ok(())
/// # }
/// ```
pub struct PendingDataKeyWrapper {
    scope: ScopeId,
    purpose: Purpose,
    id: DataKeyVersionId,
    key: Arc<LocalKey>,
}

impl PendingDataKeyWrapper {
    pub(crate) fn new(
        scope: ScopeId,
        purpose: Purpose,
        id: DataKeyVersionId,
        key: Arc<LocalKey>,
    ) -> Self {
        Self {
            scope,
            purpose,
            id,
            key,
        }
    }

    /// Encrypts, as [`DataKeyWrapper::encrypt`](crate::DataKeyWrapper::encrypt) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidBlob`] if the plaintext is longer than the cipher allows.
    pub fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.key.encrypt(plaintext, aad)
    }

    /// Encrypts into the serialized form, as
    /// [`DataKeyWrapper::encrypt_to_vec`](crate::DataKeyWrapper::encrypt_to_vec) does.
    ///
    /// # Errors
    ///
    /// As [`encrypt`](Self::encrypt).
    pub fn encrypt_to_vec(&self, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        self.key.encrypt_to_vec(plaintext, aad)
    }

    /// Decrypts what it encrypted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownKeyVersion`] for a blob of another key version,
    /// [`ErrorKind::AuthenticationFailed`] or [`ErrorKind::InvalidBlob`] if it does not open.
    pub fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        if blob.key_id() != self.id.as_str() {
            return Err(Error::new(ErrorKind::UnknownKeyVersion)
                .with_context("scope", &self.scope)
                .with_context("key_version", blob.key_id()));
        }
        self.key.decrypt(blob, aad)
    }

    /// The id that the key version will have.
    #[must_use]
    pub fn key_version_id(&self) -> &DataKeyVersionId {
        &self.id
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> &Purpose {
        &self.purpose
    }
}

impl fmt::Debug for PendingDataKeyWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingDataKeyWrapper")
            .field("scope", &self.scope)
            .field("purpose", &self.purpose)
            .field("key_version_id", &self.id)
            .finish_non_exhaustive()
    }
}
