//! Changes that the application applies in a transaction of its own.

use super::{Kms, Rewrap, builder::refuse_duplicates};
use crate::binding::Binding;
use crate::change::Proof;
use crate::error::{Error, ErrorKind, Result};
use crate::id::KeyVersionId;
use crate::planner::{self, RewrapKeys};
use crate::prepared::Prepared;
use crate::root_name::RootName;
use crate::rows::ScopeRows;
use crate::scope::{Purpose, ScopeId};

impl Kms {
    /// Prepares [`create_keys`](Self::create_keys). Reads nothing from the database, once the engine knows that its
    /// root key is [the right one](crate::KmsBuilder::build).
    ///
    /// # Errors
    ///
    /// As [`create_keys`](Self::create_keys), but that the scope already has keys shows on applying.
    pub async fn prepare_create_keys(
        &self,
        scope: &ScopeId,
        purposes: &[Purpose],
    ) -> Result<Prepared> {
        self.prepare_create(scope, None, purposes).await
    }

    pub(super) async fn prepare_create(
        &self,
        scope: &ScopeId,
        root: Option<&RootName>,
        purposes: &[Purpose],
    ) -> Result<Prepared> {
        const OPERATION: &str = "create_keys";
        self.writable(OPERATION)?;
        self.accept_purposes(purposes)
            .map_err(|error| error.with_operation(OPERATION).with_context("scope", scope))?;
        let prepare = async {
            self.0.ensure_right_root_of(root).await?;
            self.0.planner.create(scope, root, purposes).await
        };
        prepare
            .await
            .map_err(|error| error.with_operation(OPERATION).with_context("scope", scope))
    }

    /// Prepares [`rotate_keys`](Self::rotate_keys).
    ///
    /// # Errors
    ///
    /// As [`rotate_keys`](Self::rotate_keys).
    pub async fn prepare_rotate_keys(&self, scope: &ScopeId, rewrap: Rewrap) -> Result<Prepared> {
        const OPERATION: &str = "rotate_keys";
        let prepare = async {
            let rows = self.rows(scope).await?;
            self.0.ensure_right_root_of(rows.root.as_ref()).await?;
            if rewrap == Rewrap::Yes {
                self.refuse_copies_elsewhere(&rows).await?;
            }
            self.0.planner.rotate(&rows, rewrap == Rewrap::Yes).await
        };
        self.writable(OPERATION)?;
        prepare
            .await
            .map_err(|error| error.with_operation(OPERATION).with_context("scope", scope))
    }

    /// Prepares [`rewrap_keys`](Self::rewrap_keys). `None` if there is nothing to do, which [`RewrapKeys::All`] never
    /// finds.
    ///
    /// # Errors
    ///
    /// As [`rewrap_keys`](Self::rewrap_keys).
    pub async fn prepare_rewrap_keys(
        &self,
        scope: &ScopeId,
        which: RewrapKeys,
    ) -> Result<Option<Prepared>> {
        const OPERATION: &str = "rewrap_keys";
        let prepare = async {
            let rows = self.rows(scope).await?;
            self.0.ensure_right_root_of(rows.root.as_ref()).await?;
            if rows.root.is_none() && which == RewrapKeys::OlderVersions {
                self.0.learn_newest_version().await?;
            }
            self.refuse_copies_elsewhere(&rows).await?;
            self.0.planner.rewrap(&rows, which).await
        };
        self.writable(OPERATION)?;
        prepare
            .await
            .map_err(|error| error.with_operation(OPERATION).with_context("scope", scope))
    }

