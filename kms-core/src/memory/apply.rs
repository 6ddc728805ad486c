//! Applying a change set: compare, write a copy, and put it in place only if all of it went well.

use std::collections::HashMap;
use std::time::SystemTime;

use super::refused;
use super::state::State;
use crate::change::{
    ChangeSet, Deletion, DeletionTarget, NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Proof,
    RootChange,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyVersionId, KeyVersionId, RootKeyVersionId};
use crate::repository::{Outcome, provable};
use crate::rows::{DataKeyRow, DataKeyVersionRow, RootKeyVersionRow, ScopeRows};

impl State {
    /// Applies it, or changes nothing.
    pub(super) fn apply(&mut self, change: &ChangeSet) -> Outcome {
        let rows = self.changed(change).map_err(|error| {
            error
                .with_operation(change.operation.name())
                .with_context("scope", &change.scope)
        })?;
        let numbers: HashMap<_, _> = rows.iter().flat_map(numbers).collect();
        let receipt = change.applied(|id| numbers.get(id).copied())?;
        match rows {
            Some(rows) => self.put_after(change, rows),
            None => self.delete(&change.scope),
        }
        if change.bumps() {
            self.bump(change.scopes().cloned().collect());
        }
        Ok(receipt)
    }

    /// What the scope's rows are after the change; `None` if they are gone.
    fn changed(&self, change: &ChangeSet) -> Result<Option<ScopeRows>> {
        let mut rows = self.as_expected(change)?;
        let now = SystemTime::now();
        for new in &change.insert.root_key_versions {
            self.check_free(new.id.as_str())?;
            insert_root_key_version(&mut rows, new, now)?;
        }
        for new in &change.insert.data_keys {
            self.check_free(new.id.as_str())?;
            insert_data_key(&mut rows, new, now)?;
        }
        for new in &change.insert.data_key_versions {
            self.check_free(new.id.as_str())?;
            insert_data_key_version(&mut rows, new, now)?;
        }
        update(&mut rows, change)?;
        self.rename(&mut rows, change)?;
        match &change.root {
            RootChange::Keep => {}
            RootChange::Assign(name) => rows.root = Some(name.clone()),
            RootChange::Unassign => rows.root = None,
        }
        rows.sort();
        match &change.delete {
            None => Ok(Some(rows)),
            Some(deletion) => self.deleted(rows, deletion),
        }
    }

    /// A copy of the scope's rows, if they are what the change set was prepared from.
    fn as_expected(&self, change: &ChangeSet) -> Result<ScopeRows> {
        let found = self.scopes.get(&change.scope);
        match (&change.expected, found) {
            (Some(expected), Some(found)) if expected.same_keys(found) => Ok(found.clone()),
            (None, None) if change.insert.root_key => {
                self.check_free(change.root_key.as_str())?;
                Ok(ScopeRows {
                    scope: change.scope.clone(),
                    root_key: change.root_key.clone(),
                    root: None,
                    create_time: SystemTime::now(),
                    root_key_versions: Vec::new(),
                    data_keys: Vec::new(),
                })
            }
            (None, Some(_)) if change.insert.root_key => Err(ErrorKind::AlreadyExists.into()),
            _ => Err(ErrorKind::Conflict.into()),
        }
    }

    fn check_free(&self, id: &str) -> Result<()> {
        if self.owners.contains_key(id) {
            return Err(Error::new(ErrorKind::Conflict).with_detail("an id is taken"));
        }
        Ok(())
    }

    fn deleted(&self, mut rows: ScopeRows, deletion: &Deletion) -> Result<Option<ScopeRows>> {
        match &deletion.target {
            DeletionTarget::Scope => {
                let going =
                    |id: &DataKeyVersionId| data_key_versions(&rows).any(|row| row.id == *id);
                self.check_unused(going, deletion.proof)?;
                Ok(None)
            }
            DeletionTarget::Version(KeyVersionId::Root(id)) => {
                self.check_wraps_nothing(&rows, id)?;
                rows.root_key_versions.retain(|row| row.id != *id);
                Ok(Some(rows))
            }
            DeletionTarget::Version(KeyVersionId::Data(id)) => {
                self.check_unused(|used| used == id, deletion.proof)?;
                for key in &mut rows.data_keys {
                    key.versions.retain(|row| row.id != *id);
                }
                Ok(Some(rows))
            }
        }
    }

