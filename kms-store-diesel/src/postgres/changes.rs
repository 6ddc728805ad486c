//! What changed since an earlier collection version, in one statement, and so in one snapshot and one round trip.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::BigInt;

use crate::changes_row::{Asked, ChangesSql, LIMIT_OF_MARKS};

/// A query of its own, since diesel prepares a `sql_query` anew each time.
///
/// `way` has no row if the collection version did not move, and then the other tables are not looked into. It is
/// materialized, and the versions are taken from it, so that the server can't plan by their values: it would find a
/// plan for them better than the one for all, and plan anew each time.
pub(super) struct ChangesSince(pub(super) Asked);

impl Query for ChangesSince {
    type SqlType = ChangesSql;
}

impl QueryId for ChangesSince {
    type QueryId = Self;
}

impl QueryFragment<Pg> for ChangesSince {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with way as materialized (select ");
        out.push_bind_param::<BigInt, _>(&self.0.since)?;
        out.push_sql(
            "::int8 as since, version::int8 as present from kms_collection_version where version > ",
        );
        out.push_bind_param::<BigInt, _>(&self.0.since)?;
        out.push_sql(" and version <= ");
        out.push_bind_param::<BigInt, _>(&self.0.last)?;
        out.push_sql(
            ")
select 0::int2, version::int8, update_time, null::text from kms_collection_version
union all
select 1::int2, h.version, h.update_time, null
  from way w join kms_collection_history h on h.version >= w.since and h.version < w.present
union all
select 2::int2, m.collection_version, null, m.scope_id
  from (select c.collection_version, c.scope_id
          from way w join kms_scope_change c
            on c.collection_version > w.since and c.collection_version <= w.present",
        );
        out.push_sql(LIMIT_OF_MARKS);
        out.push_sql(") m");
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for ChangesSince {}