    /// Prepares data keys of those purposes that one scope lacks. `None` if it lacks none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`]; purposes as for [`create_keys`](Self::create_keys); the failure of the
    /// newest root key version if it does not open.
    pub async fn prepare_reconcile_keys(
        &self,
        scope: &ScopeId,
        purposes: &[Purpose],
    ) -> Result<Option<Prepared>> {
        const OPERATION: &str = "reconcile_keys";
        let prepare = async {
            self.accept_purposes(purposes)?;
            let rows = self.rows(scope).await?;
            let missing: Vec<_> = purposes
                .iter()
                .filter(|purpose| rows.data_keys.iter().all(|key| key.purpose != **purpose))
                .cloned()
                .collect();
            if missing.is_empty() {
                return Ok(None);
            }
            let known = self.0.cache.good_for(&rows);
            let newest = self.0.opener.newest_root_key(&rows, known.as_ref()).await?;
            self.0.planner.reconcile(&rows, &missing, &newest).map(Some)
        };
        self.writable(OPERATION)?;
        prepare
            .await
            .map_err(|error| error.with_operation(OPERATION).with_context("scope", scope))
    }

    /// Prepares [`revoke_key_version`](Self::revoke_key_version).
    ///
    /// # Errors
    ///
    /// As [`revoke_key_version`](Self::revoke_key_version); use by the application shows on applying.
    pub async fn prepare_revoke_key_version(&self, id: &KeyVersionId) -> Result<Prepared> {
        self.prepare_revoke(id, Proof::Required).await
    }

    /// Prepares [`delete_keys`](Self::delete_keys).
    ///
    /// # Errors
    ///
    /// As [`delete_keys`](Self::delete_keys); use by the application shows on applying.
    pub async fn prepare_delete_keys(&self, scope: &ScopeId) -> Result<Prepared> {
        self.prepare_delete(scope, Proof::Required).await
    }

    pub(super) async fn prepare_revoke(&self, id: &KeyVersionId, proof: Proof) -> Result<Prepared> {
        const OPERATION: &str = "revoke_key_version";
        let prepare = async {
            let unknown =
                || Error::new(ErrorKind::UnknownKeyVersion).with_context("key_version", id);
            let scope = self.0.repository.scope_of(id).await?.ok_or_else(unknown)?;
            let rows = match self.rows(&scope).await {
                Err(error) if error.kind() == ErrorKind::UnknownScope => return Err(unknown()),
                result => result?,
            };
            let change = planner::revoke(&rows, id, proof)?;
            Ok(Prepared::new(change, Vec::new()))
        };
        self.writable(OPERATION)?;
        prepare.await.map_err(|error: Error| {
            error
                .with_operation(OPERATION)
                .with_context("key_version", id)
        })
    }

    pub(super) async fn prepare_delete(&self, scope: &ScopeId, proof: Proof) -> Result<Prepared> {
        const OPERATION: &str = "delete_keys";
        self.writable(OPERATION)?;
        let rows = self
            .rows(scope)
            .await
            .map_err(|error| error.with_operation(OPERATION).with_context("scope", scope))?;
        Ok(Prepared::new(planner::delete(&rows, proof), Vec::new()))
    }

    /// The scope's rows as they are now, past any cache.
    pub(super) async fn rows(&self, scope: &ScopeId) -> Result<ScopeRows> {
        let snapshot = self.0.repository.load(std::slice::from_ref(scope)).await?;
        snapshot
            .scopes
            .into_iter()
            .find(|rows| rows.scope == *scope)
            .ok_or_else(|| Error::new(ErrorKind::UnknownScope).with_context("scope", scope))
    }

    pub(super) fn accept_purposes(&self, purposes: &[Purpose]) -> Result<()> {
        refuse_duplicates(purposes)?;
        purposes
            .iter()
            .try_for_each(|purpose| self.declared(purpose))
    }

    /// A mode that opens unbound keys may open one that was copied from another scope. Bound by
    /// rewrapping it would be legitimate for good.
    pub(super) async fn refuse_copies_elsewhere(&self, rows: &ScopeRows) -> Result<()> {
        if self.0.opener.binding != Binding::Migrating {
            return Ok(());
        }
        let ciphertexts: Vec<_> = planner::ciphertexts(rows).collect();
        let copies = self.0.repository.copies(&rows.scope, &ciphertexts).await?;
        match copies.first() {
            None => Ok(()),
            Some(copy) => Err(Error::new(ErrorKind::DuplicateKey)
                .with_detail("a key version of another scope holds a wrapped key of this one")
                .with_context("scope", &rows.scope)
                .with_context("other_key_version", copy)),
        }
    }
}
