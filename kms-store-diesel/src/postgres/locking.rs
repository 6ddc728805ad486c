//! The statement that takes the locks of a change.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, Bool, Text};

/// Takes the locks of a change, by a function of the schema that tells why it failed.
pub(super) struct Lock<'a> {
    pub(super) bump: bool,
    pub(super) root_keys: &'a [&'a str],
}

/// The same, waiting no longer than this. The timeout holds for this transaction, and for the second column
/// already.
pub(super) struct PatientLock<'a> {
    pub(super) lock: Lock<'a>,
    pub(super) wait: String,
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

impl<C> RunQueryDsl<C> for Lock<'_> {}
impl<C> RunQueryDsl<C> for PatientLock<'_> {}
