//! Scopes that move from one database to another.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::{Engine, Kms};
use crate::binding::Binding;
use crate::change::{ChangeSet, Proof};
use crate::error::{Error, ErrorKind, Result};
use crate::exported::{ExportedScope, VerifiedImport};
use crate::guard::guarded;
use crate::opener::Opener;
use crate::planner::{self, Planner};
use crate::prepared::Prepared;
use crate::repository::ScopeFilter;
use crate::rows::ScopeRows;
use crate::scope::ScopeId;
use crate::usage::Usage;

/// Scopes that are worked on at once.
const CONCURRENT_SCOPES: usize = 8;

const IMPORT: &str = "import_scope";

impl Kms {
    /// The keys of a scope, to be imported into another database. They leave as they are stored, wrapped: no key is opened,
    /// and no root wrapper is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`], and those of the repository.
    pub async fn export_scope(&self, scope: &ScopeId) -> Result<ExportedScope> {
        let rows = self.rows(scope).await;
        rows.map(ExportedScope::new)
            .map_err(|error| error.with_operation("export_scope"))
    }

    /// A page of scopes: those after `after`, `limit` at most, in the database's order of their ids. Empty only after the
    /// last one.
    ///
    /// # Errors
    ///
    /// Those of the repository.
    pub async fn export_scopes(
        &self,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ExportedScope>> {
        let filter = ScopeFilter::default();
        let mut after = after.cloned();
        loop {
            let repository = &self.0.repository;
            let scopes = repository.scopes(&filter, after.as_ref(), limit).await?;
            let mut rows = self.rows_of(&scopes).await?;
            if !rows.is_empty() || scopes.is_empty() {
                let page = scopes.iter().filter_map(|scope| rows.remove(scope));
                return Ok(page.map(ExportedScope::new).collect());
            }
            // All of them were deleted in between.
            after = scopes.last().cloned();
        }
    }

    /// Inserts the keys of a scope that was exported from another database. The engine opens each with its root wrapper (the
    /// same as there, or a pool that decrypts what that one made; a named root is resolved by its name) and encrypts it
    /// anew for its place here: one call to decrypt and one to encrypt for each root key version. All ids stay, so that
    /// blobs open here that were encrypted there. Version numbers are those that this database assigns, in the same order.
    /// All data key versions are then wrapped by the newest root key version. Create times are those of the import.
    ///
    /// A scope that is here already with the same key versions, by their ids, is [`Imported::AlreadyHere`]: a run that
    /// was stopped may be begun anew, and calls no root wrapper for what was done before. It may have more versions by now.
    ///
    /// Keys that are not bound are taken only in mode [`GoCompatible`](crate::Binding::GoCompatible). Otherwise rewrap
    /// them where they are, which finds copies: see [`Binding`](crate::Binding).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ImportMismatch`] if there are other keys of this scope, or these keys under another scope;
    /// [`ErrorKind::UnboundKey`]; the failure of any version that does not open; [`ErrorKind::DuplicateKey`];
    /// [`ErrorKind::MissingScopeRow`] if the application's table has no row of the scope; those of the root wrapper and
    /// of the repository. Nothing is changed then.
    pub async fn import_scope(&self, exported: &ExportedScope) -> Result<Imported> {
        self.writable(IMPORT)?;
        let import = async {
            let here = self.rows_of(std::slice::from_ref(exported.scope())).await?;
            match self.plan_import(exported, here.values().next()).await? {
                None => Ok(Imported::AlreadyHere),
                Some(prepared) => self.insert(exported, prepared.into_change_set()).await,
            }
        };
        import.await.map_err(|error| importing(error, exported))
    }

    /// Imports a page of scopes as [`import_scope`](Self::import_scope) does, in one transaction where nothing stands
    /// against it.
    ///
    /// # Errors
    ///
    /// Those of the repository while looking what is here. What fails for single scopes is in the report, and the others
    /// are still done.
    pub async fn import_scopes(&self, exported: &[ExportedScope]) -> Result<ImportReport> {
        self.writable(IMPORT)?;
        let scopes: Vec<_> = exported.iter().map(|one| one.scope().clone()).collect();
        let here = &self
            .rows_of(&scopes)
            .await
            .map_err(|error| error.with_operation(IMPORT))?;
        let plans: Vec<_> = exported
            .iter()
            .map(|one| self.plan_import(one, here.get(one.scope())))
            .collect();
        let plans: Vec<_> = stream::iter(plans)
            .buffered(CONCURRENT_SCOPES)
            .collect()
            .await;
        let mut report = ImportReport::default();
        let mut planned = Vec::new();
        for (one, plan) in exported.iter().zip(plans) {
            match plan {
                Ok(Some(prepared)) => planned.push((one, prepared.into_change_set())),
                Ok(None) => report.add(one, Ok(Imported::AlreadyHere)),
                Err(error) => report.add(one, Err(error)),
            }
        }
        let written = self.insert_together(&planned).await;
        for ((one, change), written) in planned.into_iter().zip(written) {
            let result = match written {
                true => Ok(Imported::Created),
                // Alone it tells why, or succeeds.
                false => self.insert(one, change).await,
            };
            report.add(one, result);
        }
        Ok(report)
    }

    /// Prepares [`import_scope`](Self::import_scope), for a transaction of the application's own, beside its rows of the
    /// scope. `None` if the scope is here already.
    ///
    /// # Errors
    ///
    /// As [`import_scope`](Self::import_scope).
    pub async fn prepare_import_scope(&self, exported: &ExportedScope) -> Result<Option<Prepared>> {
        self.writable(IMPORT)?;
        let prepare = async {
            let here = self.rows_of(std::slice::from_ref(exported.scope())).await?;
            self.plan_import(exported, here.values().next()).await
        };
        prepare.await.map_err(|error| importing(error, exported))
    }

    /// Checks that every key of the export is here: opens what was exported, and what this database holds, and compares the
    /// keys. It takes twice as many calls to decrypt as there are root key versions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`]; [`ErrorKind::ImportMismatch`], also if the rows are those that were exported, so that
    /// this is the database that they come from; the failure of any version that does not open; those of the root
    /// wrapper and of the repository.
    pub async fn verify_import(&self, exported: &ExportedScope) -> Result<VerifiedImport> {
        let verify = async {
            let here = self.rows(exported.scope()).await?;
            exported.check_same_ids(&here)?;
            if exported.rows().same_keys(&here) {
                return Err(Error::new(ErrorKind::ImportMismatch).with_detail(
                    "these are the rows that were exported: nothing was imported here",
                ));
            }
            let former = self.0.importer().open_all(exported.rows()).await?;
            let present = self.0.planner.open_all(&here).await?;
            match former.difference(&present) {
                None => Ok(VerifiedImport::of(exported)),
                Some(id) => Err(Error::new(ErrorKind::ImportMismatch)
                    .with_detail("a key version holds another key than the export")
                    .with_context("key_version", id)),
            }
        };
        verify.await.map_err(|error| {
            error
                .with_operation("verify_import")
                .with_context("scope", exported.scope())
        })
    }

    /// Deletes the keys of a scope that were imported elsewhere and verified there, if they still are those that were
    /// exported, byte for byte. No foreign key has to prove them unused, since they are not lost; rows of the application that
    /// reference them still stand against it. A scope that is gone already is no error.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ImportMismatch`] if the scope has changed since it was exported, or has another id now: export, import and verify it again;
    /// [`ErrorKind::InUse`] with what uses a key; those of the repository. Nothing is changed then.
    pub async fn delete_exported(&self, verified: &VerifiedImport) -> Result<()> {
        const OPERATION: &str = "delete_exported";
        self.writable(OPERATION)?;
        let deletion = planner::delete(verified.rows(), Proof::Skipped);
        let Err(error) = self.apply(deletion).await else {
            return Ok(());
        };
        let error = match error.kind() {
            ErrorKind::Conflict => match self.rows(verified.scope()).await {
                Err(gone) if gone.kind() == ErrorKind::UnknownScope => {
                    let version = verified.rows().newest_root_key_version()?;
                    match self
                        .0
                        .repository
                        .scope_of(&version.id.clone().into())
                        .await?
                    {
                        None => return Ok(()),
                        Some(renamed) => Error::new(ErrorKind::ImportMismatch)
                            .with_detail("it was renamed since it was exported")
                            .with_context("renamed_to", renamed),
                    }
                }
                Ok(rows) if !rows.same_keys(verified.rows()) => {
                    Error::new(ErrorKind::ImportMismatch)
                        .with_detail("it has changed since it was exported")
                }
                _ => error,
            },
            _ => error,
        };
        Err(error
            .with_operation(OPERATION)
            .with_context("scope", verified.scope()))
    }

    /// The rows of those of these scopes that have keys.
    async fn rows_of(&self, scopes: &[ScopeId]) -> Result<HashMap<ScopeId, ScopeRows>> {
        if scopes.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.0.repository.load(scopes).await?.scopes.into_iter();
        Ok(rows.map(|rows| (rows.scope.clone(), rows)).collect())
    }

    /// `None` if it is here already.
    async fn plan_import(
        &self,
        exported: &ExportedScope,
        here: Option<&ScopeRows>,
    ) -> Result<Option<Prepared>> {
        if let Some(here) = here {
            return exported.check_same_ids(here).map(|()| None);
        }
        let rows = exported.rows();
        self.0.ensure_right_root_of(rows.root.as_ref()).await?;
        self.0.importer().import(rows).await.map(Some)
    }

    async fn insert(&self, exported: &ExportedScope, change: ChangeSet) -> Result<Imported> {
        let root_key_version = change.insert.root_key_versions[0].id.clone().into();
        let Err(error) = self.apply(change).await else {
            return Ok(Imported::Created);
        };
        match error.kind() {
            // Another process has imported it meanwhile, or created its keys.
            ErrorKind::AlreadyExists => {
                exported.check_same_ids(&self.rows(exported.scope()).await?)?;
                Ok(Imported::AlreadyHere)
            }
            ErrorKind::Conflict => match self.0.repository.scope_of(&root_key_version).await? {
                Some(owner) if owner != *exported.scope() => {
                    Err(Error::new(ErrorKind::ImportMismatch)
                        .with_detail("its key versions are here under another scope")
                        .with_context("other_scope", owner))
                }
                _ => Err(error),
            },
            _ => Err(error),
        }
    }

    /// In one transaction. Returns which were inserted for sure.
    async fn insert_together(&self, planned: &[(&ExportedScope, ChangeSet)]) -> Vec<bool> {
        let changes: Arc<[_]> = planned.iter().map(|(_, change)| change.clone()).collect();
        let apply = self.0.repository.apply(Arc::clone(&changes));
        let outcomes = guarded("the repository panicked", apply).await;
        for change in &*changes {
            self.0.overtake(change);
        }
        match outcomes {
            Ok(outcomes) if outcomes.len() == changes.len() => {
                outcomes.iter().map(Result::is_ok).collect()
            }
            _ => vec![false; changes.len()],
        }
    }
}

impl Engine {
    /// Plans with what opens only bound keys, unless this engine writes unbound ones. Whether one of several scopes' keys is
    /// a copy can't be told in a part of them.
    fn importer(&self) -> Planner {
        let opener = &self.opener;
        Planner {
            opener: Arc::new(Opener {
                roots: Arc::clone(&opener.roots),
                aead: Arc::clone(&opener.aead),
                binding: match opener.binding {
                    Binding::Migrating => Binding::Required,
                    other => other,
                },
                decrypt_only: opener.decrypt_only,
                usage: Usage::default(),
            }),
            parallel: self.planner.parallel,
        }
    }
}

fn importing(error: Error, exported: &ExportedScope) -> Error {
    error
        .with_operation(IMPORT)
        .with_context("scope", exported.scope())
}

/// What [`Kms::import_scope`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// The scope was not here, and its keys are now.
    Created,
    /// The scope was here already, with the same key versions.
    AlreadyHere,
}

/// What [`Kms::import_scopes`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// The scopes whose keys were inserted.
    pub created: Vec<ScopeId>,
    /// The scopes that were here already, with the same key versions.
    pub already_here: Vec<ScopeId>,
    /// The scopes that could not be imported, and why.
    pub failed: Vec<(ScopeId, Error)>,
}

impl ImportReport {
    fn add(&mut self, exported: &ExportedScope, result: Result<Imported>) {
        let scope = exported.scope().clone();
        match result {
            Ok(Imported::Created) => self.created.push(scope),
            Ok(Imported::AlreadyHere) => self.already_here.push(scope),
            Err(error) => self.failed.push((scope, importing(error, exported))),
        }
    }
}
