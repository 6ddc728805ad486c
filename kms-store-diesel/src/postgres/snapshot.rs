//! All rows of some scopes in one statement, and so in one snapshot and one round trip.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Nullable, SmallInt, Text, Timestamptz};
use kms_core::Snapshot;

use crate::records::{
    CollectionRecord, DataKeyRecord, DataKeyVersionRecord, KeyRecords, RootKeyRecord,
    RootKeyVersionRecord,
};
use crate::stored_time::StoredTime;

pub(super) fn load(connection: &mut PgConnection, scopes: &[&str]) -> QueryResult<Snapshot> {
    let rows: Vec<SnapshotRow> = SnapshotOf(scopes).load(connection)?;
    let mut collection = None;
    let mut records = KeyRecords::default();
    for row in rows {
        match row.tag {
            COLLECTION => {
                collection = Some(CollectionRecord {
                    version: row.version.unwrap_or_default(),
                    update_time: row.time,
                });
            }
            ROOT_KEY => records.root_keys.push(RootKeyRecord {
                id: row.id,
                scope: row.label.unwrap_or_default(),
                create_time: row.time,
            }),
            ROOT_KEY_VERSION => records.root_key_versions.push(RootKeyVersionRecord {
                id: row.id,
                root_key: row.parent.unwrap_or_default(),
                version: row.version.unwrap_or_default(),
                key: row.key.unwrap_or_default(),
                create_time: row.time,
            }),
            DATA_KEY => records.data_keys.push(DataKeyRecord {
                id: row.id,
                root_key: row.parent.unwrap_or_default(),
                purpose: row.label.unwrap_or_default(),
                create_time: row.time,
            }),
            _ => records.data_key_versions.push(DataKeyVersionRecord {
                id: row.id,
                data_key: row.parent.unwrap_or_default(),
                root_key_version: row.wrapper.unwrap_or_default(),
                version: row.version.unwrap_or_default(),
                key: row.key.unwrap_or_default(),
                create_time: row.time,
            }),
        }
    }
    Ok(Snapshot {
        collection: collection.ok_or(diesel::NotFound)?.into(),
        scopes: records.into_scopes(),
    })
}

/// What the first column tells a row to be.
const COLLECTION: i16 = 0;
const ROOT_KEY: i16 = 1;
const ROOT_KEY_VERSION: i16 = 2;
const DATA_KEY: i16 = 3;

#[derive(Queryable)]
struct SnapshotRow {
    tag: i16,
    id: String,
    parent: Option<String>,
    wrapper: Option<String>,
    label: Option<String>,
    version: Option<i64>,
    key: Option<Vec<u8>>,
    time: Option<StoredTime>,
}

/// The statement. A query of its own, since diesel has no words for it and prepares a `sql_query` anew
/// each time: planning takes longer than running for one scope.
struct SnapshotOf<'a>(&'a [&'a str]);

const UP_TO_SCOPES: &str = "\
with selected as materialized (
  select private_id, scope_id, create_time from kms_root_key where scope_id = any (";

const AFTER_SCOPES: &str = ")
)
select 0::int2, ''::text, null::text, null::text, null::text, version::int8, null::bytea,
       (update_time at time zone 'UTC')::timestamptz
  from kms_collection_version
union all
select 1::int2, private_id::text, null, null, scope_id::text, null, null, create_time::timestamptz
  from selected
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
    type SqlType = (
        SmallInt,
        Text,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<BigInt>,
        Nullable<Binary>,
        Nullable<Timestamptz>,
    );
}

// The text is the same for all scopes, so that the type stands for it.
impl QueryId for SnapshotOf<'_> {
    type QueryId = SnapshotOf<'static>;
}

impl QueryFragment<Pg> for SnapshotOf<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(UP_TO_SCOPES);
        out.push_bind_param::<Array<Text>, _>(&self.0)?;
        out.push_sql(AFTER_SCOPES);
        Ok(())
    }
}

impl RunQueryDsl<PgConnection> for SnapshotOf<'_> {}
