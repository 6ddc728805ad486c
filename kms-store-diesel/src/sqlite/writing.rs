//! Changes in SQLite's own words. A statement costs microseconds here, so rows go one by one.

use std::collections::HashSet;
use std::time::Duration;

use diesel::connection::AnsiTransactionManager;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::Bool;
use kms_core::{
    Deletion, ErrorKind, NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Referencer,
    RewrappedDataKeyVersion, RootKeyId, RootKeyVersionId, ScopeId, ScopeRows,
};

use super::rows::{
    DataKeyVersionNumber, RewrapDataKeyVersion, RewrapRootKeyVersion, RootKeyVersionNumber,
};
use super::schema::{
    kms_collection_version, kms_data_key, kms_data_key_version, kms_root_key, kms_root_key_version,
};
use super::{deleting, refusal};
use crate::dialect::{DeletionFailure, Writing};

impl Writing for SqliteConnection {
    async fn begin_writing(&mut self, _: Option<&str>) -> QueryResult<()> {
        // A transaction that only finds out later that it wants to write may not be let.
        AnsiTransactionManager::begin_transaction_sql(self, "BEGIN IMMEDIATE")
    }

    fn is_busy(error: &QueryError) -> bool {
        refusal::condition(error) == Some(ErrorKind::DatabaseBusy)
    }

    fn condition(error: &QueryError) -> Option<ErrorKind> {
        refusal::condition(error)
    }

    async fn scramble_collection(&mut self) -> QueryResult<()> {
        // The lower half of the numbers, so that there is room to count on.
        diesel::sql_query("update kms_collection_version set version = 1 + abs(random() / 4)")
            .execute(self)
            .map(drop)
    }

    async fn lock(
        &mut self,
        bump: bool,
        _root_keys: &[&str],
        _wait: Option<Duration>,
    ) -> QueryResult<()> {
        if bump {
            diesel::sql_query("update kms_collection_version set version = version + 1")
                .execute(self)?;
        } else {
            // Changes nothing, but takes the lock that every change needs, so that what is read from
            // here on is the newest there is.
            diesel::update(kms_collection_version::table.filter(sql::<Bool>("false")))
                .set(kms_collection_version::version.eq(kms_collection_version::version))
                .execute(self)?;
        }
        Ok(())
    }

    async fn check_deferred(&mut self) -> QueryResult<()> {
        Ok(())
    }

    async fn lock_campaign(&mut self, _: &str) -> QueryResult<()> {
        Ok(())
    }

    async fn insert_root_keys(
        &mut self,
        rows: &[(&RootKeyId, &ScopeId)],
    ) -> QueryResult<HashSet<String>> {
        let mut inserted = HashSet::with_capacity(rows.len());
        for (id, scope) in rows {
            let count = diesel::insert_into(kms_root_key::table)
                .values((
                    kms_root_key::private_id.eq(id.as_str()),
                    kms_root_key::scope_id.eq(scope.as_str()),
                ))
                .on_conflict(kms_root_key::scope_id)
                .do_nothing()
                .execute(self)?;
            if count == 1 {
                inserted.insert(id.to_string());
            }
        }
        Ok(inserted)
    }

    async fn insert_root_key_versions(
        &mut self,
        rows: &[(&RootKeyId, &NewRootKeyVersion)],
    ) -> QueryResult<Vec<(String, i64)>> {
        let mut assigned = Vec::with_capacity(rows.len());
        for (root_key, new) in rows {
            diesel::insert_into(kms_root_key_version::table)
                .values((
                    kms_root_key_version::private_id.eq(new.id.as_str()),
                    kms_root_key_version::root_key_id.eq(root_key.as_str()),
                    kms_root_key_version::key.eq(&new.key),
                ))
                .execute(self)?;
            let version = RootKeyVersionNumber(new.id.as_str()).get_result(self)?;
            assigned.push((new.id.to_string(), version));
        }
        Ok(assigned)
    }

    async fn insert_data_keys(&mut self, rows: &[(&RootKeyId, &NewDataKey)]) -> QueryResult<()> {
        for (root_key, new) in rows {
            diesel::insert_into(kms_data_key::table)
                .values((
                    kms_data_key::private_id.eq(new.id.as_str()),
                    kms_data_key::root_key_id.eq(root_key.as_str()),
                    kms_data_key::purpose.eq(new.purpose.as_str()),
                ))
                .execute(self)?;
        }
        Ok(())
    }

    async fn insert_data_key_versions(
        &mut self,
        rows: &[&NewDataKeyVersion],
    ) -> QueryResult<Vec<(String, i64)>> {
        let mut assigned = Vec::with_capacity(rows.len());
        for new in rows {
            diesel::insert_into(kms_data_key_version::table)
                .values((
                    kms_data_key_version::private_id.eq(new.id.as_str()),
                    kms_data_key_version::data_key_id.eq(new.data_key.as_str()),
                    kms_data_key_version::root_key_version_id.eq(new.root_key_version.as_str()),
                    kms_data_key_version::key.eq(&new.key),
                ))
                .execute(self)?;
            let version = DataKeyVersionNumber(new.id.as_str()).get_result(self)?;
            assigned.push((new.id.to_string(), version));
        }
        Ok(assigned)
    }

    async fn rewrap_root_key_versions(
        &mut self,
        rows: &[&(RootKeyVersionId, Vec<u8>)],
    ) -> QueryResult<usize> {
        let mut count = 0;
        for row in rows {
            count += RewrapRootKeyVersion(row).execute(self)?;
        }
        Ok(count)
    }

    async fn rewrap_data_key_versions(
        &mut self,
        rows: &[&RewrappedDataKeyVersion],
    ) -> QueryResult<usize> {
        let mut count = 0;
        for row in rows {
            count += RewrapDataKeyVersion(row).execute(self)?;
        }
        Ok(count)
    }

    async fn delete(
        &mut self,
        deletion: &Deletion,
        rows: &ScopeRows,
        referencers: &[Referencer],
    ) -> Result<(), DeletionFailure> {
        deleting::delete(self, deletion, rows, referencers).await
    }
}
