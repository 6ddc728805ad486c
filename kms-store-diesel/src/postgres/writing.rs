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
use kms_core::{ChangeSet, Deletion, Referencer, RootKeyId, ScopeId, ScopeRows, Writes, Written};

use super::deleting;
use super::functions::{ApplyCreation, InsertRootKeys, LockAndRead, WriteChanges};
use super::schema::kms_collection_version;
use crate::dialect::{DeletionFailure, Writing};
use crate::snapshot_row::SnapshotRow;

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
                let wait = milliseconds(wait);
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

    fn lock_and_read(
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
        let rows: Vec<SnapshotRow> = query.load(self)?;
        Ok(SnapshotRow::gather(rows)?.scopes)
    }

    fn insert_root_keys(
        &mut self,
        rows: &[(&RootKeyId, &ScopeId)],
    ) -> QueryResult<HashSet<String>> {
        let query = InsertRootKeys {
            ids: rows.iter().map(|(id, _)| id.as_str()).collect(),
            scopes: rows.iter().map(|(_, scope)| scope.as_str()).collect(),
        };
        let inserted: Vec<String> = query.load(self)?;
        Ok(inserted.into_iter().collect())
    }

    fn write(&mut self, writes: &Writes<'_>) -> QueryResult<Written> {
        let query = WriteChanges(writes.to_json().to_string());
        let rows: Vec<(String, Option<String>, Option<i64>)> = query.load(self)?;
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

    fn create(&mut self, change: &ChangeSet, wait: Duration) -> QueryResult<()> {
        let query = ApplyCreation {
            wait: milliseconds(wait),
            change: change.to_json().to_string(),
        };
        query.execute(self).map(drop)
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

/// A timeout as the server reads it.
fn milliseconds(wait: Duration) -> String {
    format!("{}ms", wait.as_millis().max(1))
}