    /// Checks that no row of the application stands against the deletion of these versions, and with
    /// `Required` that something could have.
    fn check_unused(&self, going: impl Fn(&DataKeyVersionId) -> bool, proof: Proof) -> Result<()> {
        if proof == Proof::Required {
            provable(&self.referencers)?;
        }
        let in_use = self.references.iter().find(|row| {
            going(&row.id)
                && self
                    .referencers
                    .iter()
                    .any(|known| known.table == row.table && known.on_delete.restricts())
        });
        match in_use {
            None => Ok(()),
            Some(row) => Err(Error::new(ErrorKind::InUse)
                .with_context("key_version", &row.id)
                .with_context("table", &row.table)),
        }
    }

    /// Checks that no data key version, of whatever scope, is wrapped by this root key version.
    fn check_wraps_nothing(&self, rows: &ScopeRows, id: &RootKeyVersionId) -> Result<()> {
        let others = self
            .scopes
            .values()
            .filter(|other| other.scope != rows.scope);
        let wrapped = others
            .chain([rows])
            .flat_map(data_key_versions)
            .find(|row| row.root_key_version == *id);
        match wrapped {
            None => Ok(()),
            Some(row) => Err(Error::new(ErrorKind::InUse)
                .with_detail(format!("it wraps {}", row.id))
                .with_context("key_version", id)
                .with_context("table", "kms_data_key_version")),
        }
    }
}

fn insert_root_key_version(
    rows: &mut ScopeRows,
    new: &NewRootKeyVersion,
    now: SystemTime,
) -> Result<()> {
    let version = next(rows.root_key_versions.iter().map(|row| row.version));
    check_number(new.version, version)?;
    rows.root_key_versions.push(RootKeyVersionRow {
        id: new.id.clone(),
        version,
        key: new.key.clone(),
        create_time: now,
    });
    Ok(())
}

fn insert_data_key(rows: &mut ScopeRows, new: &NewDataKey, now: SystemTime) -> Result<()> {
    if rows.data_keys.iter().any(|key| key.purpose == new.purpose) {
        return Err(Error::new(ErrorKind::Conflict)
            .with_detail("there is a data key of this purpose")
            .with_context("purpose", &new.purpose));
    }
    rows.data_keys.push(DataKeyRow {
        id: new.id.clone(),
        purpose: new.purpose.clone(),
        create_time: now,
        versions: Vec::new(),
    });
    Ok(())
}

fn insert_data_key_version(
    rows: &mut ScopeRows,
    new: &NewDataKeyVersion,
    now: SystemTime,
) -> Result<()> {
    check_wrapping(rows, &new.root_key_version)?;
    let key = rows
        .data_keys
        .iter_mut()
        .find(|key| key.id == new.data_key)
        .ok_or_else(|| refused("no such data key"))?;
    let version = next(key.versions.iter().map(|row| row.version));
    check_number(new.version, version)?;
    key.versions.push(DataKeyVersionRow {
        id: new.id.clone(),
        root_key_version: new.root_key_version.clone(),
        version,
        key: new.key.clone(),
        create_time: now,
    });
    Ok(())
}

fn update(rows: &mut ScopeRows, change: &ChangeSet) -> Result<()> {
    for (id, key) in &change.update.root_key_versions {
        let row = rows
            .root_key_versions
            .iter_mut()
            .find(|row| row.id == *id)
            .ok_or(ErrorKind::Conflict)?;
        row.key.clone_from(key);
    }
    for new in &change.update.data_key_versions {
        check_wrapping(rows, &new.root_key_version)?;
        let row = rows
            .data_keys
            .iter_mut()
            .flat_map(|key| &mut key.versions)
            .find(|row| row.id == new.id)
            .ok_or(ErrorKind::Conflict)?;
        row.root_key_version = new.root_key_version.clone();
        row.key.clone_from(&new.key);
    }
    Ok(())
}

fn check_wrapping(rows: &ScopeRows, id: &RootKeyVersionId) -> Result<()> {
    if rows.root_key_versions.iter().any(|row| row.id == *id) {
        Ok(())
    } else {
        Err(refused("no such root key version").with_context("key_version", id))
    }
}

fn check_number(expected: i64, assigned: i64) -> Result<()> {
    if expected == assigned {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Conflict).with_detail("another version number was assigned"))
    }
}

/// The versions of a scope with their numbers.
fn numbers(rows: &ScopeRows) -> impl Iterator<Item = (String, i64)> {
    let root = rows.root_key_versions.iter();
    let root = root.map(|row| (row.id.as_str().to_owned(), row.version));
    root.chain(data_key_versions(rows).map(|row| (row.id.as_str().to_owned(), row.version)))
}

/// The number that the databases assign to a new version.
fn next(numbers: impl Iterator<Item = i64>) -> i64 {
    numbers.max().unwrap_or(0) + 1
}

fn data_key_versions(rows: &ScopeRows) -> impl Iterator<Item = &DataKeyVersionRow> {
    rows.data_keys.iter().flat_map(|key| &key.versions)
}
