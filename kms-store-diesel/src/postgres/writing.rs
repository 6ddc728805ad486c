//! Changes in Postgres' own words.

use std::collections::HashSet;
use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::{BigInt, Text};
use kms_core::{
    Deletion, NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Referencer,
    RewrappedDataKeyVersion, RootKeyId, RootKeyVersionId, ScopeId, ScopeRows,
};

use super::locking::{Lock, PatientLock};
use super::schema::kms_collection_version;
use super::set_wise::{
    InsertDataKeyVersions, InsertDataKeys, InsertRootKeyVersions, InsertRootKeys, OverRows,
    RewrapDataKeyVersions, RewrapRootKeyVersions,
};
use super::{Conn, RunQueryDsl, begin_transaction_sql, deleting};
use crate::dialect::{DeletionFailure, Writing};
use crate::transaction::Transactions as _;

impl Writing for Conn {
    async fn begin_writing(&mut self, settings: Option<&str>) -> QueryResult<()> {
        match settings {
            None => self.begin().await,
            // In one message.
            Some(settings) => begin_transaction_sql(self, &format!("begin; {settings}")).await,
        }
    }

    fn is_busy(_error: &QueryError) -> bool {
        // Its code tells: `sqlstate.rs`.
        false
    }

    async fn scramble_collection(&mut self) -> QueryResult<()> {
        // It tells why it had to wait in vain.
        self.lock(true, &[], None).await?;
        // The lower half of the numbers, so that there is room to count on.
        diesel::update(kms_collection_version::table)
            .set(
                kms_collection_version::version
                    .eq(sql::<BigInt>("1 + (random() * 4611686018427387902)::int8")),
            )
            .execute(self)
            .await
            .map(drop)
    }

    async fn lock(
        &mut self,
        bump: bool,
        root_keys: &[&str],
        wait: Option<Duration>,
    ) -> QueryResult<()> {
        let lock = Lock { bump, root_keys };
        match wait {
            Some(wait) => {
                let wait = format!("{}ms", wait.as_millis().max(1));
                PatientLock { lock, wait }.execute(self).await
            }
            None => lock.execute(self).await,
        }
        .map(drop)
    }

    async fn check_deferred(&mut self) -> QueryResult<()> {
        diesel::sql_query("select kms_check_deferred()")
            .execute(self)
            .await
            .map(drop)
    }

    async fn lock_campaign(&mut self, id: &str) -> QueryResult<()> {
        diesel::sql_query("select kms_lock_campaign($1)")
            .bind::<Text, _>(id)
            .execute(self)
            .await
            .map(drop)
    }

    async fn insert_root_keys(
        &mut self,
        rows: &[(&RootKeyId, &ScopeId)],
    ) -> QueryResult<HashSet<String>> {
        let ids = rows.iter().map(|(id, _)| id.as_str()).collect();
        let scopes = rows.iter().map(|(_, scope)| scope.as_str()).collect();
        let inserted: Vec<String> = OverRows::<InsertRootKeys>::texts([ids, scopes])
            .load(self)
            .await?;
        Ok(inserted.into_iter().collect())
    }

    async fn insert_root_key_versions(
        &mut self,
        rows: &[(&RootKeyId, &NewRootKeyVersion)],
    ) -> QueryResult<Vec<(String, i64)>> {
        let ids = rows.iter().map(|(_, new)| new.id.as_str()).collect();
        let root_keys = rows.iter().map(|(root_key, _)| root_key.as_str()).collect();
        OverRows::<InsertRootKeyVersions>::texts([ids, root_keys])
            .and_keys(rows.iter().map(|(_, new)| &*new.key).collect())
            .load(self)
            .await
    }

    async fn insert_data_keys(&mut self, rows: &[(&RootKeyId, &NewDataKey)]) -> QueryResult<()> {
        let ids = rows.iter().map(|(_, new)| new.id.as_str()).collect();
        let root_keys = rows.iter().map(|(root_key, _)| root_key.as_str()).collect();
        let purposes = rows.iter().map(|(_, new)| new.purpose.as_str()).collect();
        OverRows::<InsertDataKeys>::texts([ids, root_keys, purposes])
            .execute(self)
            .await
            .map(drop)
    }

    async fn insert_data_key_versions(
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
            .await
    }

    async fn rewrap_root_key_versions(
        &mut self,
        rows: &[&(RootKeyVersionId, Vec<u8>)],
    ) -> QueryResult<usize> {
        let ids = rows.iter().map(|(id, _)| id.as_str()).collect();
        let changed: i64 = OverRows::<RewrapRootKeyVersions>::texts([ids])
            .and_keys(rows.iter().map(|(_, key)| &**key).collect())
            .get_result(self)
            .await?;
        Ok(usize::try_from(changed).unwrap_or_default())
    }

    async fn rewrap_data_key_versions(
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
            .get_result(self)
            .await?;
        Ok(usize::try_from(changed).unwrap_or_default())
    }

    async fn delete(
        &mut self,
        deletion: &Deletion,
        rows: &ScopeRows,
        _referencers: &[Referencer],
    ) -> Result<(), DeletionFailure> {
        deleting::delete(self, deletion, rows).await
    }
}
