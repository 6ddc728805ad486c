//! Deletions on SQLite: every table that references data key versions is looked into before.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{Bool, Integer, Text};
use kms_core::{
    DataKeyVersionId, Deletion, DeletionTarget, Error, ErrorKind, KeyVersionId, Proof, Referencer,
    Refusal, RootKeyVersionId, ScopeRows,
};

use super::schema::kms_data_key_version;

use crate::dialect::{DeletionFailure, KeyTables as _};
use crate::failure::in_use;

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    deletion: &Deletion,
    rows: &ScopeRows,
    referencers: &[Referencer],
) -> Result<(), DeletionFailure> {
    if !enforces_foreign_keys(connection)? && needs_foreign_keys(deletion) {
        return Err(Error::new(ErrorKind::UseNotProven)
            .with_detail("foreign_keys is off on this connection: pragma foreign_keys = on, before the transaction")
            .into());
    }
    let going = deletion.data_key_versions(rows);
    for referencer in referencers {
        // What cascades or is set null does not stand against the deletion, and proves nothing either.
        if referencer.on_delete.restricts() {
            refuse_if_used(connection, referencer, &going)?;
        }
    }
    if let DeletionTarget::Version(KeyVersionId::Root(id)) = &deletion.target {
        refuse_if_wrapping(connection, id)?;
    }
    let count = connection
        .delete_target(&rows.root_key, &deletion.target)
        .await
        .map_err(|error| match &error {
            QueryError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => {
                DeletionFailure::from(in_use(error))
            }
            _ => error.into(),
        })?;
    if count == 1 {
        Ok(())
    } else {
        Err(DeletionFailure::Refused(Refusal::Changed))
    }
}

/// Without them, the keys below a deleted one would stay behind; and a data key version could be
/// referenced by a row that was inserted unchecked, from whatever table.
fn needs_foreign_keys(deletion: &Deletion) -> bool {
    match &deletion.target {
        DeletionTarget::Scope => true,
        DeletionTarget::Version(KeyVersionId::Root(_)) => false,
        DeletionTarget::Version(KeyVersionId::Data(_)) => deletion.proof == Proof::Required,
    }
}

fn enforces_foreign_keys(connection: &mut SqliteConnection) -> QueryResult<bool> {
    diesel::select(sql::<Integer>(
        "(select foreign_keys from pragma_foreign_keys)",
    ))
    .get_result::<i32>(connection)
    .map(|on| on == 1)
}

/// Asks for data key versions of whatever scope: one may have been moved here by hand. The schema's trigger
/// would refuse too, in words only.
fn refuse_if_wrapping(
    connection: &mut SqliteConnection,
    id: &RootKeyVersionId,
) -> Result<(), DeletionFailure> {
    let wrapped: Option<String> = kms_data_key_version::table
        .filter(kms_data_key_version::root_key_version_id.eq(id.as_str()))
        .select(kms_data_key_version::private_id)
        .first(connection)
        .optional()?;
    match wrapped {
        None => Ok(()),
        Some(wrapped) => Err(Error::new(ErrorKind::InUse)
            .with_detail(format!("it wraps {wrapped}"))
            .with_context("key_version", id)
            .with_context("table", "kms_data_key_version")
            .into()),
    }
}

fn refuse_if_used(
    connection: &mut SqliteConnection,
    referencer: &Referencer,
    versions: &[&DataKeyVersionId],
) -> Result<(), DeletionFailure> {
    let rows = format!(
        "exists (select 1 from {} where {} = ",
        quoted(&referencer.table),
        quoted(&referencer.column)
    );
    for version in versions {
        let used = diesel::select(
            sql::<Bool>(&rows)
                .bind::<Text, _>(version.as_str())
                .sql(")"),
        )
        .get_result::<bool>(connection)?;
        if used {
            return Err(Error::new(ErrorKind::InUse)
                .with_context("key_version", version)
                .with_context("table", &referencer.table)
                .into());
        }
    }
    Ok(())
}

/// The name as an identifier, whatever characters it has.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
