//! Changes in Postgres' own words.

use std::collections::HashSet;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, TransactionManager as _};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Text};
use kms_core::{Error, ErrorKind};

use super::deleting;
use super::schema::{
    kms_collection_version, kms_data_key_version, kms_root_key, kms_root_key_version,
};
use crate::dialect::{DeletionFailure, DeletionPlan, Writing};
use crate::failure::Failure;
use crate::writes::{
    NewDataKeyVersionRecord, NewRootKeyRecord, NewRootKeyVersionRecord, RewrappedDataKeyRecord,
    RewrappedRootKeyRecord,
};

/// Rows per `insert`, well below the 65,535 parameters that one statement may have.
const CHUNK: usize = 5_000;

/// The timeout holds for this transaction, and for the second column already.
const LOCK_WAITING_AT_MOST: &str = "\
select set_config('lock_timeout', $3, true) as waits, kms_lock_for_change($1, $2) as answer";

const LOCK: &str = "select null as waits, kms_lock_for_change($1, $2) as answer";

/// Names no other column: to name `version`, even unchanged, would wait for every transaction of the
/// application that references the row.
const REWRAP_ROOT_KEY_VERSIONS: &str = "\
update kms_root_key_version as v set key = n.key
  from unnest($1, $2) as n (id, key)
 where v.private_id = n.id";

const REWRAP_DATA_KEY_VERSIONS: &str = "\
update kms_data_key_version as v set key = n.key, root_key_version_id = n.root_key_version_id
  from unnest($1, $2, $3) as n (id, root_key_version_id, key)
 where v.private_id = n.id";

/// What the locking functions of the schema answer. (Diesel tells neither a deadlock nor a lock that was
/// not granted from other errors.)
#[derive(QueryableByName)]
#[diesel(check_for_backend(Pg))]
pub(super) struct LockAnswer {
    #[diesel(sql_type = Text)]
    pub(super) answer: String,
}

impl Writing for PgConnection {
    fn begin_writing(&mut self) -> QueryResult<()> {
        AnsiTransactionManager::begin_transaction(self)
    }

    fn is_busy(_error: &QueryError) -> bool {
        // It says so in the server's language only; where it matters a function answers with a code.
        false
    }

    fn scramble_collection(&mut self) -> QueryResult<()> {
        // The lower half of the numbers, so that there is room to count on.
        diesel::update(kms_collection_version::table)
            .set(
                kms_collection_version::version
                    .eq(sql::<BigInt>("1 + (random() * 4611686018427387902)::int8")),
            )
            .execute(self)
            .map(drop)
    }

    fn lock(
        &mut self,
        bump: bool,
        root_keys: &[&str],
        wait: Option<Duration>,
    ) -> Result<(), Failure> {
        let query = |text| {
            diesel::sql_query(text)
                .bind::<Bool, _>(bump)
                .bind::<Array<Text>, _>(root_keys)
        };
        let LockAnswer { answer } = match wait {
            Some(wait) => query(LOCK_WAITING_AT_MOST)
                .bind::<Text, _>(format!("{}ms", wait.as_millis().max(1)))
                .get_result(self)?,
            None => query(LOCK).get_result(self)?,
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

    fn insert_root_keys(&mut self, rows: &[NewRootKeyRecord<'_>]) -> QueryResult<HashSet<String>> {
        let mut inserted = HashSet::with_capacity(rows.len());
        for rows in rows.chunks(CHUNK) {
            let values: Vec<_> = rows
                .iter()
                .map(|row| {
                    (
                        kms_root_key::private_id.eq(row.id),
                        kms_root_key::scope_id.eq(row.scope),
                    )
                })
                .collect();
            let ids: Vec<String> = diesel::insert_into(kms_root_key::table)
                .values(&values)
                .on_conflict(kms_root_key::scope_id)
                .do_nothing()
                .returning(kms_root_key::private_id)
                .get_results(self)?;
            inserted.extend(ids);
        }
        Ok(inserted)
    }

    fn insert_root_key_versions(
        &mut self,
        rows: &[NewRootKeyVersionRecord<'_>],
    ) -> QueryResult<Vec<(String, i64)>> {
        let mut assigned = Vec::with_capacity(rows.len());
        for rows in rows.chunks(CHUNK) {
            let values: Vec<_> = rows
                .iter()
                .map(|row| {
                    (
                        kms_root_key_version::private_id.eq(row.id),
                        kms_root_key_version::root_key_id.eq(row.root_key),
                        kms_root_key_version::key.eq(row.key),
                    )
                })
                .collect();
            let numbers: Vec<(String, i64)> = diesel::insert_into(kms_root_key_version::table)
                .values(&values)
                .returning((
                    kms_root_key_version::private_id,
                    kms_root_key_version::version,
                ))
                .get_results(self)?;
            assigned.extend(numbers);
        }
        Ok(assigned)
    }

    fn insert_data_key_versions(
        &mut self,
        rows: &[NewDataKeyVersionRecord<'_>],
    ) -> QueryResult<Vec<(String, i64)>> {
        let mut assigned = Vec::with_capacity(rows.len());
        for rows in rows.chunks(CHUNK) {
            let values: Vec<_> = rows
                .iter()
                .map(|row| {
                    (
                        kms_data_key_version::private_id.eq(row.id),
                        kms_data_key_version::data_key_id.eq(row.data_key),
                        kms_data_key_version::root_key_version_id.eq(row.root_key_version),
                        kms_data_key_version::key.eq(row.key),
                    )
                })
                .collect();
            let numbers: Vec<(String, i64)> = diesel::insert_into(kms_data_key_version::table)
                .values(&values)
                .returning((
                    kms_data_key_version::private_id,
                    kms_data_key_version::version,
                ))
                .get_results(self)?;
            assigned.extend(numbers);
        }
        Ok(assigned)
    }

    fn rewrap_root_key_versions(
        &mut self,
        rows: &[RewrappedRootKeyRecord<'_>],
    ) -> QueryResult<usize> {
        let (ids, keys): (Vec<_>, Vec<_>) = rows.iter().map(|row| (row.id, row.key)).unzip();
        diesel::sql_query(REWRAP_ROOT_KEY_VERSIONS)
            .bind::<Array<Text>, _>(ids)
            .bind::<Array<Binary>, _>(keys)
            .execute(self)
    }

    fn rewrap_data_key_versions(
        &mut self,
        rows: &[RewrappedDataKeyRecord<'_>],
    ) -> QueryResult<usize> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let wrappers: Vec<_> = rows.iter().map(|row| row.root_key_version).collect();
        let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
        diesel::sql_query(REWRAP_DATA_KEY_VERSIONS)
            .bind::<Array<Text>, _>(ids)
            .bind::<Array<Text>, _>(wrappers)
            .bind::<Array<Binary>, _>(keys)
            .execute(self)
    }

    fn delete(&mut self, deletion: &DeletionPlan<'_>) -> Result<(), DeletionFailure> {
        deleting::delete(self, deletion)
    }
}
