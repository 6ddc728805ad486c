//! Looking at keys without opening any.

use std::fmt;
use std::time::SystemTime;

use super::Kms;
use crate::error::Result;
use crate::id::{DataKeyId, KeyVersionId, RootKeyId, RootKeyVersionId};
use crate::rows::ScopeRows;
use crate::scope::{Purpose, ScopeId};

impl Kms {
    /// The keys of a scope: the root key first, then the data keys by purpose. No key is decrypted, and
    /// no root wrapper is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`](crate::ErrorKind::UnknownScope), and those of the repository.
    pub async fn list_keys(&self, scope: &ScopeId) -> Result<Vec<Key>> {
        let rows = self
            .rows(scope)
            .await
            .map_err(|error| error.with_operation("list_keys"))?;
        Ok(keys(rows))
    }
}

/// A key as [`Kms::list_keys`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub scope: ScopeId,
    /// What it encrypts.
    pub kind: KeyKind,
    /// Why it exists; `rootKey` for a root key.
    pub purpose: Purpose,
    /// When it was created, by the database's clock.
    pub create_time: SystemTime,
    /// Its versions, ascending: the last one encrypts.
    pub versions: Vec<KeyVersion>,
}

/// Id of a root key or a data key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyId {
    /// A root key, `krk_…`.
    Root(RootKeyId),
    /// A data key, `kdk_…`.
    Data(DataKeyId),
}

/// What a key encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A key encryption key: the root key of a scope.
    Kek,
    /// A data encryption key.
    Dek,
}

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyVersion {
    /// Its id.
    pub id: KeyVersionId,
    /// 1 for the first, then one more each.
    pub version: i64,
    /// When it was created, by the database's clock.
    pub create_time: SystemTime,
    /// The root key version that wraps it, for a data key version.
    pub root_key_version: Option<RootKeyVersionId>,
}

fn keys(rows: ScopeRows) -> Vec<Key> {
    let root = Key {
        id: KeyId::Root(rows.root_key),
        scope: rows.scope.clone(),
        kind: KeyKind::Kek,
        purpose: Purpose::from_stored(Purpose::ROOT_KEY),
        create_time: rows.create_time,
        versions: rows
            .root_key_versions
            .into_iter()
            .map(|version| KeyVersion {
                id: version.id.into(),
                version: version.version,
                create_time: version.create_time,
                root_key_version: None,
            })
            .collect(),
    };
    let data = rows.data_keys.into_iter().map(|key| Key {
        id: KeyId::Data(key.id),
        scope: rows.scope.clone(),
        kind: KeyKind::Dek,
        purpose: key.purpose,
        create_time: key.create_time,
        versions: key
            .versions
            .into_iter()
            .map(|version| KeyVersion {
                id: version.id.into(),
                version: version.version,
                create_time: version.create_time,
                root_key_version: Some(version.root_key_version),
            })
            .collect(),
    });
    std::iter::once(root).chain(data).collect()
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root(id) => id.as_str(),
            Self::Data(id) => id.as_str(),
        })
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kek => "kek",
            Self::Dek => "dek",
        })
    }
}
