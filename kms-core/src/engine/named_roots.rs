//! Giving scopes roots of trust of their own.

use super::Kms;
use super::changes::Request;
use crate::error::Result;
use crate::prepared::Prepared;
use crate::root_name::RootName;
use crate::scope::{Purpose, ScopeId};

impl Kms {
    /// The named root of a scope, as the database has it now; `None` is the engine's own.
    ///
    /// # Errors
    ///
    /// [`UnknownScope`](crate::ErrorKind::UnknownScope); those of the repository.
    pub async fn root_of(&self, scope: &ScopeId) -> Result<Option<RootName>> {
        Ok(self.rows(scope).await?.root)
    }

    /// Encrypts and decrypts a random probe with the root of this name: to be run before it is assigned to anybody.
    ///
    /// # Errors
    ///
    /// [`NoRootResolver`](crate::ErrorKind::NoRootResolver), [`UnknownRootName`](crate::ErrorKind::UnknownRootName),
    /// [`RootNotResolved`](crate::ErrorKind::RootNotResolved); those of the root, with its name in the context.
    pub async fn preflight_root(&self, name: &RootName) -> Result<()> {
        let root = self.0.opener.roots.of(Some(name)).await?;
        let result = root.wrapper.preflight().await;
        result.map_err(|error| root.names(error).with_operation("preflight_root"))
    }

    /// As [`create_keys`](Self::create_keys), with the keys under a named root from the beginning: no other root ever
    /// wraps them.
    ///
    /// # Errors
    ///
    /// As [`create_keys`](Self::create_keys) and [`preflight_root`](Self::preflight_root).
    pub async fn create_keys_under(
        &self,
        root: &RootName,
        scope: &ScopeId,
        purposes: &[Purpose],
    ) -> Result<()> {
        self.change(Request::Create(scope, Some(root), purposes))
            .await
            .map(drop)
    }

    /// Prepares [`create_keys_under`](Self::create_keys_under). Reads nothing from the database.
    ///
    /// # Errors
    ///
    /// As [`create_keys_under`](Self::create_keys_under), but that the scope already has keys shows on applying.
    pub async fn prepare_create_keys_under(
        &self,
        root: &RootName,
        scope: &ScopeId,
        purposes: &[Purpose],
    ) -> Result<Prepared> {
        self.prepare_create(scope, Some(root), purposes).await
    }

    /// Gives a scope another root of trust: its root keys are unwrapped by the present one and wrapped by the named one,
    /// in one change with the assignment. From then on every load, rotation, rewrap and campaign uses that root for
    /// this scope and no other. Does nothing if the scope has this root already.
    ///
    /// It makes no new keys: whoever has an old copy of the database and the old root can still open those that there
    /// were. [`rotate_keys`](Self::rotate_keys) after it, so that new data is under keys that only this root ever wrapped.
    ///
    /// # Errors
    ///
    /// [`UnknownScope`](crate::ErrorKind::UnknownScope); those of [`preflight_root`](Self::preflight_root); the failure of
    /// any root key version that the present root does not open, or that the new one does not open again;
    /// [`DuplicateKey`](crate::ErrorKind::DuplicateKey); those of the repository. Nothing is changed then.
    pub async fn assign_root(&self, scope: &ScopeId, root: &RootName) -> Result<()> {
        self.change(Request::AssignRoot(scope, Some(root)))
            .await
            .map(drop)
    }

    /// Takes a scope back under the engine's own root: the other way round than [`assign_root`](Self::assign_root).
    /// Nothing else ever does that. The named root has to open the keys once more.
    ///
    /// # Errors
    ///
    /// As [`assign_root`](Self::assign_root); [`NoRootWrapper`](crate::ErrorKind::NoRootWrapper).
    pub async fn unassign_root(&self, scope: &ScopeId) -> Result<()> {
        self.change(Request::AssignRoot(scope, None))
            .await
            .map(drop)
    }

    /// Prepares [`assign_root`](Self::assign_root). `None` if there is nothing to do.
    ///
    /// # Errors
    ///
    /// As [`assign_root`](Self::assign_root).
    pub async fn prepare_assign_root(
        &self,
        scope: &ScopeId,
        root: &RootName,
    ) -> Result<Option<Prepared>> {
        self.prepare_root(scope, Some(root)).await
    }

    /// Prepares [`unassign_root`](Self::unassign_root). `None` if there is nothing to do.
    ///
    /// # Errors
    ///
    /// As [`unassign_root`](Self::unassign_root).
    pub async fn prepare_unassign_root(&self, scope: &ScopeId) -> Result<Option<Prepared>> {
        self.prepare_root(scope, None).await
    }

    pub(super) async fn prepare_root(
        &self,
        scope: &ScopeId,
        root: Option<&RootName>,
    ) -> Result<Option<Prepared>> {
        let operation = root.map_or("unassign_root", |_| "assign_root");
        self.writable(operation)?;
        let prepare = async {
            self.0.ensure_right_root_of(root).await?;
            let rows = self.rows(scope).await?;
            self.refuse_copies_elsewhere(&rows).await?;
            self.0.planner.assign_root(&rows, root).await
        };
        prepare
            .await
            .map_err(|error| error.with_operation(operation).with_context("scope", scope))
    }
}
