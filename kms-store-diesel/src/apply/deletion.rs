//! Deletions: what must not be lost is asked before, of the rows and of the application's foreign keys.

use kms_core::{
    ChangeSet, Deletion, DeletionTarget, Error, Receipt, Referencer, Refusal, ScopeRows, provable,
};

use crate::dialect::{DeletionFailure, Dialect};
use crate::failure::Failure;
use crate::transaction::ended;

/// Deletes what the change set names, in a savepoint of its own. The root key is locked, and `rows` is
/// what the scope has.
pub(super) async fn delete<C: Dialect>(
    connection: &mut C,
    change: &ChangeSet,
    deletion: &Deletion,
    rows: &ScopeRows,
    referencers: &[Referencer],
) -> Result<Result<Receipt, Refusal>, Failure> {
    let allowed = deletion.check(rows).and_then(|()| {
        if deletion.needs_proof() {
            provable(referencers)?;
        }
        Ok(())
    });
    if let Err(error) = allowed {
        return Ok(Err(named(error, deletion)));
    }
    connection.begin().await?;
    let deleted = connection.delete(deletion, rows, referencers).await;
    match ended(connection, deleted).await {
        Ok(()) => Ok(change.applied(|_| None).map_err(Into::into)),
        Err(DeletionFailure::Refused(Refusal::Other(error))) => Ok(Err(named(error, deletion))),
        Err(DeletionFailure::Refused(refusal)) => Ok(Err(refusal)),
        Err(DeletionFailure::Query(error)) if super::must_end::<C>(&error) => Err(error.into()),
        Err(DeletionFailure::Query(error)) => {
            Ok(Err(named(crate::failure::query_error(error), deletion)))
        }
    }
}

fn named(error: Error, deletion: &Deletion) -> Refusal {
    match &deletion.target {
        DeletionTarget::Version(id) => error.with_context("key_version", id).into(),
        DeletionTarget::Scope => error.into(),
    }
}
