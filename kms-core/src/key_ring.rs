//! The unwrapped keys of one scope.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::id::{DataKeyId, DataKeyVersionId, KeyVersionId, RootKeyId, RootKeyVersionId};
use crate::local_key::LocalKey;
use crate::resting_key::RestingKey;
use crate::scope::{Purpose, ScopeId};

mod wrappers;

pub use wrappers::{DataKeyWrapper, RootKeyWrapper};

/// The unwrapped keys of one scope, as they were at one moment. Cheap to clone; queries nothing.
///
/// It is what the cache holds, and what [`Kms::ensure`](crate::Kms::ensure) gives to code that runs
/// inside a database transaction and so must not wait for a second connection. Keys are wiped when the
/// last clone is gone.
#[derive(Clone)]
pub struct KeyRing(Arc<Shared>);

/// Counts the users of a ring, for those who would disturb each other by counting in one place.
struct Shared(Arc<Ring>);

pub(crate) struct Ring {
    pub(crate) scope: ScopeId,
    pub(crate) root_key: RootKeyId,
    /// Ascending.
    pub(crate) root_key_versions: Box<[RootKeyVersion]>,
    pub(crate) data_keys: Box<[DataKey]>,
    /// Whether its wrappers encrypt, or only decrypt.
    pub(crate) encrypts: bool,
}

pub(crate) struct RootKeyVersion {
    pub(crate) id: RootKeyVersionId,
    pub(crate) version: i64,
    pub(crate) wrapped: Fingerprint,
    pub(crate) key: Opened,
}

pub(crate) struct DataKey {
    pub(crate) id: DataKeyId,
    pub(crate) purpose: Purpose,
    /// Ascending.
    pub(crate) versions: Box<[DataKeyVersion]>,
}

pub(crate) struct DataKeyVersion {
    pub(crate) id: DataKeyVersionId,
    pub(crate) root_key_version: RootKeyVersionId,
    pub(crate) version: i64,
    pub(crate) wrapped: Fingerprint,
    pub(crate) key: Result<Held>,
}

/// How a key of a data key version is kept.
pub(crate) enum Held {
    /// Ready: the newest, which encrypts.
    Ready(Arc<LocalKey>),
    /// To be expanded for each use: the older ones.
    Resting(Arc<RestingKey>),
}

/// What became of a root key version when its scope was loaded.
pub(crate) enum Opened {
    /// Not needed: it wraps nothing and is not the newest. As it is stored.
    NotNeeded(Box<[u8]>),
    /// Unwrapped.
    Key(Arc<RestingKey>),
    /// It did not open. It fails alone, when it is asked for.
    Failed(Error),
}

impl KeyRing {
    pub(crate) fn new(ring: Ring) -> Self {
        Self(Arc::new(Shared(Arc::new(ring))))
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.0.0
    }

    /// Tells whether the keys are still in memory.
    #[cfg(test)]
    pub(crate) fn watch(&self) -> std::sync::Weak<Ring> {
        Arc::downgrade(&self.0.0)
    }

    /// The same keys, but clones of it are counted apart from those of this one.
    pub(crate) fn counted_apart(&self) -> Self {
        Self(Arc::new(Shared(Arc::clone(&self.0.0))))
    }

    /// What [`counted_apart`](Self::counted_apart) would give of `other`, in this one's allocation if nobody
    /// else uses it.
    pub(crate) fn turned_into(mut self, other: &Self) -> Self {
        if Arc::ptr_eq(&self.0.0, &other.0.0) {
            return self;
        }
        match Arc::get_mut(&mut self.0) {
            Some(shared) => {
                shared.0 = Arc::clone(&other.0.0);
                self
            }
            None => other.counted_apart(),
        }
    }

    /// Whose keys these are.
    #[must_use]
    pub fn scope(&self) -> &ScopeId {
        &self.ring().scope
    }

    /// The data key of this purpose, ready to encrypt with its newest version and decrypt with any.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownPurpose`] if the scope had none. If not one version of the key opened: the
    /// failure of the newest.
    pub fn wrapper(&self, purpose: &Purpose) -> Result<DataKeyWrapper> {
        self.clone().into_wrapper(purpose)
    }

    /// The same for the last one who needs the ring.
    pub(crate) fn into_wrapper(self, purpose: &Purpose) -> Result<DataKeyWrapper> {
        DataKeyWrapper::new(self, purpose)
    }

    /// The key versions that did not open, and why. Those that open work all the same.
    pub fn failures(&self) -> impl Iterator<Item = (KeyVersionId, &Error)> {
        let root = self.ring().root_key_versions.iter().filter_map(|version| {
            let Opened::Failed(error) = &version.key else {
                return None;
            };
            Some((KeyVersionId::Root(version.id.clone()), error))
        });
        let data = self
            .ring()
            .data_keys
            .iter()
            .flat_map(|key| &key.versions)
            .filter_map(|version| {
                let error = version.key.as_ref().err()?;
                Some((KeyVersionId::Data(version.id.clone()), error))
            });
        root.chain(data)
    }

    /// Whether this data key has this version, opened or not.
    pub(crate) fn holds(&self, purpose: &Purpose, id: &str) -> bool {
        self.ring()
            .data_key(purpose)
            .is_some_and(|key| key.versions.iter().any(|version| version.id.as_str() == id))
    }
}

impl Ring {
    pub(crate) fn data_key(&self, purpose: &Purpose) -> Option<&DataKey> {
        self.data_keys.iter().find(|key| key.purpose == *purpose)
    }

    pub(crate) fn unknown_purpose(&self, purpose: &Purpose) -> Error {
        Error::new(ErrorKind::UnknownPurpose)
            .with_context("scope", &self.scope)
            .with_context("purpose", purpose)
    }
}

impl DataKeyVersion {
    /// Does something with the key, or gives why it did not open.
    pub(crate) fn with_key<T>(&self, work: impl FnOnce(&LocalKey) -> Result<T>) -> Result<T> {
        match &self.key {
            Ok(Held::Ready(key)) => work(key),
            Ok(Held::Resting(key)) => work(&key.expand(self.id.text())),
            Err(error) => Err(error.clone()),
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("scope", &self.ring().scope)
            .field("root_key_versions", &self.ring().root_key_versions.len())
            .field("data_keys", &self.ring().data_keys.len())
            .finish_non_exhaustive()
    }
}
