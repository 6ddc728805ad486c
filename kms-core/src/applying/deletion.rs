//! What must not be deleted, as far as the rows can tell.

use crate::change::{Deletion, DeletionTarget, Proof};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyVersionId, KeyVersionId};
use crate::rows::{DataKeyVersionRow, ScopeRows};

impl Deletion {
    /// Checks what the rows of its scope can tell against it, whatever the form of the call: a root key version that
    /// wraps a data key version stays. (That the newest version stays is checked where the change is planned.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`].
    pub fn check(&self, rows: &ScopeRows) -> Result<()> {
        let DeletionTarget::Version(KeyVersionId::Root(id)) = &self.target else {
            return Ok(());
        };
        match data_key_versions(rows).find(|version| version.root_key_version == *id) {
            None => Ok(()),
            Some(wrapped) => Err(Error::new(ErrorKind::InUse)
                .with_detail("it wraps a data key version; rewrap the scope's keys first")
                .with_context("scope", &rows.scope)
                .with_context("key_version", id)
                .with_context("table", "kms_data_key_version")
                .with_context("used_by", &wrapped.id)),
        }
    }

    /// Whether the application's foreign keys must prove that nothing is lost by it:
    /// [`provable`](crate::provable) says whether they can.
    #[must_use]
    pub fn needs_proof(&self) -> bool {
        let root_key_version =
            matches!(self.target, DeletionTarget::Version(KeyVersionId::Root(_)));
        self.proof == Proof::Required && !root_key_version
    }

    /// The data key versions that go.
    #[must_use]
    pub fn data_key_versions<'a>(&'a self, rows: &'a ScopeRows) -> Vec<&'a DataKeyVersionId> {
        match &self.target {
            DeletionTarget::Version(KeyVersionId::Root(_)) => Vec::new(),
            DeletionTarget::Version(KeyVersionId::Data(id)) => vec![id],
            DeletionTarget::Scope => data_key_versions(rows).map(|row| &row.id).collect(),
        }
    }
}

fn data_key_versions(rows: &ScopeRows) -> impl Iterator<Item = &DataKeyVersionRow> {
    rows.data_keys.iter().flat_map(|key| &key.versions)
}
