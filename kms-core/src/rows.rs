//! What the database holds of a scope: rows with wrapped keys, no key in the clear.

use std::time::SystemTime;

use crate::id::{DataKeyId, DataKeyVersionId, KeyVersionId, RootKeyId, RootKeyVersionId};
use crate::root_name::RootName;
use crate::scope::{Purpose, ScopeId};

/// The collection version and the rows of some scopes, read in one consistent snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The collection version of that same snapshot.
    pub collection: CollectionVersion,
    /// The scopes that have keys, in no particular order; those that have none are absent.
    pub scopes: Vec<ScopeRows>,
}

/// The counter that every change adds to, by which other processes see that something changed.
///
/// Compared for equality only: a restored backup goes backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionVersion {
    /// The counter.
    pub version: i64,
    /// When it last changed, by the database's clock.
    pub update_time: SystemTime,
}

/// All key rows of one scope.
#[derive(Clone, Debug)]
pub struct ScopeRows {
    /// Whose keys these are.
    pub scope: ScopeId,
    /// The scope's root key.
    pub root_key: RootKeyId,
    /// The named root that wraps the root key's versions; `None` is the engine's own.
    pub root: Option<RootName>,
    /// When the root key was created.
    pub create_time: SystemTime,
    /// Its versions, ascending.
    pub root_key_versions: Vec<RootKeyVersionRow>,
    /// The scope's data keys, by purpose.
    pub data_keys: Vec<DataKeyRow>,
}

/// A row of `kms_root_key_version`.
#[derive(Clone, Debug)]
pub struct RootKeyVersionRow {
    /// Primary key.
    pub id: RootKeyVersionId,
    /// 1 for the first, then one more each; assigned by the database.
    pub version: i64,
    /// The serialized blob that the root wrapper made of the 32 key bytes.
    pub key: Vec<u8>,
    /// Set by the database.
    pub create_time: SystemTime,
}

/// A row of `kms_data_key`, with its versions.
#[derive(Clone, Debug)]
pub struct DataKeyRow {
    /// Primary key.
    pub id: DataKeyId,
    /// One data key for each purpose of a scope.
    pub purpose: Purpose,
    /// Set by the database.
    pub create_time: SystemTime,
    /// Its versions, ascending.
    pub versions: Vec<DataKeyVersionRow>,
}

/// A row of `kms_data_key_version`.
#[derive(Clone, Debug)]
pub struct DataKeyVersionRow {
    /// Primary key.
    pub id: DataKeyVersionId,
    /// The root key version that wraps it.
    pub root_key_version: RootKeyVersionId,
    /// 1 for the first, then one more each; assigned by the database.
    pub version: i64,
    /// The serialized blob that the root key version made of the 32 key bytes.
    pub key: Vec<u8>,
    /// Set by the database.
    pub create_time: SystemTime,
}

impl ScopeRows {
    /// Whether both hold the same rows: every id, number, purpose, wrapping version, the root's name, and the
    /// wrapped keys byte for byte. Times are left out: they decide nothing, and databases round them.
    ///
    /// This is the comparison that a change set's expectation asks for.
    #[must_use]
    pub fn same_keys(&self, other: &Self) -> bool {
        self.scope == other.scope
            && self.root_key == other.root_key
            && self.root == other.root
            && self.root_key_versions.len() == other.root_key_versions.len()
            && self
                .root_key_versions
                .iter()
                .zip(&other.root_key_versions)
                .all(|(a, b)| (&a.id, a.version, &a.key) == (&b.id, b.version, &b.key))
            && self.data_keys.len() == other.data_keys.len()
            && self
                .data_keys
                .iter()
                .zip(&other.data_keys)
                .all(|(a, b)| a.same_keys(b))
    }

    /// Every wrapped key, with the id of its version.
    pub fn wrapped_keys(&self) -> impl Iterator<Item = (KeyVersionId, &[u8])> {
        let root = self.root_key_versions.iter();
        let root = root.map(|row| (row.id.clone().into(), &*row.key));
        let data = self.data_keys.iter().flat_map(|key| &key.versions);
        root.chain(data.map(|row| (row.id.clone().into(), &*row.key)))
    }

    /// Brings versions and data keys into the order that [`same_keys`](Self::same_keys) compares in:
    /// versions by number, data keys by purpose. For implementations of
    /// [`Repository`](crate::Repository), whose databases sort text each in their own way.
    pub fn sort(&mut self) {
        self.root_key_versions
            .sort_by(|a, b| (a.version, &a.id).cmp(&(b.version, &b.id)));
        self.data_keys
            .sort_by(|a, b| (&a.purpose, &a.id).cmp(&(&b.purpose, &b.id)));
        for key in &mut self.data_keys {
            key.versions
                .sort_by(|a, b| (a.version, &a.id).cmp(&(b.version, &b.id)));
        }
    }
}

impl DataKeyRow {
    fn same_keys(&self, other: &Self) -> bool {
        self.id == other.id
            && self.purpose == other.purpose
            && self.versions.len() == other.versions.len()
            && self.versions.iter().zip(&other.versions).all(|(a, b)| {
                (&a.id, &a.root_key_version, a.version, &a.key)
                    == (&b.id, &b.root_key_version, b.version, &b.key)
            })
    }
}
