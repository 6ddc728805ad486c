//! Applying change sets: the core's rules, and what the databases' constraints see to. Each is tried on a copy of its
//! scope's rows, which is put in place if all of it went well.

use std::time::SystemTime;

use super::refused;
use super::state::State;
use crate::applying::{Batch, Refusal, Written};
use crate::change::{
    ChangeSet, Deletion, DeletionTarget, NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Receipt,
    RootChange,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyVersionId, KeyVersionId, RootKeyVersionId};
use crate::repository::{Outcome, provable};
use crate::rows::{DataKeyRow, DataKeyVersionRow, RootKeyVersionRow, ScopeRows};

impl State {
    /// Applies them; each is all or nothing for itself.
    pub(super) fn apply(&mut self, changes: &[ChangeSet]) -> Vec<Outcome> {
        let mut batch = Batch::new(changes.iter().collect());
        let scopes = batch.scopes().into_iter();
        batch.compare(
            scopes
                .filter_map(|scope| self.scopes.get(scope).cloned())
                .collect(),
        );
        for position in batch.to_write() {
            let written = self.write(&batch, position);
            batch.settle(position, written);
        }
        for position in batch.to_delete() {
            let deleted = self.delete_rows(&batch, position);
            batch.settle(position, deleted);
        }
        batch.finish().outcomes
    }

    fn write(&mut self, batch: &Batch<'_>, position: usize) -> Result<Receipt, Refusal> {
        let change = batch.change(position);
        let mut written = Written::default();
        let mut rows = match batch.rows(position) {
            Some(rows) => rows.clone(),
            None => self.new_rows(change, &mut written)?,
        };
        self.insert(&mut rows, change, &mut written)?;
        update(&mut rows, change, &mut written)?;
        self.rename(&mut rows, change)?;
        match &change.root {
            RootChange::Keep => {}
            RootChange::Assign(name) => rows.root = Some(name.clone()),
            RootChange::Unassign => rows.root = None,
        }
        rows.sort();
        let receipt = batch.writes(&[position]).judge(&written)?.remove(0)?;
        self.put_after(change, rows);
        self.bump_for(change);
        Ok(receipt)
    }

    /// The root key of a creation, unless the scope has one.
    fn new_rows(&self, change: &ChangeSet, written: &mut Written) -> Result<ScopeRows, Refusal> {
        if self.scopes.contains_key(&change.scope) {
            return Err(Refusal::AlreadyExists);
        }
        self.check_free(change.root_key.as_str())?;
        written.root_keys.insert(change.root_key.to_string());
        Ok(ScopeRows {
            scope: change.scope.clone(),
            root_key: change.root_key.clone(),
            root: None,
            create_time: SystemTime::now(),
            root_key_versions: Vec::new(),
            data_keys: Vec::new(),
        })
    }

    fn insert(
        &self,
        rows: &mut ScopeRows,
        change: &ChangeSet,
        written: &mut Written,
    ) -> Result<(), Refusal> {
        let now = SystemTime::now();
        for new in &change.insert.root_key_versions {
            self.check_free(new.id.as_str())?;
            let number = insert_root_key_version(rows, new, now);
            written.numbers.insert(new.id.to_string(), number);
        }
        for new in &change.insert.data_keys {
            self.check_free(new.id.as_str())?;
            insert_data_key(rows, new, now)?;
        }
        for new in &change.insert.data_key_versions {
            self.check_free(new.id.as_str())?;
            let number = insert_data_key_version(rows, new, now)?;
            written.numbers.insert(new.id.to_string(), number);
        }
        Ok(())
    }

    fn delete_rows(&mut self, batch: &Batch<'_>, position: usize) -> Result<Receipt, Refusal> {
        let change = batch.change(position);
        let (Some(deletion), Some(rows)) = (&change.delete, batch.rows(position)) else {
            return Err(Refusal::Changed);
        };
        deletion.check(rows)?;
        if deletion.needs_proof() {
            provable(&self.referencers)?;
        }
        let receipt = change.applied(|_| None)?;
        match self.without(rows.clone(), deletion)? {
            Some(rows) => self.put(rows),
            None => self.delete(&change.scope),
        }
        self.bump_for(change);
        Ok(receipt)
    }

