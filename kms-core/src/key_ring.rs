//! The unwrapped keys of one scope.

use std::fmt;
use std::sync::Arc;

use crate::cache::Moment;
use crate::counted::Counted;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::id::{DataKeyId, DataKeyVersionId, KeyVersionId, RootKeyId, RootKeyVersionId};
use crate::local_key::LocalKey;
use crate::resting_key::RestingKey;
use crate::root_name::RootName;
use crate::scope::{Purpose, ScopeId};

mod failure;
mod wrappers;

pub(crate) use failure::Failure;
pub use wrappers::{DataKeyWrapper, RootKeyWrapper};

/// Up to so many versions are looked through; among more, a version is found by its id.
const FEW: usize = 8;

/// The unwrapped keys of one scope, as they were at one moment. Cheap to clone; queries nothing.
///
/// It is what the cache holds, and what [`Kms::ensure`](crate::Kms::ensure) gives to code that runs
/// inside a database transaction and so must not wait for a second connection. Keys are wiped when the
/// last clone is gone.
#[derive(Clone)]
pub struct KeyRing(Counted<Keys>);

pub(crate) struct Keys {
    ring: Ring,
    /// Whether a data key lacks a version that opened: here, so that the hot path need not look at the versions.
    is_damaged: bool,
}

pub(crate) struct Ring {
    pub(crate) scope: ScopeId,
    pub(crate) root_key: RootKeyId,
    /// The named root that opened it; `None` is the engine's own.
    pub(crate) root: Option<RootName>,
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
    /// What most keys don't have.
    rare: Option<Box<Rare>>,
}

/// What a data key has that has many versions, or some that did not open.
struct Rare {
    /// Positions of the versions in the order of their ids, if there are many.
    by_id: Box<[u32]>,
    /// Why versions did not open, each reason once.
    failures: Box<[Arc<Failure>]>,
}

pub(crate) struct DataKeyVersion {
    pub(crate) id: DataKeyVersionId,
    /// Of its row: the wrapped key and what it is bound to.
    pub(crate) row: Fingerprint,
    pub(crate) key: Result<Held, Arc<Failure>>,
}

/// The key of a data key version.
#[derive(Clone)]
pub(crate) enum Held {
    /// Expanded: the newest, which encrypts, or one that was the newest when it was opened.
    Ready(Arc<LocalKey>),
    /// To be expanded for each use: all that an older version needs.
    Resting(Arc<RestingKey>),
}

/// What became of a root key version when its scope was loaded.
pub(crate) enum Opened {
    /// Nothing needed it. As it is stored.
    NotNeeded(Box<[u8]>),
    /// Unwrapped.
    Key(Arc<RestingKey>),
    /// It did not open. It fails alone, when it is asked for.
    Failed(Arc<Failure>),
}

