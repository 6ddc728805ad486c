//! Statements about single rows that diesel would prepare anew each time.

use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::sqlite::Sqlite;
use kms_core::{RewrappedDataKeyVersion, RootKeyVersionId};

/// The number of a new root key version. Not by `returning`: that answers before the trigger has set it.
pub(super) struct RootKeyVersionNumber<'a>(pub(super) &'a str);

/// The number of a new data key version.
pub(super) struct DataKeyVersionNumber<'a>(pub(super) &'a str);

pub(super) struct RewrapRootKeyVersion<'a>(pub(super) &'a (RootKeyVersionId, Vec<u8>));

pub(super) struct RewrapDataKeyVersion<'a>(pub(super) &'a RewrappedDataKeyVersion);

impl Query for RootKeyVersionNumber<'_> {
    type SqlType = BigInt;
}

impl Query for DataKeyVersionNumber<'_> {
    type SqlType = BigInt;
}

// Each has one text, so that its type stands for it.
impl QueryId for RootKeyVersionNumber<'_> {
    type QueryId = RootKeyVersionNumber<'static>;
}

impl QueryId for DataKeyVersionNumber<'_> {
    type QueryId = DataKeyVersionNumber<'static>;
}

impl QueryId for RewrapRootKeyVersion<'_> {
    type QueryId = RewrapRootKeyVersion<'static>;
}

impl QueryId for RewrapDataKeyVersion<'_> {
    type QueryId = RewrapDataKeyVersion<'static>;
}

impl QueryFragment<Sqlite> for RootKeyVersionNumber<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("select version from kms_root_key_version where private_id = ");
        out.push_bind_param::<Text, _>(self.0)
    }
}

impl QueryFragment<Sqlite> for DataKeyVersionNumber<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("select version from kms_data_key_version where private_id = ");
        out.push_bind_param::<Text, _>(self.0)
    }
}

impl QueryFragment<Sqlite> for RewrapRootKeyVersion<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("update kms_root_key_version set key = ");
        out.push_bind_param::<Binary, _>(&self.0.1)?;
        out.push_sql(" where private_id = ");
        out.push_bind_param::<Text, _>(self.0.0.as_str())
    }
}

impl QueryFragment<Sqlite> for RewrapDataKeyVersion<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("update kms_data_key_version set key = ");
        out.push_bind_param::<Binary, _>(&self.0.key)?;
        out.push_sql(", root_key_version_id = ");
        out.push_bind_param::<Text, _>(self.0.root_key_version.as_str())?;
        out.push_sql(" where private_id = ");
        out.push_bind_param::<Text, _>(self.0.id.as_str())
    }
}

impl RunQueryDsl<SqliteConnection> for RootKeyVersionNumber<'_> {}
impl RunQueryDsl<SqliteConnection> for DataKeyVersionNumber<'_> {}
impl RunQueryDsl<SqliteConnection> for RewrapRootKeyVersion<'_> {}
impl RunQueryDsl<SqliteConnection> for RewrapDataKeyVersion<'_> {}
