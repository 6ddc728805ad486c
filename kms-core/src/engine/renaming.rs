//! Giving a scope another id.

use super::Kms;
use super::changes::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::prepared::Prepared;
use crate::scope::ScopeId;

impl Kms {
    /// Gives a scope another id, in one transaction. Wrapped keys are bound to the scope's id, so all of them are
    /// encrypted anew: by one call to decrypt and one to encrypt for each root key version. Every key, every key version's
    /// id and the scope's root stay, so that rows that reference key versions, and blobs, are not touched.
    ///
    /// Other processes know of it within their freshness. From then on the former id is that of a scope without keys.
    ///
    /// What the application authenticates as aad is its own: blobs whose aad holds the former id open with the former id
    /// there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`]; [`ErrorKind::AlreadyExists`] if there are keys under the new id; the failure of any
    /// version that does not open; [`ErrorKind::DuplicateKey`]; [`ErrorKind::MissingScopeRow`] if the application's
    /// table has no row of the new id; those of the root wrapper and of the repository. Nothing is changed then.
    pub async fn rename_scope(&self, scope: &ScopeId, to: &ScopeId) -> Result<()> {
        self.change(Request::Rename(scope, to)).await.map(drop)
    }

    /// Prepares [`rename_scope`](Self::rename_scope), for a transaction of the application's own: it inserts the row of the
    /// new id, applies this, and then moves its other rows and deletes the row of the former id. `None` if both ids are
    /// the same.
    ///
    /// # Errors
    ///
    /// As [`rename_scope`](Self::rename_scope).
    pub async fn prepare_rename_scope(
        &self,
        scope: &ScopeId,
        to: &ScopeId,
    ) -> Result<Option<Prepared>> {
        const OPERATION: &str = "rename_scope";
        let prepare = async {
            let found = self.0.repository.load(&[scope.clone(), to.clone()]).await?;
            let rows_of = |id: &ScopeId| found.scopes.iter().find(|rows| rows.scope == *id);
            let rows = rows_of(scope).ok_or(ErrorKind::UnknownScope)?;
            if scope == to {
                return Ok(None);
            }
            if rows_of(to).is_some() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            self.0.ensure_right_root_of(rows.root.as_ref()).await?;
            self.refuse_copies_elsewhere(rows).await?;
            self.0.planner.rename(rows, to).await.map(Some)
        };
        self.writable(OPERATION)?;
        prepare.await.map_err(|error: Error| {
            error
                .with_operation(OPERATION)
                .with_context("scope", scope)
                .with_context("to", to)
        })
    }
}