impl KeyRing {
    pub(crate) fn new(ring: Ring) -> Self {
        let is_damaged = |key: &DataKey| key.versions.is_empty() || key.is_damaged();
        let is_damaged = ring.data_keys.iter().any(is_damaged);
        Self(Counted::new(Keys { ring, is_damaged }))
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// Whether a data key lacks a version that opened.
    pub(crate) fn is_damaged(&self) -> bool {
        self.0.is_damaged
    }

    /// The same keys, for one who uses them so often that others would be disturbed by the counting.
    pub(crate) fn apart(&self) -> Self {
        Self(self.0.apart())
    }

    /// What [`apart`](Self::apart) gives of `other`, without an allocation if nobody else has this handle; and what is
    /// to be dropped.
    pub(crate) fn turned_into(self, other: &Self) -> (Self, impl Sized + use<>) {
        let (turned, before) = self.0.turned_into(&other.0);
        (Self(turned), before)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }

    /// Tells whether the keys are still in memory.
    #[cfg(test)]
    pub(crate) fn watch(&self) -> std::sync::Weak<Keys> {
        self.0.watch()
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
        match self.position(purpose) {
            Some(position) => self.clone().into_wrapper(position),
            None => Err(self.unknown_purpose(purpose)),
        }
    }

    /// Where the data key of this purpose is.
    pub(crate) fn position(&self, purpose: &Purpose) -> Option<usize> {
        let keys = &self.ring().data_keys;
        keys.iter().position(|key| key.purpose == *purpose)
    }

    /// The wrapper of the data key at this position, for the last one who needs the ring.
    #[inline]
    pub(crate) fn into_wrapper(self, position: usize) -> Result<DataKeyWrapper> {
        DataKeyWrapper::new(self, position)
    }

    pub(crate) fn unknown_purpose(&self, purpose: &Purpose) -> Error {
        Error::new(ErrorKind::UnknownPurpose)
            .with_context("scope", self.scope())
            .with_context("purpose", purpose)
    }

    /// The key versions that did not open, and why. Those that open work all the same.
    ///
    /// A failed version is tried again when it is asked for, after a pause that grows from seconds to five minutes.
    pub fn failures(&self) -> impl Iterator<Item = (KeyVersionId, &Error)> {
        self.failed_versions()
            .map(|(id, failure)| (id, failure.error()))
    }

    pub(crate) fn failed_versions(&self) -> impl Iterator<Item = (KeyVersionId, &Arc<Failure>)> {
        let root = self.ring().root_key_versions.iter().filter_map(|version| {
            let Opened::Failed(failure) = &version.key else {
                return None;
            };
            Some((KeyVersionId::Root(version.id.clone()), failure))
        });
        let data = self
            .ring()
            .data_keys
            .iter()
            .flat_map(|key| &key.versions)
            .filter_map(|version| {
                let failure = version.key.as_ref().err()?;
                Some((KeyVersionId::Data(version.id.clone()), failure))
            });
        root.chain(data)
    }
}

impl DataKey {
    /// Of versions in the order of their numbers.
    pub(crate) fn new(id: DataKeyId, purpose: Purpose, versions: Box<[DataKeyVersion]>) -> Self {
        let mut by_id = Vec::new();
        if versions.len() > FEW {
            by_id.extend(0..u32::try_from(versions.len()).unwrap_or(u32::MAX));
            by_id.sort_unstable_by_key(|position| &versions[*position as usize].id);
        }
        let failed = versions
            .iter()
            .filter_map(|version| version.key.as_ref().err());
        let mut failures: Vec<_> = failed.cloned().collect();
        failures.sort_by_key(|failure| Arc::as_ptr(failure).addr());
        failures.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let rare = (!by_id.is_empty() || !failures.is_empty()).then(|| {
            Box::new(Rare {
                by_id: by_id.into(),
                failures: failures.into(),
            })
        });
        Self {
            id,
            purpose,
            versions,
            rare,
        }
    }

    /// The version of this id, opened or not.
    pub(crate) fn version(&self, id: &str) -> Option<&DataKeyVersion> {
        let version = |position: u32| &self.versions[position as usize];
        match &self.rare {
            Some(rare) if !rare.by_id.is_empty() => {
                let by_id = |position: &u32| version(*position).id.as_str().cmp(id);
                let place = rare.by_id.binary_search_by(by_id).ok()?;
                Some(version(rare.by_id[place]))
            }
            _ => {
                let mut newest_first = self.versions.iter().rev();
                newest_first.find(|version| version.id.as_str() == id)
            }
        }
    }

    /// Whether any version did not open.
    pub(crate) fn is_damaged(&self) -> bool {
        !self.failures().is_empty()
    }

    /// Whether something that did not open is to be tried again.
    pub(crate) fn is_retry_due(&self, now: Moment) -> bool {
        self.failures().iter().any(|failure| failure.is_due(now))
    }

    fn failures(&self) -> &[Arc<Failure>] {
        self.rare.as_ref().map_or(&[], |rare| &rare.failures)
    }
}

impl DataKeyVersion {
    /// Does something with the key, or gives why it did not open.
    pub(crate) fn with_key<T>(&self, work: impl FnOnce(&LocalKey) -> Result<T>) -> Result<T> {
        match &self.key {
            Ok(Held::Ready(key)) => work(key),
            Ok(Held::Resting(key)) => work(&key.expand(self.id.text())),
            Err(failure) => Err(failure.wanted()),
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
