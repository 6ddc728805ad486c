//! Changes in Postgres' own words.

use std::collections::HashSet;
use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::{BigInt, Text};
use kms_core::{ChangeSet, Deletion, Referencer, RootKeyId, ScopeId, ScopeRows, Writes, Written};

use super::functions::{ApplyCreation, InsertRootKeys, LockAndRead, WriteChanges};
use super::locking::{Lock, PatientLock};
use super::schema::kms_collection_version;
use super::{Conn, RunQueryDsl, begin_transaction_sql, deleting};
use crate::dialect::{DeletionFailure, Writing};
use crate::snapshot_row::SnapshotRow;
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
                let wait = milliseconds(wait);
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

    async fn lock_and_read(
        &mut self,
        bump: bool,
        root_keys: &[&str],
        scopes: &[&str],
        wait: Option<Duration>,
    ) -> QueryResult<Vec<ScopeRows>> {
        let query = LockAndRead {
            bump,
            root_keys,
            scopes,
            wait: wait.map(milliseconds),
        };
        let rows: Vec<SnapshotRow> = query.load(self).await?;
        Ok(SnapshotRow::gather(rows)?.scopes)
    }

    async fn insert_root_keys(
        &mut self,
        rows: &[(&RootKeyId, &ScopeId)],
    ) -> QueryResult<HashSet<String>> {
        let query = InsertRootKeys {
            ids: rows.iter().map(|(id, _)| id.as_str()).collect(),
            scopes: rows.iter().map(|(_, scope)| scope.as_str()).collect(),
        };
        let inserted: Vec<String> = query.load(self).await?;
        Ok(inserted.into_iter().collect())
    }

    async fn write(&mut self, writes: &Writes<'_>) -> QueryResult<Written> {
        let query = WriteChanges(writes.to_json().to_string());
        let rows: Vec<(String, Option<String>, Option<i64>)> = query.load(self).await?;
        let mut written = Written::default();
        for (what, id, number) in rows {
            let (id, number) = (id.unwrap_or_default(), number.unwrap_or_default());
            match what.as_str() {
                "root_key" => {
                    written.root_keys.insert(id);
                }
                "version" => {
                    written.numbers.insert(id, number);
                }
                _ => written.updated = usize::try_from(number).unwrap_or_default(),
            }
        }
        Ok(written)
    }

    const CREATES_AT_ONCE: bool = true;

    async fn create(&mut self, change: &ChangeSet, wait: Duration) -> QueryResult<()> {
        let query = ApplyCreation {
            wait: milliseconds(wait),
            change: change.to_json().to_string(),
        };
        query.execute(self).await.map(drop)
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

/// A timeout as the server reads it.
fn milliseconds(wait: Duration) -> String {
    format!("{}ms", wait.as_millis().max(1))
}
