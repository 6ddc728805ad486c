//! Changes in Postgres' own words.

use std::collections::HashSet;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, TransactionManager as _};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::Error as QueryError;
use diesel::sql_types::{Array, BigInt, Bool, Text};
use kms_core::{
    Deletion, NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Referencer,
    RewrappedDataKeyVersion, RootKeyId, RootKeyVersionId, ScopeId, ScopeRows,
};

use super::deleting;
use super::schema::kms_collection_version;
use super::set_wise::{
    InsertDataKeyVersions, InsertDataKeys, InsertRootKeyVersions, InsertRootKeys, OverRows,
    RewrapDataKeyVersions, RewrapRootKeyVersions,
};
use crate::dialect::{DeletionFailure, Writing};

/// Takes the locks of a change, by a function of the schema that tells why it failed.
struct Lock<'a> {
    bump: bool,
    root_keys: &'a [&'a str],
}

/// The same, waiting no longer than this. The timeout holds for this transaction, and for the second column
/// already.
struct PatientLock<'a> {
    lock: Lock<'a>,
    wait: String,
}

// Each has a constant text, so that its type stands for it: prepared once in a connection.
impl Query for Lock<'_> {
    type SqlType = ();
}

impl Query for PatientLock<'_> {
    type SqlType = ();
}

impl QueryId for Lock<'_> {
    type QueryId = Lock<'static>;
}

impl QueryId for PatientLock<'_> {
    type QueryId = PatientLock<'static>;
}

impl QueryFragment<Pg> for Lock<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        self.call(&mut out)
    }
}

impl QueryFragment<Pg> for PatientLock<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select set_config('lock_timeout', ");
        out.push_bind_param::<Text, _>(&self.wait)?;
        out.push_sql(", true), ");
        self.lock.call(&mut out)
    }
}

impl Lock<'_> {
    fn call<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("kms_lock_keys(");
        out.push_bind_param::<Bool, _>(&self.bump)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.root_keys)?;
        out.push_sql(")");
        Ok(())
    }
}

impl RunQueryDsl<PgConnection> for Lock<'_> {}
impl RunQueryDsl<PgConnection> for PatientLock<'_> {}

impl Writing for PgConnection {
    fn begin_writing(&mut self, settings: Option<&str>) -> QueryResult<()> {
        match settings {
            None => AnsiTransactionManager::begin_transaction(self),
            // In one message.
            Some(settings) => {
                AnsiTransactionManager::begin_transaction_sql(self, &format!("begin; {settings}"))
            }
        }
    }

    fn is_busy(_error: &QueryError) -> bool {
        // Its code tells: `sqlstate.rs`.
        false
    }

    fn scramble_collection(&mut self) -> QueryResult<()> {
        // It tells why it had to wait in vain.
        self.lock(true, &[], None)?;
        // The lower half of the numbers, so that there is room to count on.
        diesel::update(kms_collection_version::table)
            .set(
                kms_collection_version::version
                    .eq(sql::<BigInt>("1 + (random() * 4611686018427387902)::int8")),
            )
            .execute(self)
            .map(drop)
    }

    fn lock(&mut self, bump: bool, root_keys: &[&str], wait: Option<Duration>) -> QueryResult<()> {
        let lock = Lock { bump, root_keys };
        match wait {
            Some(wait) => {
                let wait = format!("{}ms", wait.as_millis().max(1));
                PatientLock { lock, wait }.execute(self)
            }
            None => lock.execute(self),
        }
        .map(drop)
    }

    fn check_deferred(&mut self) -> QueryResult<()> {
        diesel::sql_query("select kms_check_deferred()")
            .execute(self)
            .map(drop)
    }

    fn lock_campaign(&mut self, id: &str) -> QueryResult<()> {
        diesel::sql_query("select kms_lock_campaign($1)")
            .bind::<Text, _>(id)
            .execute(self)
            .map(drop)
    }

    fn insert_root_keys(
        &mut self,
        rows: &[(&RootKeyId, &ScopeId)],
    ) -> QueryResult<HashSet<String>> {
        let ids = rows.iter().map(|(id, _)| id.as_str()).collect();
        let scopes = rows.iter().map(|(_, scope)| scope.as_str()).collect();
        let inserted: Vec<String> = OverRows::<InsertRootKeys>::texts([ids, scopes]).load(self)?;
        Ok(inserted.into_iter().collect())
    }

    fn insert_root_key_versions(
        &mut self,
        rows: &[(&RootKeyId, &NewRootKeyVersion)],
    ) -> QueryResult<Vec<(String, i64)>> {
        let ids = rows.iter().map(|(_, new)| new.id.as_str()).collect();
        let root_keys = rows.iter().map(|(root_key, _)| root_key.as_str()).collect();
        OverRows::<InsertRootKeyVersions>::texts([ids, root_keys])
            .and_keys(rows.iter().map(|(_, new)| &*new.key).collect())
            .load(self)
    }

    fn insert_data_keys(&mut self, rows: &[(&RootKeyId, &NewDataKey)]) -> QueryResult<()> {
        let ids = rows.iter().map(|(_, new)| new.id.as_str()).collect();
        let root_keys = rows.iter().map(|(root_key, _)| root_key.as_str()).collect();
        let purposes = rows.iter().map(|(_, new)| new.purpose.as_str()).collect();
        OverRows::<InsertDataKeys>::texts([ids, root_keys, purposes])
            .execute(self)
            .map(drop)
    }

    fn insert_data_key_versions(
        &mut self,
        rows: &[&NewDataKeyVersion],
    ) -> QueryResult<Vec<(String, i64)>> {
        let ids = rows.iter().map(|new| new.id.as_str()).collect();
        let data_keys = rows.iter().map(|new| new.data_key.as_str()).collect();
        let wrappers = rows
            .iter()
            .map(|new| new.root_key_version.as_str())
            .collect();
        OverRows::<InsertDataKeyVersions>::texts([ids, data_keys, wrappers])
            .and_keys(rows.iter().map(|new| &*new.key).collect())
            .load(self)
    }

    fn rewrap_root_key_versions(
        &mut self,
        rows: &[&(RootKeyVersionId, Vec<u8>)],
    ) -> QueryResult<usize> {
        let ids = rows.iter().map(|(id, _)| id.as_str()).collect();
        let changed: i64 = OverRows::<RewrapRootKeyVersions>::texts([ids])
            .and_keys(rows.iter().map(|(_, key)| &**key).collect())
            .get_result(self)?;
        Ok(usize::try_from(changed).unwrap_or_default())
    }

    fn rewrap_data_key_versions(
        &mut self,
        rows: &[&RewrappedDataKeyVersion],
    ) -> QueryResult<usize> {
        let ids = rows.iter().map(|new| new.id.as_str()).collect();
        let wrappers = rows
            .iter()
            .map(|new| new.root_key_version.as_str())
            .collect();
        let changed: i64 = OverRows::<RewrapDataKeyVersions>::texts([ids, wrappers])
            .and_keys(rows.iter().map(|new| &*new.key).collect())
            .get_result(self)?;
        Ok(usize::try_from(changed).unwrap_or_default())
    }

    fn delete(
        &mut self,
        deletion: &Deletion,
        rows: &ScopeRows,
        _referencers: &[Referencer],
    ) -> Result<(), DeletionFailure> {
        deleting::delete(self, deletion, rows)
    }
}
