//! Statements that write any number of rows, handed over as arrays: one for each table.
//!
//! Each calls a function of the schema, which tells why it failed (`sqlstate.rs`), and is a query type of its own with
//! a constant text, so that a connection prepares it once, and from then on sends it in one message. What diesel makes
//! of a list of rows has a parameter for each value and another text for each number of rows: it is sent twice, and for
//! 100 scopes the server takes longer to read it than to insert.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Text};

/// A function that takes arrays: first those of texts, then that of keys, if any.
pub(super) trait Statement: 'static {
    const FUNCTION: &'static str;
    const HAS_KEYS: bool = true;
    /// The types of what it returns.
    type Returning: 'static;
}

/// A statement with its rows, column by column.
pub(super) struct OverRows<'a, S> {
    texts: Vec<Vec<&'a str>>,
    keys: Vec<&'a [u8]>,
    statement: PhantomData<S>,
}

/// The ids with the numbers that the database assigned.
pub(super) type Numbered = (Text, BigInt);

pub(super) enum InsertRootKeys {}

impl Statement for InsertRootKeys {
    const FUNCTION: &'static str = "kms_insert_root_keys";
    const HAS_KEYS: bool = false;
    type Returning = Text;
}

pub(super) enum InsertRootKeyVersions {}

impl Statement for InsertRootKeyVersions {
    const FUNCTION: &'static str = "kms_insert_root_key_versions";
    type Returning = Numbered;
}

pub(super) enum InsertDataKeys {}

impl Statement for InsertDataKeys {
    const FUNCTION: &'static str = "kms_insert_data_keys";
    const HAS_KEYS: bool = false;
    type Returning = ();
}

pub(super) enum InsertDataKeyVersions {}

impl Statement for InsertDataKeyVersions {
    const FUNCTION: &'static str = "kms_insert_data_key_versions";
    type Returning = Numbered;
}

/// Returns how many rows there were, as [`RewrapDataKeyVersions`] does.
pub(super) enum RewrapRootKeyVersions {}

impl Statement for RewrapRootKeyVersions {
    const FUNCTION: &'static str = "kms_rewrap_root_key_versions";
    type Returning = BigInt;
}

pub(super) enum RewrapDataKeyVersions {}

impl Statement for RewrapDataKeyVersions {
    const FUNCTION: &'static str = "kms_rewrap_data_key_versions";
    type Returning = BigInt;
}

impl<'a, S: Statement> OverRows<'a, S> {
    /// Of columns of texts.
    pub(super) fn texts<const N: usize>(columns: [Vec<&'a str>; N]) -> Self {
        Self {
            texts: columns.into(),
            keys: Vec::new(),
            statement: PhantomData,
        }
    }

    /// With a column of keys after them.
    pub(super) fn and_keys(mut self, keys: Vec<&'a [u8]>) -> Self {
        self.keys = keys;
        self
    }
}

impl<S: Statement> Query for OverRows<'_, S> {
    type SqlType = S::Returning;
}

impl<S: Statement> QueryId for OverRows<'_, S> {
    type QueryId = OverRows<'static, S>;
}

impl<S: Statement> QueryFragment<Pg> for OverRows<'_, S> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select * from ");
        out.push_sql(S::FUNCTION);
        out.push_sql("(");
        for (position, column) in self.texts.iter().enumerate() {
            if position > 0 {
                out.push_sql(", ");
            }
            out.push_bind_param::<Array<Text>, _>(column)?;
        }
        if S::HAS_KEYS {
            out.push_sql(", ");
            out.push_bind_param::<Array<Binary>, _>(&self.keys)?;
        }
        out.push_sql(")");
        Ok(())
    }
}

impl<S: Statement, C> RunQueryDsl<C> for OverRows<'_, S> {}
