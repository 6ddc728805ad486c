//! Change sets made by hand: real in every row and number, with random bytes for wrapped keys.
//!
//! A repository can't tell them from the engine's: it never opens a key. No engine, no wrapper and no
//! cryptography is needed to test one.
//!
//! ```
//! use kms_core::{Purpose, ScopeId};
//! use kms_testkit::change_sets;
//!
//! let scope = ScopeId::new("o_1")?;
//! let change = change_sets::create(&scope, &[Purpose::from_static("database")]);
//! assert_eq!(change.insert.data_key_versions[0].version, 1);
//! # Ok::<(), kms_core::Error>(())
//! ```

use kms_core::{
    ChangeSet, DataKeyId, DataKeyVersionId, Deletion, DeletionTarget, Inserts, KeyVersionId,
    NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Operation, Proof, Purpose,
    RewrappedDataKeyVersion, RootChange, RootKeyId, RootKeyVersionId, ScopeId, ScopeRows, Updates,
};

/// The first keys of a scope.
#[must_use]
pub fn create(scope: &ScopeId, purposes: &[Purpose]) -> ChangeSet {
    let root_key_version = NewRootKeyVersion {
        id: RootKeyVersionId::generate(),
        version: 1,
        key: wrapped_key(),
    };
    let (data_keys, data_key_versions) = new_data_keys(purposes, &root_key_version.id);
    ChangeSet {
        operation: Operation::Create,
        scope: scope.clone(),
        root_key: RootKeyId::generate(),
        expected: None,
        insert: Inserts {
            root_key: true,
            root_key_versions: vec![root_key_version],
            data_keys,
            data_key_versions,
        },
        update: Updates::default(),
        root: RootChange::Keep,
        delete: None,
    }
}

/// A new version of every key.
#[must_use]
pub fn rotate(rows: &ScopeRows) -> ChangeSet {
    let root_key_version = NewRootKeyVersion {
        id: RootKeyVersionId::generate(),
        version: next(rows.root_key_versions.iter().map(|row| row.version)),
        key: wrapped_key(),
    };
    let data_key_versions = rows
        .data_keys
        .iter()
        .map(|key| NewDataKeyVersion {
            id: DataKeyVersionId::generate(),
            data_key: key.id.clone(),
            root_key_version: root_key_version.id.clone(),
            version: next(key.versions.iter().map(|row| row.version)),
            key: wrapped_key(),
        })
        .collect();
    ChangeSet {
        insert: Inserts {
            root_key: false,
            root_key_versions: vec![root_key_version],
            data_keys: Vec::new(),
            data_key_versions,
        },
        ..empty(Operation::Rotate, rows)
    }
}

/// A new version of every key, and every older version encrypted anew.
#[must_use]
pub fn rotate_and_rewrap(rows: &ScopeRows) -> ChangeSet {
    let rotation = rotate(rows);
    let newest = rotation.insert.root_key_versions[0].id.clone();
    ChangeSet {
        update: rewrapped(rows, &newest),
        ..rotation
    }
}

/// Every version encrypted anew, the data key versions by the newest root key version.
///
/// # Panics
///
/// If the rows have no root key version.
#[must_use]
pub fn rewrap(rows: &ScopeRows) -> ChangeSet {
    let newest = &rows
        .root_key_versions
        .last()
        .expect("a root key has a version")
        .id;
    ChangeSet {
        update: rewrapped(rows, newest),
        ..empty(Operation::Rewrap, rows)
    }
}

/// Every root key version encrypted anew, by the root that the scope has from then on.
#[must_use]
pub fn assign_root(rows: &ScopeRows, root: RootChange) -> ChangeSet {
    let rewrapped = rows.root_key_versions.iter();
    ChangeSet {
        update: Updates {
            root_key_versions: rewrapped
                .map(|row| (row.id.clone(), wrapped_key()))
                .collect(),
            ..Updates::default()
        },
        root,
        ..empty(Operation::AssignRoot, rows)
    }
}

