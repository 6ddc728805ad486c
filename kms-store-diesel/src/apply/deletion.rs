//! Deletions: what must not be lost is asked before, of the rows and of the application's foreign keys.

use kms_core::{
    ChangeSet, DataKeyVersionId, Deletion, DeletionTarget, Error, ErrorKind, KeyVersionId, Proof,
    Referencer, RootKeyVersionId, ScopeRows, provable,
};

use crate::dialect::{DeletionFailure, DeletionPlan, Dialect};
use crate::failure::{Failure, Verdict};

/// Deletes what the change set names, in a savepoint of its own. The root key is locked, and `rows` is
/// what the scope has.
pub(super) fn delete<C: Dialect>(
    connection: &mut C,
    change: &ChangeSet,
    deletion: &Deletion,
    rows: &ScopeRows,
    referencers: &[Referencer],
) -> Result<Verdict, Failure> {
    if let Err(error) = allowed(deletion, rows, referencers) {
        return Ok(Err(named(error, &deletion.target).into()));
    }
    let plan = DeletionPlan {
        root_key: &change.root_key,
        target: &deletion.target,
        data_key_versions: going(&deletion.target, rows),
        referencers,
        proven: deletion.proof == Proof::Required,
    };
    match connection.transaction(|connection| connection.delete(&plan)) {
        Ok(()) => Ok(change.applied(|_| None).map_err(Into::into)),
        Err(DeletionFailure::Refused(mut refusal)) => {
            refusal.error = named(refusal.error, &deletion.target);
            Ok(Err(refusal))
        }
        Err(DeletionFailure::Query(error)) if super::must_end::<C>(&error) => Err(error.into()),
        Err(DeletionFailure::Query(error)) => {
            let error = crate::failure::query_error(error);
            Ok(Err(named(error, &deletion.target).into()))
        }
    }
}

fn named(error: Error, target: &DeletionTarget) -> Error {
    match target {
        DeletionTarget::Version(id) => error.with_context("key_version", id),
        DeletionTarget::Scope => error,
    }
}

/// What the rows and the foreign keys' declarations can tell, before anything is tried.
fn allowed(deletion: &Deletion, rows: &ScopeRows, referencers: &[Referencer]) -> Result<(), Error> {
    let data_keys_go = match &deletion.target {
        DeletionTarget::Version(KeyVersionId::Root(id)) => {
            refuse_wrapping(id, rows)?;
            false
        }
        DeletionTarget::Version(KeyVersionId::Data(_)) | DeletionTarget::Scope => true,
    };
    if data_keys_go && deletion.proof == Proof::Required {
        provable(referencers)?;
    }
    Ok(())
}

/// A root key version that still wraps a data key version stays, whatever the form of the call.
fn refuse_wrapping(id: &RootKeyVersionId, rows: &ScopeRows) -> Result<(), Error> {
    let wrapped = rows
        .data_keys
        .iter()
        .flat_map(|key| &key.versions)
        .find(|version| version.root_key_version == *id);
    match wrapped {
        None => Ok(()),
        Some(version) => Err(Error::new(ErrorKind::InUse)
            .with_detail(format!("it wraps {}", version.id))
            .with_context("key_version", id)
            .with_context("table", "kms_data_key_version")),
    }
}

fn going<'a>(target: &'a DeletionTarget, rows: &'a ScopeRows) -> Vec<&'a DataKeyVersionId> {
    match target {
        DeletionTarget::Version(KeyVersionId::Root(_)) => Vec::new(),
        DeletionTarget::Version(KeyVersionId::Data(id)) => vec![id],
        DeletionTarget::Scope => rows
            .data_keys
            .iter()
            .flat_map(|key| &key.versions)
            .map(|version| &version.id)
            .collect(),
    }
}
