//! What changed since an earlier collection version, in one statement, and so in one snapshot.

use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::BigInt;
use diesel::sqlite::Sqlite;
use kms_core::{Changes, CollectionVersion};

use crate::changes_row::{Asked, ChangesRow, ChangesSql, LIMIT_OF_MARKS, Mark};

pub(super) fn load(
    connection: &mut SqliteConnection,
    since: Option<CollectionVersion>,
) -> QueryResult<Changes> {
    let rows = ChangesSince(Asked::about(since)).load(connection)?;
    ChangesRow::gather(rows, since, Mark::ThisStepOrNext)
}

/// If the collection version did not move, the other tables are not looked into. Marks at the version that was asked
/// about are among the rows: they may belong to the first step after it.
struct ChangesSince(Asked);

impl Query for ChangesSince {
    type SqlType = ChangesSql;
}

// The text is the same for all versions, so that the type stands for it and the statement is prepared once.
impl QueryId for ChangesSince {
    type QueryId = Self;
}

impl ChangesSince {
    fn moved<'b>(&'b self, out: &mut AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(" where c.version > ");
        out.push_bind_param::<BigInt, _>(&self.0.since)?;
        out.push_sql(" and c.version <= ");
        out.push_bind_param::<BigInt, _>(&self.0.last)
    }
}

impl QueryFragment<Sqlite> for ChangesSince {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(
            "\
select 0, version, update_time, null from kms_collection_version
union all
select 1, h.version, h.update_time, null
  from kms_collection_version c cross join kms_collection_history h",
        );
        self.moved(&mut out)?;
        out.push_sql(" and h.version >= ");
        out.push_bind_param::<BigInt, _>(&self.0.since)?;
        out.push_sql(
            "
union all
select 2, collection_version, null, scope_id from (
  select m.collection_version, m.scope_id
    from kms_collection_version c cross join kms_scope_change m",
        );
        self.moved(&mut out)?;
        out.push_sql(" and m.collection_version >= ");
        out.push_bind_param::<BigInt, _>(&self.0.since)?;
        out.push_sql(LIMIT_OF_MARKS);
        out.push_sql(")");
        Ok(())
    }
}

impl RunQueryDsl<SqliteConnection> for ChangesSince {}
