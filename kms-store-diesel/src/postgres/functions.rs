//! Calls of the functions of our migrations that take a change's locks, and write it.
//!
//! Each function tells why it failed (`sqlstate.rs`), and each call is a query type of its own with a constant text, so that a connection prepares it once, and from then on
//! sends it in one message.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};

use crate::snapshot_row::SnapshotSql;

/// Takes the locks of a change, and reads the rows of these scopes.
pub(super) struct LockAndRead<'a> {
    pub(super) bump: bool,
    pub(super) root_keys: &'a [&'a str],
    pub(super) scopes: &'a [&'a str],
    /// The `lock_timeout` of the transaction from then on.
    pub(super) wait: Option<String>,
}

/// Writes change sets, given as JSON.
pub(super) struct WriteChanges(pub(super) String);

/// Creates the keys of a scope, from a change set as JSON.
pub(super) struct ApplyCreation {
    /// The `lock_timeout`, which holds for the second column already.
    pub(super) wait: String,
    pub(super) change: String,
}

/// Inserts root keys where their scope has none.
pub(super) struct InsertRootKeys<'a> {
    pub(super) ids: Vec<&'a str>,
    pub(super) scopes: Vec<&'a str>,
}

impl Query for LockAndRead<'_> {
    type SqlType = SnapshotSql<Timestamptz>;
}

impl Query for WriteChanges {
    type SqlType = (Text, Nullable<Text>, Nullable<BigInt>);
}

impl Query for InsertRootKeys<'_> {
    type SqlType = Text;
}

impl QueryId for LockAndRead<'_> {
    type QueryId = LockAndRead<'static>;
}

impl QueryId for WriteChanges {
    type QueryId = Self;
}

impl QueryId for ApplyCreation {
    type QueryId = Self;
}

impl QueryId for InsertRootKeys<'_> {
    type QueryId = InsertRootKeys<'static>;
}

impl QueryFragment<Pg> for LockAndRead<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select * from kms_lock_and_read(");
        out.push_bind_param::<Bool, _>(&self.bump)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.root_keys)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.scopes)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Text>, _>(&self.wait)?;
        out.push_sql(")");
        Ok(())
    }
}

impl QueryFragment<Pg> for WriteChanges {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select * from kms_write_changes(");
        out.push_bind_param::<Text, _>(&self.0)?;
        out.push_sql("::jsonb)");
        Ok(())
    }
}

impl QueryFragment<Pg> for ApplyCreation {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select set_config('lock_timeout', ");
        out.push_bind_param::<Text, _>(&self.wait)?;
        out.push_sql(", true), kms_apply_creation(");
        out.push_bind_param::<Text, _>(&self.change)?;
        out.push_sql("::jsonb)");
        Ok(())
    }
}

impl QueryFragment<Pg> for InsertRootKeys<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select * from kms_insert_root_keys(");
        out.push_bind_param::<Array<Text>, _>(&self.ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.scopes)?;
        out.push_sql(")");
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for LockAndRead<'_> {}
impl<C> RunQueryDsl<C> for WriteChanges {}
impl<C> RunQueryDsl<C> for ApplyCreation {}
impl<C> RunQueryDsl<C> for InsertRootKeys<'_> {}
