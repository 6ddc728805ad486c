//! The rows that change sets write, gathered table by table so that a batch takes few statements.

use std::collections::{HashMap, HashSet};

use diesel::result::Error as QueryError;
use kms_core::{ChangeSet, Receipt, RootChange};

use crate::dialect::Dialect;

#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRootKeyRecord<'a> {
    pub(crate) id: &'a str,
    pub(crate) scope: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRootKeyVersionRecord<'a> {
    pub(crate) id: &'a str,
    pub(crate) root_key: &'a str,
    pub(crate) key: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NewDataKeyRecord<'a> {
    pub(crate) id: &'a str,
    pub(crate) root_key: &'a str,
    pub(crate) purpose: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NewDataKeyVersionRecord<'a> {
    pub(crate) id: &'a str,
    pub(crate) data_key: &'a str,
    pub(crate) root_key_version: &'a str,
    pub(crate) key: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RewrappedRootKeyRecord<'a> {
    pub(crate) id: &'a str,
    pub(crate) key: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RewrappedDataKeyRecord<'a> {
    pub(crate) id: &'a str,
    pub(crate) root_key_version: &'a str,
    pub(crate) key: &'a [u8],
}

/// A root key with the name of its root; without one, it is the engine's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RootRecord<'a> {
    pub(crate) root_key: &'a str,
    pub(crate) name: Option<&'a str>,
}

/// A root key with the id that its scope gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RenamedRecord<'a> {
    pub(crate) root_key: &'a str,
    pub(crate) scope: &'a str,
}

/// All rows of some change sets.
#[derive(Debug, Default)]
struct Writes<'a> {
    root_key_versions: Vec<NewRootKeyVersionRecord<'a>>,
    data_keys: Vec<NewDataKeyRecord<'a>>,
    data_key_versions: Vec<NewDataKeyVersionRecord<'a>>,
    rewrapped_root: Vec<RewrappedRootKeyRecord<'a>>,
    rewrapped_data: Vec<RewrappedDataKeyRecord<'a>>,
    roots: Vec<RootRecord<'a>>,
    renamed: Vec<RenamedRecord<'a>>,
}

/// Why change sets were not written, and what was is to be rolled back.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// A row to rewrap was not there, or the database assigned another version number.
    Unexpected,
    Query(QueryError),
}

impl From<QueryError> for WriteFailure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

/// Writes what these change sets insert and update, in one statement per table and kind. Gives a receipt for
/// each, or `None` for one whose scope has a root key already; nothing was written for it.
pub(crate) fn write<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
) -> Result<Vec<Option<Receipt>>, WriteFailure> {
    let taken = insert_root_keys(connection, changes)?;
    let mut writes = Writes::default();
    for (position, change) in changes.iter().enumerate() {
        if !taken.contains(&position) {
            writes.gather(change);
        }
    }
    let numbers = writes.run(connection)?;
    let assigned = |id: &str| numbers.get(id).copied();
    changes
        .iter()
        .enumerate()
        .map(|(position, change)| {
            if taken.contains(&position) {
                return Ok(None);
            }
            let receipt = change.applied(assigned);
            receipt.map(Some).map_err(|_| WriteFailure::Unexpected)
        })
        .collect()
}

fn insert_root_keys<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
) -> Result<HashSet<usize>, QueryError> {
    let mut rows: Vec<_> = changes
        .iter()
        .filter(|change| change.insert.root_key)
        .map(|change| NewRootKeyRecord {
            id: change.root_key.as_str(),
            scope: change.scope.as_str(),
        })
        .collect();
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    // Every batch in the same order, so that two with scopes in common can't deadlock.
    rows.sort_unstable_by_key(|row| row.scope);
    let inserted = connection.insert_root_keys(&rows)?;
    Ok(changes
        .iter()
        .enumerate()
        .filter(|(_, change)| {
            change.insert.root_key && !inserted.contains(change.root_key.as_str())
        })
        .map(|(position, _)| position)
        .collect())
}

impl<'a> Writes<'a> {
    fn gather(&mut self, change: &'a ChangeSet) {
        let root = match &change.root {
            RootChange::Keep => None,
            RootChange::Assign(name) => Some(Some(name.as_str())),
            RootChange::Unassign => Some(None),
        };
        self.roots.extend(root.map(|name| RootRecord {
            root_key: change.root_key.as_str(),
            name,
        }));
        self.renamed
            .extend(change.update.scope.iter().map(|scope| RenamedRecord {
                root_key: change.root_key.as_str(),
                scope: scope.as_str(),
            }));
        let insert = &change.insert;
        for new in &insert.root_key_versions {
            self.root_key_versions.push(NewRootKeyVersionRecord {
                id: new.id.as_str(),
                root_key: change.root_key.as_str(),
                key: &new.key,
            });
        }
        self.data_keys
            .extend(insert.data_keys.iter().map(|new| NewDataKeyRecord {
                id: new.id.as_str(),
                root_key: change.root_key.as_str(),
                purpose: new.purpose.as_str(),
            }));
        for new in &insert.data_key_versions {
            self.data_key_versions.push(NewDataKeyVersionRecord {
                id: new.id.as_str(),
                data_key: new.data_key.as_str(),
                root_key_version: new.root_key_version.as_str(),
                key: &new.key,
            });
        }
        self.rewrapped_root
            .extend(change.update.root_key_versions.iter().map(|(id, key)| {
                RewrappedRootKeyRecord {
                    id: id.as_str(),
                    key,
                }
            }));
        self.rewrapped_data
            .extend(
                change
                    .update
                    .data_key_versions
                    .iter()
                    .map(|new| RewrappedDataKeyRecord {
                        id: new.id.as_str(),
                        root_key_version: new.root_key_version.as_str(),
                        key: &new.key,
                    }),
            );
    }

    /// Gives the numbers that the database assigned to new versions.
    fn run<C: Dialect>(&self, connection: &mut C) -> Result<HashMap<String, i64>, WriteFailure> {
        let mut numbers = HashMap::new();
        if !self.root_key_versions.is_empty() {
            numbers.extend(connection.insert_root_key_versions(&self.root_key_versions)?);
        }
        if !self.data_keys.is_empty() {
            connection.insert_data_keys(&self.data_keys)?;
        }
        if !self.data_key_versions.is_empty() {
            numbers.extend(connection.insert_data_key_versions(&self.data_key_versions)?);
        }
        if !self.rewrapped_root.is_empty() {
            let rows = connection.rewrap_root_key_versions(&self.rewrapped_root)?;
            expect(rows == self.rewrapped_root.len())?;
        }
        if !self.rewrapped_data.is_empty() {
            let rows = connection.rewrap_data_key_versions(&self.rewrapped_data)?;
            expect(rows == self.rewrapped_data.len())?;
        }
        connection.set_roots(&self.roots)?;
        connection.rename_scopes(&self.renamed)?;
        Ok(numbers)
    }
}

fn expect(as_expected: bool) -> Result<(), WriteFailure> {
    if as_expected {
        Ok(())
    } else {
        Err(WriteFailure::Unexpected)
    }
}
