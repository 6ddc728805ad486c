//! What can destroy data that somebody still needs.

use super::Kms;
use super::changes::Request;
use crate::change::Proof;
use crate::error::Result;
use crate::id::KeyVersionId;
use crate::prepared::Prepared;
use crate::scope::ScopeId;

impl Kms {
    /// Operations that can make existing data unreadable. They skip the proof that nothing uses what
    /// they delete; the database's own foreign keys still apply.
    #[must_use]
    pub fn dangerous(&self) -> Dangerous<'_> {
        Dangerous(self)
    }
}

/// See [`Kms::dangerous`].
#[derive(Debug)]
pub struct Dangerous<'a>(&'a Kms);

impl Dangerous<'_> {
    /// Deletes a key version without proof that it is unused. **Data encrypted with it is lost.** The
    /// newest version, and a root key version that still wraps a data key version, are refused here too.
    ///
    /// # Errors
    ///
    /// As [`Kms::revoke_key_version`], but for `UseNotProven`.
    pub async fn revoke_key_version(&self, id: &KeyVersionId) -> Result<()> {
        self.0
            .change(Request::Revoke(id, Proof::Skipped))
            .await
            .map(drop)
    }

    /// Deletes all keys of a scope without proof that they are unused. **Data encrypted with them is
    /// lost.**
    ///
    /// # Errors
    ///
    /// As [`Kms::delete_keys`], but for `UseNotProven`.
    pub async fn delete_keys(&self, scope: &ScopeId) -> Result<()> {
        self.0
            .change(Request::Delete(scope, Proof::Skipped))
            .await
            .map(drop)
    }

    /// Prepares [`revoke_key_version`](Self::revoke_key_version).
    ///
    /// # Errors
    ///
    /// As [`Kms::prepare_revoke_key_version`].
    pub async fn prepare_revoke_key_version(&self, id: &KeyVersionId) -> Result<Prepared> {
        self.0.prepare_revoke(id, Proof::Skipped).await
    }

    /// Prepares [`delete_keys`](Self::delete_keys).
    ///
    /// # Errors
    ///
    /// As [`Kms::prepare_delete_keys`].
    pub async fn prepare_delete_keys(&self, scope: &ScopeId) -> Result<Prepared> {
        self.0.prepare_delete(scope, Proof::Skipped).await
    }
}