    fn bump_for(&mut self, change: &ChangeSet) {
        if change.bumps() {
            self.bump(change.scopes().cloned().collect());
        }
    }

    fn check_free(&self, id: &str) -> Result<(), Refusal> {
        if self.owners.contains_key(id) {
            return Err(Refusal::Taken);
        }
        Ok(())
    }

    /// What is left of the rows; `None` if nothing is. The application's foreign keys and our own may refuse.
    fn without(&self, mut rows: ScopeRows, deletion: &Deletion) -> Result<Option<ScopeRows>> {
        self.check_unreferenced(&deletion.data_key_versions(&rows))?;
        match &deletion.target {
            DeletionTarget::Scope => return Ok(None),
            DeletionTarget::Version(KeyVersionId::Root(id)) => {
                self.check_wraps_nothing(id)?;
                rows.root_key_versions.retain(|row| row.id != *id);
            }
            DeletionTarget::Version(KeyVersionId::Data(id)) => {
                for key in &mut rows.data_keys {
                    key.versions.retain(|row| row.id != *id);
                }
            }
        }
        Ok(Some(rows))
    }

    fn check_unreferenced(&self, going: &[&DataKeyVersionId]) -> Result<()> {
        let in_use = self.references.iter().find(|row| {
            going.contains(&&row.id)
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

    /// Of whatever scope: a row may have been moved here by hand.
    fn check_wraps_nothing(&self, id: &RootKeyVersionId) -> Result<()> {
        let wrapped = self
            .scopes
            .values()
            .flat_map(|rows| &rows.data_keys)
            .flat_map(|key| &key.versions)
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

fn insert_root_key_version(rows: &mut ScopeRows, new: &NewRootKeyVersion, now: SystemTime) -> i64 {
    let version = next(rows.root_key_versions.iter().map(|row| row.version));
    rows.root_key_versions.push(RootKeyVersionRow {
        id: new.id.clone(),
        version,
        key: new.key.clone(),
        create_time: now,
    });
    version
}

fn insert_data_key(rows: &mut ScopeRows, new: &NewDataKey, now: SystemTime) -> Result<(), Refusal> {
    if rows.data_keys.iter().any(|key| key.purpose == new.purpose) {
        return Err(Refusal::Taken);
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
) -> Result<i64> {
    check_wrapping(rows, &new.root_key_version)?;
    let key = rows
        .data_keys
        .iter_mut()
        .find(|key| key.id == new.data_key)
        .ok_or_else(|| refused("no such data key"))?;
    let version = next(key.versions.iter().map(|row| row.version));
    key.versions.push(DataKeyVersionRow {
        id: new.id.clone(),
        root_key_version: new.root_key_version.clone(),
        version,
        key: new.key.clone(),
        create_time: now,
    });
    Ok(version)
}

fn update(rows: &mut ScopeRows, change: &ChangeSet, written: &mut Written) -> Result<(), Refusal> {
    for (id, key) in &change.update.root_key_versions {
        let mut versions = rows.root_key_versions.iter_mut();
        let row = versions.find(|row| row.id == *id);
        row.ok_or(Refusal::Unexpected)?.key.clone_from(key);
        written.updated += 1;
    }
    for new in &change.update.data_key_versions {
        check_wrapping(rows, &new.root_key_version)?;
        let row = rows
            .data_keys
            .iter_mut()
            .flat_map(|key| &mut key.versions)
            .find(|row| row.id == new.id)
            .ok_or(Refusal::Unexpected)?;
        row.root_key_version = new.root_key_version.clone();
        row.key.clone_from(&new.key);
        written.updated += 1;
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

/// The number that the databases assign to a new version.
fn next(numbers: impl Iterator<Item = i64>) -> i64 {
    numbers.max().unwrap_or(0) + 1
}
