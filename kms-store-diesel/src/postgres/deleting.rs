//! Deletions on Postgres, with every foreign key asked before anything is really deleted.

use diesel::define_sql_function;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{Array, Bool, Nullable, Text};
use kms_core::{Deletion, DeletionTarget, Error, ErrorKind, Refusal, ScopeRows};

use super::{Conn, RunQueryDsl, batch_execute};
use crate::dialect::DeletionFailure;
use crate::failure::{ends_transaction, in_use};
use crate::transaction::Transactions as _;

define_sql_function! {
    /// Deletes, and tells why it failed.
    fn kms_delete_keys(root_key: Text, key_version: Nullable<Text>) -> BigInt;
}

const LOCK_VERSIONS: &str = "\
select kms_lock_key_version(v.id) as answer, v.id from unnest($1) as v (id)";

/// Every foreign key to the key tables whose check may come as late as the commit: our own and the
/// application's.
const DEFERRABLE: &str = "\
select distinct format('%I.%I', n.nspname, c.conname) as name, n.nspname::text as schema,
       has_schema_privilege(n.oid, 'usage') as usable
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
struct Deferrable {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    schema: String,
    /// Whether this role may name it.
    #[diesel(sql_type = Bool)]
    usable: bool,
}

/// Why a deletion that was tried is not possible.
enum Tried {
    Failed(QueryError),
    /// Something else that the transaction deferred does not hold, so that nothing can be told by all of it.
    Pending(QueryError),
}

impl From<QueryError> for Tried {
    fn from(error: QueryError) -> Self {
        Self::Failed(error)
    }
}

pub(super) async fn delete(
    connection: &mut Conn,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> Result<(), DeletionFailure> {
    lock_versions(connection, deletion, rows).await?;
    try_out(connection, deletion, rows).await?;
    let count = delete_rows(connection, deletion, rows).await;
    if count.map_err(refused)? == 1 {
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
            going.map(kms_core::Id::as_str).collect()
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

async fn delete_rows(
    connection: &mut Conn,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> QueryResult<i64> {
    let version = match &deletion.target {
        DeletionTarget::Scope => None,
        DeletionTarget::Version(id) => Some(id.as_str()),
    };
    diesel::select(kms_delete_keys(rows.root_key.as_str(), version))
        .get_result(connection)
        .await
}

/// Deletes and checks all foreign keys at once, in a savepoint that is rolled back whatever comes of it:
/// `immediate` would outlive a savepoint that is released, and fire on later rows of the caller's.
///
/// A constraint is named with its schema, which the role may not be allowed to use. Then all that is deferred is
/// checked before the deletion and after it: what fails only after it comes from the deletion.
async fn try_out(
    connection: &mut Conn,
    deletion: &Deletion,
    rows: &ScopeRows,
) -> Result<(), DeletionFailure> {
    let constraints: Vec<Deferrable> = diesel::sql_query(DEFERRABLE).load(connection).await?;
    let hidden = constraints.iter().find(|constraint| !constraint.usable);
    let names: Vec<_> = match hidden {
        Some(_) => vec!["all"],
        None => constraints.iter().map(|row| row.name.as_str()).collect(),
    };
    connection.begin().await?;
    let tried = delete_and_check(connection, deletion, rows, hidden.is_some(), &names).await;
    let rolled_back = connection.roll_back().await;
    match tried {
        Ok(()) => Ok(rolled_back?),
        Err(Tried::Failed(error)) => Err(refused(error)),
        Err(Tried::Pending(error)) => Err(not_proven(error, hidden)),
    }
}

async fn delete_and_check(
    connection: &mut Conn,
    deletion: &Deletion,
    rows: &ScopeRows,
    check_before: bool,
    names: &[&str],
) -> Result<(), Tried> {
    if check_before {
        batch_execute(connection, "set constraints all immediate")
            .await
            .map_err(pending)?;
        batch_execute(connection, "set constraints all deferred").await?;
    }
    delete_rows(connection, deletion, rows).await?;
    if !names.is_empty() {
        // Not by a function that tells: with an exception block around it, it would outlive this savepoint.
        let immediate = format!("set constraints {} immediate", names.join(", "));
        batch_execute(connection, &immediate).await?;
    }
    Ok(())
}

fn pending(error: QueryError) -> Tried {
    if ends_transaction(&error) {
        Tried::Failed(error)
    } else {
        Tried::Pending(error)
    }
}

fn not_proven(error: QueryError, hidden: Option<&Deferrable>) -> DeletionFailure {
    let schema = hidden.map_or("", |constraint| &constraint.schema);
    Error::new(ErrorKind::UseNotProven)
        .with_detail(
            "something else that the transaction deferred does not hold yet, and this role may not use the schema of a \
             foreign key to the keys, to check that alone: grant usage on the schema, or delete in another transaction",
        )
        .with_context("schema", schema)
        .with_source(error)
        .into()
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
