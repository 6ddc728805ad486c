//! The form of an exported scope that is written down.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::{ExportedScope, NO_TIME};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, DataKeyVersionId, RootKeyId, RootKeyVersionId};
use crate::root_name::RootName;
use crate::rows::{DataKeyRow, DataKeyVersionRow, RootKeyVersionRow, ScopeRows};
use crate::scope::{Purpose, ScopeId};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Format {
    format: Version,
    scope: String,
    root_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    root_key_versions: Vec<RootKeyVersion>,
    data_keys: Vec<DataKey>,
}

#[derive(Serialize, Deserialize)]
enum Version {
    #[serde(rename = "kms-scope-v1")]
    One,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootKeyVersion {
    id: String,
    version: i64,
    key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataKey {
    id: String,
    purpose: String,
    versions: Vec<DataKeyVersion>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataKeyVersion {
    id: String,
    root_key_version: String,
    version: i64,
    key: String,
}

impl From<ExportedScope> for Format {
    fn from(ExportedScope(rows): ExportedScope) -> Self {
        Self {
            format: Version::One,
            scope: rows.scope.to_string(),
            root_key: rows.root_key.to_string(),
            root: rows.root.map(|name| name.to_string()),
            root_key_versions: rows
                .root_key_versions
                .iter()
                .map(|row| RootKeyVersion {
                    id: row.id.to_string(),
                    version: row.version,
                    key: BASE64.encode(&row.key),
                })
                .collect(),
            data_keys: rows
                .data_keys
                .iter()
                .map(|key| DataKey {
                    id: key.id.to_string(),
                    purpose: key.purpose.to_string(),
                    versions: key.versions.iter().map(DataKeyVersion::from).collect(),
                })
                .collect(),
        }
    }
}

impl From<&DataKeyVersionRow> for DataKeyVersion {
    fn from(row: &DataKeyVersionRow) -> Self {
        Self {
            id: row.id.to_string(),
            root_key_version: row.root_key_version.to_string(),
            version: row.version,
            key: BASE64.encode(&row.key),
        }
    }
}

impl TryFrom<Format> for ExportedScope {
    type Error = Error;

    fn try_from(format: Format) -> Result<Self> {
        let root_key_versions = format.root_key_versions.into_iter().map(|row| {
            Ok(RootKeyVersionRow {
                id: RootKeyVersionId::parse(&row.id)?,
                version: row.version,
                key: bytes(&row.key)?,
                create_time: NO_TIME,
            })
        });
        let data_keys = format.data_keys.into_iter().map(|key| {
            let versions = key.versions.into_iter().map(|row| {
                Ok(DataKeyVersionRow {
                    id: DataKeyVersionId::parse(&row.id)?,
                    root_key_version: RootKeyVersionId::parse(&row.root_key_version)?,
                    version: row.version,
                    key: bytes(&row.key)?,
                    create_time: NO_TIME,
                })
            });
            Ok(DataKeyRow {
                id: DataKeyId::parse(&key.id)?,
                purpose: Purpose::new(key.purpose)?,
                create_time: NO_TIME,
                versions: versions.collect::<Result<_>>()?,
            })
        });
        let mut rows = ScopeRows {
            scope: ScopeId::new(format.scope)?,
            root_key: RootKeyId::parse(&format.root_key)?,
            root: format.root.map(RootName::new).transpose()?,
            create_time: NO_TIME,
            root_key_versions: root_key_versions.collect::<Result<_>>()?,
            data_keys: data_keys.collect::<Result<_>>()?,
        };
        rows.sort();
        Ok(Self(rows))
    }
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    BASE64.decode(text.as_bytes()).map_err(|source| {
        Error::new(ErrorKind::InvalidBlob)
            .with_detail("not standard base64")
            .with_source(source)
    })
}
