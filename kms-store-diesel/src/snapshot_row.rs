//! What the statement of a snapshot gives on either database: rows of all tables in one form.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Nullable, SmallInt, Text};
use kms_core::Snapshot;

use crate::records::{
    CollectionRecord, DataKeyRecord, DataKeyVersionRecord, KeyRecords, RootKeyRecord,
    RootKeyVersionRecord,
};
use crate::stored_time::StoredTime;

/// The types of the columns; that of times differs.
pub(crate) type SnapshotSql<Time> = (
    SmallInt,
    Text,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<BigInt>,
    Nullable<Binary>,
    Nullable<Time>,
);

/// What the first column tells a row to be.
#[cfg(feature = "postgres")]
const REFUSAL: i16 = -1;
const COLLECTION: i16 = 0;
const ROOT_KEY: i16 = 1;
const ROOT_KEY_VERSION: i16 = 2;
const DATA_KEY: i16 = 3;

#[derive(Queryable)]
pub(crate) struct SnapshotRow {
    tag: i16,
    id: String,
    parent: Option<String>,
    wrapper: Option<String>,
    label: Option<String>,
    version: Option<i64>,
    key: Option<Vec<u8>>,
    time: Option<StoredTime>,
}

impl SnapshotRow {
    /// Why there are no rows, if this one stands for them.
    #[cfg(feature = "postgres")]
    pub(crate) fn refusal(&self) -> Option<&str> {
        (self.tag == REFUSAL).then_some(&*self.id)
    }

    /// Puts the rows of one statement together.
    pub(crate) fn gather(rows: Vec<Self>) -> QueryResult<Snapshot> {
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
                    root: row.wrapper,
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
}
