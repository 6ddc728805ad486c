//! Statements that write any number of rows, handed over as arrays: one for each table.
//!
//! Each is a query type of its own with a constant text, so that a connection prepares it once, and from then on
//! sends it in one message. What diesel makes of a list of rows has a parameter for each value and another text for
//! each number of rows: it is sent twice, and for 100 scopes the server takes longer to read it than to insert.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Text};

/// A statement, by its text around the arrays: first those of texts, then that of keys, if any.
pub(super) trait Statement: 'static {
    const BEFORE: &'static str;
    const AFTER: &'static str;
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
    const HAS_KEYS: bool = false;
    const BEFORE: &'static str = "\
insert into kms_root_key (private_id, scope_id) select n.id, n.scope from ";
    const AFTER: &'static str = " as n (id, scope)
on conflict (scope_id) do nothing returning private_id::text";
    type Returning = Text;
}

pub(super) enum InsertRootKeyVersions {}

impl Statement for InsertRootKeyVersions {
    const BEFORE: &'static str = "\
insert into kms_root_key_version (private_id, root_key_id, key) select n.id, n.root_key, n.key from ";
    const AFTER: &'static str =
        " as n (id, root_key, key) returning private_id::text, version::int8";
    type Returning = Numbered;
}

pub(super) enum InsertDataKeys {}

impl Statement for InsertDataKeys {
    const HAS_KEYS: bool = false;
    const BEFORE: &'static str = "\
insert into kms_data_key (private_id, root_key_id, purpose) select n.id, n.root_key, n.purpose from ";
    const AFTER: &'static str = " as n (id, root_key, purpose)";
    type Returning = ();
}

pub(super) enum InsertDataKeyVersions {}

impl Statement for InsertDataKeyVersions {
    const BEFORE: &'static str = "\
insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key)
select n.id, n.data_key, n.root_key_version, n.key from ";
    const AFTER: &'static str = " as n (id, data_key, root_key_version, key)
returning private_id::text, version::int8";
    type Returning = Numbered;
}

/// Names no other column: to name `version`, even unchanged, would wait for every transaction of the
/// application that references the row.
pub(super) enum RewrapRootKeyVersions {}

impl Statement for RewrapRootKeyVersions {
    const BEFORE: &'static str = "update kms_root_key_version as v set key = n.key from ";
    const AFTER: &'static str = " as n (id, key) where v.private_id = n.id";
    type Returning = ();
}

/// As [`RewrapRootKeyVersions`].
pub(super) enum RewrapDataKeyVersions {}

impl Statement for RewrapDataKeyVersions {
    const BEFORE: &'static str = "\
update kms_data_key_version as v set key = n.key, root_key_version_id = n.root_key_version from ";
    const AFTER: &'static str = " as n (id, root_key_version, key) where v.private_id = n.id";
    type Returning = ();
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
        out.push_sql(S::BEFORE);
        out.push_sql("unnest(");
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
        out.push_sql(S::AFTER);
        Ok(())
    }
}

impl<S: Statement, C> RunQueryDsl<C> for OverRows<'_, S> {}
