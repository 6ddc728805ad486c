//! The rows that change sets write, table by table.

use std::collections::{HashMap, HashSet};

use super::Refusal;
use crate::change::{
    ChangeSet, NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Receipt, RewrappedDataKeyVersion,
    RootChange,
};
use crate::id::{RootKeyId, RootKeyVersionId};
use crate::root_name::RootName;
use crate::scope::ScopeId;

/// What some change sets insert and update, gathered table by table: a batch takes as few statements as one change.
///
/// The order of tables is that of these methods, parents first.
#[derive(Clone, Debug)]
pub struct Writes<'a> {
    pub(super) changes: Vec<&'a ChangeSet>,
}

/// What a store wrote.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The root keys that were inserted, by id. One whose scope has another already was not, and nothing else of its
    /// change set was written.
    pub root_keys: HashSet<String>,
    /// The numbers that the database assigned to new versions, by id.
    pub numbers: HashMap<String, i64>,
    /// How many rows of versions were updated.
    pub updated: usize,
}

impl<'a> Writes<'a> {
    /// Of these change sets.
    pub fn of(changes: impl IntoIterator<Item = &'a ChangeSet>) -> Self {
        Self {
            changes: changes.into_iter().collect(),
        }
    }

    /// New root keys, in the order of their scopes: in every batch the same, so that two with scopes in common can't
    /// deadlock.
    #[must_use]
    pub fn root_keys(&self) -> Vec<(&'a RootKeyId, &'a ScopeId)> {
        let new = self.changes.iter().filter(|change| change.insert.root_key);
        let mut rows: Vec<_> = new.map(|new| (&new.root_key, &new.scope)).collect();
        rows.sort_unstable_by_key(|(_, scope)| *scope);
        rows
    }

    /// The same without the change sets whose root key is new and not among these.
    #[must_use]
    pub fn with_root_keys(&self, inserted: &HashSet<String>) -> Self {
        let written = |change: &&&'a ChangeSet| {
            !change.insert.root_key || inserted.contains(change.root_key.as_str())
        };
        Self::of(self.changes.iter().filter(written).copied())
    }

    /// New root key versions, with their root keys.
    pub fn root_key_versions(
        &self,
    ) -> impl Iterator<Item = (&'a RootKeyId, &'a NewRootKeyVersion)> + use<'_, 'a> {
        self.changes.iter().flat_map(|change| {
            let new = change.insert.root_key_versions.iter();
            new.map(|new| (&change.root_key, new))
        })
    }

    /// New data keys, with their root keys.
    pub fn data_keys(&self) -> impl Iterator<Item = (&'a RootKeyId, &'a NewDataKey)> + use<'_, 'a> {
        self.changes.iter().flat_map(|change| {
            let new = change.insert.data_keys.iter();
            new.map(|new| (&change.root_key, new))
        })
    }

    /// New data key versions.
    pub fn data_key_versions(&self) -> impl Iterator<Item = &'a NewDataKeyVersion> + use<'_, 'a> {
        let changes = self.changes.iter();
        changes.flat_map(|change| &change.insert.data_key_versions)
    }

    /// Root key versions with their new wrapped keys.
    pub fn rewrapped_root_key_versions(
        &self,
    ) -> impl Iterator<Item = &'a (RootKeyVersionId, Vec<u8>)> + use<'_, 'a> {
        let changes = self.changes.iter();
        changes.flat_map(|change| &change.update.root_key_versions)
    }

    /// Data key versions with their new wrapped keys, and what wraps them.
    pub fn rewrapped_data_key_versions(
        &self,
    ) -> impl Iterator<Item = &'a RewrappedDataKeyVersion> + use<'_, 'a> {
        let changes = self.changes.iter();
        changes.flat_map(|change| &change.update.data_key_versions)
    }

    /// Root keys whose root of trust changes: its name, or `None` for the engine's own.
    pub fn roots(
        &self,
    ) -> impl Iterator<Item = (&'a RootKeyId, Option<&'a RootName>)> + use<'_, 'a> {
        self.changes.iter().filter_map(|change| match &change.root {
            RootChange::Keep => None,
            RootChange::Assign(name) => Some((&change.root_key, Some(name))),
            RootChange::Unassign => Some((&change.root_key, None)),
        })
    }

    /// Root keys whose scope gets another id, with that id: to be written last.
    pub fn renamed(&self) -> impl Iterator<Item = (&'a RootKeyId, &'a ScopeId)> + use<'_, 'a> {
        self.changes.iter().filter_map(|change| {
            let scope = change.update.scope.as_ref()?;
            Some((&change.root_key, scope))
        })
    }

    /// Says of each change set what became of it, once everything is written.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unexpected`]: nothing of it may stay, of none of them.
    pub fn judge(&self, written: &Written) -> Result<Vec<Result<Receipt, Refusal>>, Refusal> {
        let rest = self.with_root_keys(&written.root_keys);
        let updates =
            rest.rewrapped_root_key_versions().count() + rest.rewrapped_data_key_versions().count();
        if written.updated != updates {
            return Err(Refusal::Unexpected);
        }
        let outcome = |change: &&ChangeSet| {
            if change.insert.root_key && !written.root_keys.contains(change.root_key.as_str()) {
                return Ok(Err(Refusal::AlreadyExists));
            }
            let assigned = |id: &str| written.numbers.get(id).copied();
            change
                .applied(assigned)
                .map(Ok)
                .map_err(|_| Refusal::Unexpected)
        };
        self.changes.iter().map(outcome).collect()
    }
}