/// The keys of these rows, which are another database's: with their ids, and numbers from 1 on.
#[must_use]
pub fn import(rows: &ScopeRows) -> ChangeSet {
    let root_key_versions = (1..).zip(&rows.root_key_versions);
    let data_keys = rows.data_keys.iter().map(|key| NewDataKey {
        id: key.id.clone(),
        purpose: key.purpose.clone(),
    });
    let data_key_versions = rows.data_keys.iter().flat_map(|key| {
        (1..)
            .zip(&key.versions)
            .map(|(version, row)| NewDataKeyVersion {
                id: row.id.clone(),
                data_key: key.id.clone(),
                root_key_version: row.root_key_version.clone(),
                version,
                key: wrapped_key(),
            })
    });
    ChangeSet {
        expected: None,
        insert: Inserts {
            root_key: true,
            root_key_versions: root_key_versions
                .map(|(version, row)| NewRootKeyVersion {
                    id: row.id.clone(),
                    version,
                    key: wrapped_key(),
                })
                .collect(),
            data_keys: data_keys.collect(),
            data_key_versions: data_key_versions.collect(),
        },
        ..empty(Operation::Import, rows)
    }
}

/// Another id for the scope, and every version encrypted anew.
///
/// # Panics
///
/// If the rows have no root key version.
#[must_use]
pub fn rename(rows: &ScopeRows, to: &ScopeId) -> ChangeSet {
    let rewrap = rewrap(rows);
    ChangeSet {
        update: Updates {
            scope: Some(to.clone()),
            ..rewrap.update
        },
        ..empty(Operation::Rename, rows)
    }
}

/// Data keys for these purposes, which the scope must lack.
///
/// # Panics
///
/// If the rows have no root key version.
#[must_use]
pub fn reconcile(rows: &ScopeRows, purposes: &[Purpose]) -> ChangeSet {
    let newest = &rows
        .root_key_versions
        .last()
        .expect("a root key has a version")
        .id;
    let (data_keys, data_key_versions) = new_data_keys(purposes, newest);
    ChangeSet {
        insert: Inserts {
            data_keys,
            data_key_versions,
            ..Inserts::default()
        },
        ..empty(Operation::Reconcile, rows)
    }
}

/// One key version deleted.
#[must_use]
pub fn revoke(rows: &ScopeRows, id: impl Into<KeyVersionId>, proof: Proof) -> ChangeSet {
    ChangeSet {
        delete: Some(Deletion {
            target: DeletionTarget::Version(id.into()),
            proof,
        }),
        ..empty(Operation::Revoke, rows)
    }
}

/// All keys of the scope deleted.
#[must_use]
pub fn delete(rows: &ScopeRows, proof: Proof) -> ChangeSet {
    ChangeSet {
        delete: Some(Deletion {
            target: DeletionTarget::Scope,
            proof,
        }),
        ..empty(Operation::Delete, rows)
    }
}

/// Bytes that stand for a wrapped key: never the same twice, and not text.
#[must_use]
pub fn wrapped_key() -> Vec<u8> {
    let mut key = vec![0, 0xff, b'\\', b'\''];
    key.extend_from_slice(DataKeyVersionId::generate().as_str().as_bytes());
    key
}

fn empty(operation: Operation, rows: &ScopeRows) -> ChangeSet {
    ChangeSet {
        operation,
        scope: rows.scope.clone(),
        root_key: rows.root_key.clone(),
        expected: Some(rows.clone()),
        insert: Inserts::default(),
        update: Updates::default(),
        root: RootChange::Keep,
        delete: None,
    }
}

fn new_data_keys(
    purposes: &[Purpose],
    root_key_version: &RootKeyVersionId,
) -> (Vec<NewDataKey>, Vec<NewDataKeyVersion>) {
    purposes
        .iter()
        .map(|purpose| {
            let key = NewDataKey {
                id: DataKeyId::generate(),
                purpose: purpose.clone(),
            };
            let version = NewDataKeyVersion {
                id: DataKeyVersionId::generate(),
                data_key: key.id.clone(),
                root_key_version: root_key_version.clone(),
                version: 1,
                key: wrapped_key(),
            };
            (key, version)
        })
        .unzip()
}

fn rewrapped(rows: &ScopeRows, root_key_version: &RootKeyVersionId) -> Updates {
    Updates {
        root_key_versions: rows
            .root_key_versions
            .iter()
            .map(|row| (row.id.clone(), wrapped_key()))
            .collect(),
        data_key_versions: rows
            .data_keys
            .iter()
            .flat_map(|key| &key.versions)
            .map(|row| RewrappedDataKeyVersion {
                id: row.id.clone(),
                root_key_version: root_key_version.clone(),
                key: wrapped_key(),
            })
            .collect(),
        scope: None,
    }
}

fn next(numbers: impl Iterator<Item = i64>) -> i64 {
    numbers.max().unwrap_or(0) + 1
}
