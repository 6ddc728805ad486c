//! Rows as queries give them, put together into what the core calls the rows of a scope.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use diesel::Queryable;
use kms_core::{
    CollectionVersion, DataKeyId, DataKeyRow, DataKeyVersionId, DataKeyVersionRow, Lack,
    MissingKeys, Purpose, RootKeyId, RootKeyVersionId, RootKeyVersionRow, RootName, ScopeId,
    ScopeRows,
};

use crate::stored_time::StoredTime;

/// The rows of any number of scopes, table by table.
#[derive(Debug, Default)]
pub(crate) struct KeyRecords {
    pub(crate) root_keys: Vec<RootKeyRecord>,
    pub(crate) root_key_versions: Vec<RootKeyVersionRecord>,
    pub(crate) data_keys: Vec<DataKeyRecord>,
    pub(crate) data_key_versions: Vec<DataKeyVersionRecord>,
}

#[derive(Debug, Queryable)]
pub(crate) struct RootKeyRecord {
    pub(crate) id: String,
    pub(crate) scope: String,
    pub(crate) root: Option<String>,
    pub(crate) create_time: Option<StoredTime>,
}

#[derive(Debug, Queryable)]
pub(crate) struct RootKeyVersionRecord {
    pub(crate) id: String,
    pub(crate) root_key: String,
    pub(crate) version: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) create_time: Option<StoredTime>,
}

#[derive(Debug, Queryable)]
pub(crate) struct DataKeyRecord {
    pub(crate) id: String,
    pub(crate) root_key: String,
    pub(crate) purpose: String,
    pub(crate) create_time: Option<StoredTime>,
}

#[derive(Debug, Queryable)]
pub(crate) struct DataKeyVersionRecord {
    pub(crate) id: String,
    pub(crate) data_key: String,
    pub(crate) root_key_version: String,
    pub(crate) version: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) create_time: Option<StoredTime>,
}

#[derive(Debug)]
pub(crate) struct CollectionRecord {
    pub(crate) version: i64,
    pub(crate) update_time: Option<StoredTime>,
}

impl From<CollectionRecord> for CollectionVersion {
    fn from(record: CollectionRecord) -> Self {
        Self {
            version: record.version,
            update_time: StoredTime::or_epoch(record.update_time),
        }
    }
}

impl KeyRecords {
    /// Sorts every row under its parent. A row whose parent is not among these is left out: of one
    /// snapshot that can't be, since foreign keys see to it.
    pub(crate) fn into_scopes(self) -> Vec<ScopeRows> {
        let mut data_keys = data_keys_by_root_key(self.data_keys, self.data_key_versions);
        let mut scopes: Vec<_> = Vec::with_capacity(self.root_keys.len());
        let mut positions = HashMap::with_capacity(self.root_keys.len());
        for record in self.root_keys {
            positions.insert(record.id.clone(), scopes.len());
            scopes.push(ScopeRows {
                scope: ScopeId::from_stored(&record.scope),
                root_key: RootKeyId::from_stored(&record.id),
                root: record.root.as_deref().map(RootName::from_stored),
                create_time: time(record.create_time),
                root_key_versions: Vec::new(),
                data_keys: data_keys.remove(&record.id).unwrap_or_default(),
            });
        }
        for record in self.root_key_versions {
            if let Some(&position) = positions.get(&record.root_key) {
                scopes[position].root_key_versions.push(RootKeyVersionRow {
                    id: RootKeyVersionId::from_stored(&record.id),
                    version: record.version,
                    key: record.key,
                    create_time: time(record.create_time),
                });
            }
        }
        scopes.iter_mut().for_each(ScopeRows::sort);
        scopes
    }
}

/// Puts pairs of scope and lacking purpose together by scope. `None` says that the scope has no root key.
pub(crate) fn missing_keys(
    rows: impl Iterator<Item = (String, Option<String>)>,
) -> Vec<MissingKeys> {
    let mut lacks: BTreeMap<String, Lack> = BTreeMap::new();
    for (scope, purpose) in rows {
        let lack = lacks
            .entry(scope)
            .or_insert_with(|| Lack::Purposes(Vec::new()));
        match (lack, purpose) {
            (Lack::Purposes(purposes), Some(purpose)) => {
                purposes.push(Purpose::from_stored(&purpose));
            }
            (lack, None) => *lack = Lack::RootKey,
            (Lack::RootKey, Some(_)) => {}
        }
    }
    lacks
        .into_iter()
        .map(|(scope, lack)| MissingKeys {
            scope: ScopeId::from_stored(&scope),
            lack,
        })
        .collect()
}

fn data_keys_by_root_key(
    records: Vec<DataKeyRecord>,
    versions: Vec<DataKeyVersionRecord>,
) -> HashMap<String, Vec<DataKeyRow>> {
    let mut versions_of: HashMap<String, Vec<DataKeyVersionRow>> = HashMap::new();
    for record in versions {
        versions_of
            .entry(record.data_key)
            .or_default()
            .push(DataKeyVersionRow {
                id: DataKeyVersionId::from_stored(&record.id),
                root_key_version: RootKeyVersionId::from_stored(&record.root_key_version),
                version: record.version,
                key: record.key,
                create_time: time(record.create_time),
            });
    }
    let mut keys_of: HashMap<String, Vec<DataKeyRow>> = HashMap::new();
    for record in records {
        keys_of
            .entry(record.root_key)
            .or_default()
            .push(DataKeyRow {
                versions: versions_of.remove(&record.id).unwrap_or_default(),
                id: DataKeyId::from_stored(&record.id),
                purpose: Purpose::from_stored(&record.purpose),
                create_time: time(record.create_time),
            });
    }
    keys_of
}

/// A thousand years: no key is older, and both databases can subtract it from now.
const OLDEST: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// An age in seconds.
pub(crate) fn seconds(age: Duration) -> f64 {
    age.min(OLDEST).as_secs_f64()
}

fn time(stored: Option<StoredTime>) -> SystemTime {
    StoredTime::or_epoch(stored)
}
