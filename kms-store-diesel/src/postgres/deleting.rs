//! Deletions on Postgres, with every foreign key asked before anything is really deleted.

use diesel::connection::SimpleConnection as _;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{Array, Text};
use kms_core::{Deletion, DeletionTarget, Error, Refusal, ScopeRows};

use crate::dialect::{DeletionFailure, KeyTables as _};
use crate::failure::in_use;

const LOCK_VERSIONS: &str = "\
select kms_lock_key_version(v.id) as answer, v.id from unnest($1) as v (id)";

/// Every foreign key to the key tables whose check may come as late as the commit: our own and the
/// application's.
const DEFERRABLE: &str = "\
select distinct format('%I.%I', n.nspname, c.conname) as name
  from pg_constraint c join pg_namespace n on n.oid = c.connamespace
 where c.contype = 'f' and c.condeferrable
   and c.confrelid in ('kms_root_key'::regclass, 'kms_root_key_version'::regclass,
                       'kms_data_key'::regclass, 'kms_data_key_version'::regclass)
 order by 1";

#[derive(QueryableByName)]
#[diesel(check_for_backend(Pg))]
struct VersionLock {
    #[diesel(sql_type = Text)]
    answer: String,
    #[diesel(sql_type = Text)]
    id: String,
}

#[derive(QueryableByName)]
#[diesel(check_for_backend(Pg))]
struct ConstraintName {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The end of the savepoint in which a deletion was tried.
enum Tried {
    Possible,
    Failed(QueryError),
}

impl From<QueryError> for Tried {
    fn from(error: QueryError) -> Self {
        Self::Failed(error)
    }
}

pub(super) fn delete(
    connection: &mut PgConnection,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> Result<(), DeletionFailure> {
    lock_versions(connection, deletion, rows)?;
    try_out(connection, deletion, rows)?;
    let count = connection
        .delete_target(&rows.root_key, &deletion.target)
        .map_err(refused)?;
    if count == 1 {
        Ok(())
    } else {
        Err(DeletionFailure::Refused(Refusal::Changed))
    }
}

/// Locks the versions that go, without waiting: to wait here, while the collection version is locked,
/// would stop every other change. A version that somebody holds is just being referenced.
fn lock_versions(
    connection: &mut PgConnection,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> Result<(), DeletionFailure> {
    let ids: Vec<_> = match &deletion.target {
        DeletionTarget::Version(id) => vec![id.as_str()],
        DeletionTarget::Scope => {
            let going = deletion.data_key_versions(rows).into_iter();
            going.map(kms_core::Id::as_str).collect()
        }
    };
    let locks: Vec<VersionLock> = diesel::sql_query(LOCK_VERSIONS)
        .bind::<Array<Text>, _>(ids)
        .load(connection)?;
    for lock in locks {
        return Err(DeletionFailure::Refused(match lock.answer.as_str() {
            "ok" => continue,
            "busy" => Refusal::Held(lock.id),
            _ => Error::from(Refusal::Changed)
                .with_context("key_version", lock.id)
                .into(),
        }));
    }
    Ok(())
}

/// Deletes and checks all foreign keys at once, in a savepoint that is rolled back whatever comes of it:
/// `immediate` would outlive a savepoint that is released, and fire on later rows of the caller's.
fn try_out(
    connection: &mut PgConnection,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> Result<(), DeletionFailure> {
    let names: Vec<ConstraintName> = diesel::sql_query(DEFERRABLE).load(connection)?;
    let names: Vec<_> = names.into_iter().map(|row| row.name).collect();
    let end: Result<(), Tried> = connection.transaction(|connection| {
        connection.delete_target(&rows.root_key, &deletion.target)?;
        if !names.is_empty() {
            connection.batch_execute(&format!("set constraints {} immediate", names.join(", ")))?;
        }
        Err(Tried::Possible)
    });
    match end {
        Ok(()) | Err(Tried::Possible) => Ok(()),
        Err(Tried::Failed(error)) => Err(refused(error)),
    }
}

fn refused(error: QueryError) -> DeletionFailure {
    match &error {
        QueryError::DatabaseError(
            DatabaseErrorKind::ForeignKeyViolation | DatabaseErrorKind::RestrictViolation,
            _,
        ) => in_use(error).into(),
        _ => error.into(),
    }
}
