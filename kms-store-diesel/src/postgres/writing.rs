//! Changes in Postgres' own words.

use std::collections::HashSet;
use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::BigInt;
use kms_core::{
    Deletion, Error, ErrorKind, NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Referencer,
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
use crate::failure::Failure;
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
        // It says so in the server's language only; where it matters a function answers with a code.
        false
    }

    async fn scramble_collection(&mut self) -> QueryResult<()> {
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
    ) -> Result<(), Failure> {
        let lock = Lock { bump, root_keys };
        let (_, answer): (Option<String>, String) = match wait {
            Some(wait) => {
                let wait = format!("{}ms", wait.as_millis().max(1));
                PatientLock { lock, wait }.get_result(self).await?
            }
            None => lock.get_result(self).await?,
        };
        match answer.as_str() {
            "ok" => Ok(()),
            "deadlock" => Err(Failure::Deadlock),
            _ => Err(Failure::Ready(
                Error::new(ErrorKind::DatabaseBusy)
                    .with_detail("another transaction holds the keys"),
            )),
        }
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
        OverRows::<RewrapRootKeyVersions>::texts([rows.iter().map(|(id, _)| id.as_str()).collect()])
            .and_keys(rows.iter().map(|(_, key)| &**key).collect())
            .execute(self)
            .await
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
        OverRows::<RewrapDataKeyVersions>::texts([ids, wrappers])
            .and_keys(rows.iter().map(|new| &*new.key).collect())
            .execute(self)
            .await
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
