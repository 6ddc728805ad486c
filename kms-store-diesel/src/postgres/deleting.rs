//! Deletions on Postgres, with every foreign key asked before anything is really deleted.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{Array, Text};
use kms_core::{Deletion, DeletionTarget, Error, Refusal, ScopeRows};

use super::{Conn, RunQueryDsl, batch_execute};
use crate::dialect::{DeletionFailure, KeyTables as _};
use crate::failure::in_use;
use crate::transaction::Transactions as _;

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

pub(super) async fn delete(
    connection: &mut Conn,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> Result<(), DeletionFailure> {
    lock_versions(connection, deletion, rows).await?;
    try_out(connection, deletion, rows).await?;
    let count = connection
        .delete_target(&rows.root_key, &deletion.target)
        .await
        .map_err(refused)?;
    if count == 1 {
        Ok(())
    } else {
        Err(DeletionFailure::Refused(Refusal::Changed))
    }
}

/// Locks the versions that go, without waiting: to wait here, while the collection version is locked,
/// would stop every other change. A version that somebody holds is just being referenced.
async fn lock_versions(
    connection: &mut Conn,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> Result<(), DeletionFailure> {
    let ids: Vec<_> = match &deletion.target {
        DeletionTarget::Version(id) => vec![id.as_str()],
        DeletionTarget::Scope => {
            let going = deletion.data_key_versions(rows).into_iter();
            going.map(|id| id.as_str()).collect()
        }
    };
    let locks: Vec<VersionLock> = diesel::sql_query(LOCK_VERSIONS)
        .bind::<Array<Text>, _>(ids)
        .load(connection)
        .await?;
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
async fn try_out(
    connection: &mut Conn,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> Result<(), DeletionFailure> {
    let names: Vec<ConstraintName> = diesel::sql_query(DEFERRABLE).load(connection).await?;
    let names: Vec<_> = names.into_iter().map(|row| row.name).collect();
    connection.begin().await?;
    let mut tried = connection
        .delete_target(&rows.root_key, &deletion.target)
        .await
        .map(drop);
    if tried.is_ok() && !names.is_empty() {
        let immediate = format!("set constraints {} immediate", names.join(", "));
        tried = batch_execute(connection, &immediate).await;
    }
    let rolled_back = connection.roll_back().await;
    tried.map_err(refused)?;
    Ok(rolled_back?)
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
