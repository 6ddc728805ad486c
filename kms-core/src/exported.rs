//! A scope on its way from one database to another.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::rows::ScopeRows;
use crate::scope::ScopeId;

mod format;

use format::Format;

/// The keys of a scope as they left a database, all of them wrapped: made by
/// [`Kms::export_scope`](crate::Kms::export_scope), taken by [`Kms::import_scope`](crate::Kms::import_scope).
///
/// It can be written and read by `serde`, one line of JSON for each scope, say:
///
/// ```
/// use kms_core::ExportedScope;
///
/// let line = r#"{"format":"kms-scope-v1","scope":"o_1","root_key":"krk_0123456789",
///     "root_key_versions":[{"id":"krkv_0123456789","version":1,"key":"AQID"}],"data_keys":[]}"#;
/// let exported: ExportedScope = serde_json::from_str(line).unwrap();
/// assert_eq!(exported.scope().as_str(), "o_1");
/// assert!(!format!("{exported:?}").contains("AQID"));
/// assert!(serde_json::from_str::<ExportedScope>(&line.replace("v1", "v2")).is_err());
/// ```
///
/// `format` names the form and its version; a form that this code does not know is refused, and so is a field that is not
/// of that version. Wrapped keys are standard base64.
///
/// # Security
///
/// Whoever has it and may use the root wrapper has the keys. Nothing in it is secret to others. Each bound key opens in its
/// own place only, so that nobody can make another tenant's keys of it; but an older export is as good as a newer one to
/// whoever imports it, key versions that were revoked meanwhile included.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "Format", try_from = "Format")]
pub struct ExportedScope(ScopeRows);

impl ExportedScope {
    pub(crate) fn new(rows: ScopeRows) -> Self {
        Self(rows)
    }

    /// Whose keys these are.
    #[must_use]
    pub fn scope(&self) -> &ScopeId {
        &self.0.scope
    }

    pub(crate) fn rows(&self) -> &ScopeRows {
        &self.0
    }

    /// Whether these rows are of the same keys: the same ids in the same order. There may be more of them, since the scope
    /// may have been rotated where it is now.
    pub(crate) fn check_same_ids(&self, here: &ScopeRows) -> Result<()> {
        let exported = &self.0;
        let mismatch = || Error::new(ErrorKind::ImportMismatch).with_context("scope", &here.scope);
        if exported.root_key != here.root_key {
            return Err(mismatch().with_detail("the root keys are different ones"));
        }
        let lacks = |id: &str| {
            mismatch()
                .with_detail("it lacks a key version of the export, or has it in another place")
                .with_context("key_version", id)
        };
        let mut root = here.root_key_versions.iter().map(|row| row.id.as_str());
        for row in &exported.root_key_versions {
            if !root.any(|id| id == row.id.as_str()) {
                return Err(lacks(row.id.as_str()));
            }
        }
        for key in &exported.data_keys {
            let same = here.data_keys.iter().find(|known| known.id == key.id);
            let Some(same) = same.filter(|same| same.purpose == key.purpose) else {
                return Err(mismatch()
                    .with_detail("it lacks a data key of the export")
                    .with_context("purpose", &key.purpose));
            };
            let mut data = same.versions.iter().map(|row| row.id.as_str());
            for row in &key.versions {
                if !data.any(|id| id == row.id.as_str()) {
                    return Err(lacks(row.id.as_str()));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ExportedScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportedScope")
            .field("scope", &self.0.scope)
            .field("root_key", &self.0.root_key)
            .field("root", &self.0.root)
            .field("root_key_versions", &self.0.root_key_versions.len())
            .field("data_keys", &self.0.data_keys.len())
            .finish_non_exhaustive()
    }
}

/// Times are not exported: they are those of the database that holds the rows.
const NO_TIME: SystemTime = SystemTime::UNIX_EPOCH;

/// Says that every key of an export is in the database of the engine that gave it, and opens there:
/// [`Kms::verify_import`](crate::Kms::verify_import). With it [`Kms::delete_exported`](crate::Kms::delete_exported)
/// deletes them where they came from.
#[must_use = "hand it to Kms::delete_exported of the engine that the scope comes from"]
pub struct VerifiedImport(ScopeRows);

impl VerifiedImport {
    pub(crate) fn of(exported: &ExportedScope) -> Self {
        Self(exported.0.clone())
    }

    /// Whose keys these are.
    #[must_use]
    pub fn scope(&self) -> &ScopeId {
        &self.0.scope
    }

    /// As they were exported.
    pub(crate) fn rows(&self) -> &ScopeRows {
        &self.0
    }
}

impl fmt::Debug for VerifiedImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedImport")
            .field("scope", &self.0.scope)
            .finish_non_exhaustive()
    }
}
