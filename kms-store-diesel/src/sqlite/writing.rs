//! Changes in SQLite's own words. A statement costs microseconds here, so rows go one by one.

use std::collections::HashSet;
use std::time::Duration;

use diesel::connection::AnsiTransactionManager;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::Bool;
use diesel::upsert::excluded;
use kms_core::{
    ChangeSet, Deletion, ErrorKind, NewDataKeyVersion, NewRootKeyVersion, Referencer, RootKeyId,
    RootName, ScopeId, ScopeRows, Writes, Written,
};

use super::rows::{
    DataKeyVersionNumber, RewrapDataKeyVersion, RewrapRootKeyVersion, RootKeyVersionNumber,
};
use super::schema::{
    kms_collection_version, kms_data_key, kms_data_key_version, kms_root_key, kms_root_key_version,
    kms_scope_root,
};
use super::{deleting, refusal};
use crate::dialect::{DeletionFailure, Reading as _, Writing};

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

    async fn lock_and_read(
        &mut self,
        bump: bool,
        root_keys: &[&str],
        scopes: &[&str],
        wait: Option<Duration>,
    ) -> QueryResult<Vec<ScopeRows>> {
        self.lock(bump, root_keys, wait).await?;
        if scopes.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.snapshot(scopes).await?.scopes)
    }

    async fn write(&mut self, writes: &Writes<'_>) -> QueryResult<Written> {
        let mut written = Written {
            root_keys: self.insert_root_keys(&writes.root_keys()).await?,
            ..Written::default()
        };
        let writes = writes.with_root_keys(&written.root_keys);
        for (root_key, new) in writes.root_key_versions() {
            let number = insert_root_key_version(self, root_key, new)?;
            written.numbers.insert(new.id.to_string(), number);
        }
        for (root_key, new) in writes.data_keys() {
            diesel::insert_into(kms_data_key::table)
                .values((
                    kms_data_key::private_id.eq(new.id.as_str()),
                    kms_data_key::root_key_id.eq(root_key.as_str()),
                    kms_data_key::purpose.eq(new.purpose.as_str()),
                ))
                .execute(self)?;
        }
        for new in writes.data_key_versions() {
            let number = insert_data_key_version(self, new)?;
            written.numbers.insert(new.id.to_string(), number);
        }
        for new in writes.rewrapped_root_key_versions() {
            written.updated += RewrapRootKeyVersion(new).execute(self)?;
        }
        for new in writes.rewrapped_data_key_versions() {
            written.updated += RewrapDataKeyVersion(new).execute(self)?;
        }
        for (root_key, name) in writes.roots() {
            set_root(self, root_key, name)?;
        }
        Ok(written)
    }

    async fn create(&mut self, _: &ChangeSet, _: Duration) -> QueryResult<()> {
        Err(QueryError::NotFound)
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

fn insert_root_key_version(
    connection: &mut SqliteConnection,
    root_key: &RootKeyId,
    new: &NewRootKeyVersion,
) -> QueryResult<i64> {
    diesel::insert_into(kms_root_key_version::table)
        .values((
            kms_root_key_version::private_id.eq(new.id.as_str()),
            kms_root_key_version::root_key_id.eq(root_key.as_str()),
            kms_root_key_version::key.eq(&new.key),
        ))
        .execute(connection)?;
    RootKeyVersionNumber(new.id.as_str()).get_result(connection)
}

fn insert_data_key_version(
    connection: &mut SqliteConnection,
    new: &NewDataKeyVersion,
) -> QueryResult<i64> {
    diesel::insert_into(kms_data_key_version::table)
        .values((
            kms_data_key_version::private_id.eq(new.id.as_str()),
            kms_data_key_version::data_key_id.eq(new.data_key.as_str()),
            kms_data_key_version::root_key_version_id.eq(new.root_key_version.as_str()),
            kms_data_key_version::key.eq(&new.key),
        ))
        .execute(connection)?;
    DataKeyVersionNumber(new.id.as_str()).get_result(connection)
}

/// Sets or removes the name of a root.
fn set_root(
    connection: &mut SqliteConnection,
    root_key: &RootKeyId,
    name: Option<&RootName>,
) -> QueryResult<usize> {
    let root_key = root_key.as_str();
    match name {
        Some(name) => diesel::insert_into(kms_scope_root::table)
            .values((
                kms_scope_root::root_key_id.eq(root_key),
                kms_scope_root::name.eq(name.as_str()),
            ))
            .on_conflict(kms_scope_root::root_key_id)
            .do_update()
            .set(kms_scope_root::name.eq(excluded(kms_scope_root::name)))
            .execute(connection),
        None => diesel::delete(kms_scope_root::table.find(root_key)).execute(connection),
    }
}
