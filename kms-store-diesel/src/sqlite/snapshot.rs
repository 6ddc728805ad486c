//! All rows of some scopes in one statement, and so in one snapshot.

use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Text, Timestamp};
use diesel::sqlite::Sqlite;
use kms_core::Snapshot;

use super::reading::json;
use crate::snapshot_row::{SnapshotRow, SnapshotSql};

pub(super) fn load(connection: &mut SqliteConnection, scopes: &[&str]) -> QueryResult<Snapshot> {
    let rows: Vec<SnapshotRow> = match scopes {
        [scope] => SnapshotOfOne(scope).load(connection)?,
        _ => SnapshotOf(json(scopes.iter().copied())).load(connection)?,
    };
    SnapshotRow::gather(rows)
}

/// The statement for any number of scopes, a JSON array: SQLite has no arrays.
struct SnapshotOf(String);

/// The same for one scope, which is what a cache asks for.
struct SnapshotOfOne<'a>(&'a str);

const SELECTED: &str = "\
with selected as materialized (
  select private_id, scope_id, create_time from kms_root_key where scope_id ";

const ROWS_OF_SELECTED: &str = "
)
select 0, '', null, null, null, version, null, update_time
  from kms_collection_version
union all
select 1, s.private_id, null, (select r.name from kms_scope_root r where r.root_key_id = s.private_id),
       s.scope_id, null, null, s.create_time
  from selected s
union all
select 2, v.private_id, v.root_key_id, null, null, v.version, v.key, v.create_time
  from selected s cross join kms_root_key_version v on v.root_key_id = s.private_id
union all
select 3, k.private_id, k.root_key_id, null, k.purpose, null, null, k.create_time
  from selected s cross join kms_data_key k on k.root_key_id = s.private_id
union all
select 4, v.private_id, v.data_key_id, v.root_key_version_id, null, v.version, v.key, v.create_time
  from selected s
  cross join kms_data_key k on k.root_key_id = s.private_id
  cross join kms_data_key_version v on v.data_key_id = k.private_id";

impl Query for SnapshotOf {
    type SqlType = SnapshotSql<Timestamp>;
}

impl Query for SnapshotOfOne<'_> {
    type SqlType = SnapshotSql<Timestamp>;
}

// The text is the same for all scopes, so that the type stands for it and the statement is prepared once.
impl QueryId for SnapshotOf {
    type QueryId = Self;
}

impl QueryId for SnapshotOfOne<'_> {
    type QueryId = SnapshotOfOne<'static>;
}

impl QueryFragment<Sqlite> for SnapshotOf {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(SELECTED);
        out.push_sql("in (select value from json_each(");
        out.push_bind_param::<Text, _>(&self.0)?;
        out.push_sql("))");
        out.push_sql(ROWS_OF_SELECTED);
        Ok(())
    }
}

impl QueryFragment<Sqlite> for SnapshotOfOne<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(SELECTED);
        out.push_sql("= ");
        out.push_bind_param::<Text, _>(self.0)?;
        out.push_sql(ROWS_OF_SELECTED);
        Ok(())
    }
}

impl RunQueryDsl<SqliteConnection> for SnapshotOf {}
impl RunQueryDsl<SqliteConnection> for SnapshotOfOne<'_> {}
