//! All rows of some scopes in one statement, and so in one snapshot and one round trip.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, Text, Timestamptz};

use crate::snapshot_row::SnapshotSql;

/// The statement for any number of scopes. A query of its own, since diesel has no words for it and prepares a
/// `sql_query` anew each time: planning takes longer than running for one scope.
pub(super) struct SnapshotOf<'a>(pub(super) &'a [&'a str]);

/// The same for one scope, which is what a cache asks for. Of an array the server doesn't know how many scopes it
/// holds: it would plan each time anew for those that it finds. Of one it knows, and plans once in a session.
pub(super) struct SnapshotOfOne<'a>(pub(super) &'a str);

const SELECTED: &str = "\
with selected as materialized (
  select private_id, scope_id, create_time from kms_root_key where scope_id = ";

const ROWS_OF_SELECTED: &str = "\
)
select 0::int2, ''::text, null::text, null::text, null::text, version::int8, null::bytea,
       (update_time at time zone 'UTC')::timestamptz
  from kms_collection_version
union all
select 1::int2, s.private_id::text, null,
       (select r.name from kms_scope_root r where r.root_key_id = s.private_id), s.scope_id::text, null,
       null, s.create_time::timestamptz
  from selected s
union all
select 2::int2, v.private_id::text, v.root_key_id::text, null, null, v.version::int8, v.key,
       v.create_time::timestamptz
  from selected s join kms_root_key_version v on v.root_key_id = s.private_id
union all
select 3::int2, k.private_id::text, k.root_key_id::text, null, k.purpose, null, null,
       k.create_time::timestamptz
  from selected s join kms_data_key k on k.root_key_id = s.private_id
union all
select 4::int2, v.private_id::text, v.data_key_id::text, v.root_key_version_id::text, null,
       v.version::int8, v.key, v.create_time::timestamptz
  from selected s
  join kms_data_key k on k.root_key_id = s.private_id
  join kms_data_key_version v on v.data_key_id = k.private_id";

impl Query for SnapshotOf<'_> {
    type SqlType = SnapshotSql<Timestamptz>;
}

impl Query for SnapshotOfOne<'_> {
    type SqlType = SnapshotSql<Timestamptz>;
}

// The text is the same for all scopes, so that the type stands for it.
impl QueryId for SnapshotOf<'_> {
    type QueryId = SnapshotOf<'static>;
}

impl QueryId for SnapshotOfOne<'_> {
    type QueryId = SnapshotOfOne<'static>;
}

impl QueryFragment<Pg> for SnapshotOf<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(SELECTED);
        out.push_sql("any (");
        out.push_bind_param::<Array<Text>, _>(&self.0)?;
        out.push_sql(")");
        out.push_sql(ROWS_OF_SELECTED);
        Ok(())
    }
}

impl QueryFragment<Pg> for SnapshotOfOne<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(SELECTED);
        out.push_bind_param::<Text, _>(self.0)?;
        out.push_sql(ROWS_OF_SELECTED);
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for SnapshotOf<'_> {}
impl<C> RunQueryDsl<C> for SnapshotOfOne<'_> {}
