//! Making the data keys that scopes lack.

use futures_util::{StreamExt as _, stream};

use super::Kms;
use super::changes::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::{Lack, MissingKeys};
use crate::scope::{Purpose, ScopeId};

/// Scopes that are worked on at once.
const CONCURRENT_SCOPES: usize = 8;

impl Kms {
    /// Creates every data key of these purposes that these scopes lack: one query to find them, and one
    /// transaction per scope that lacks any. After a release that brings a new purpose, say.
    ///
    /// # Errors
    ///
    /// Purposes as for [`create_keys`](Self::create_keys); those of the repository while looking. What
    /// fails for single scopes is in the [`Reconciliation`], and the others are still done.
    pub async fn reconcile_keys(
        &self,
        scopes: Scopes<'_>,
        purposes: &[Purpose],
    ) -> Result<Reconciliation> {
        const OPERATION: &str = "reconcile_keys";
        self.writable(OPERATION)?;
        self.accept_purposes(purposes)
            .map_err(|error| error.with_operation(OPERATION))?;
        let only = match scopes {
            Scopes::All => None,
            Scopes::Only(scopes) => Some(scopes),
        };
        let missing = self
            .0
            .repository
            .missing(purposes, only)
            .await
            .map_err(|error| error.with_operation(OPERATION))?;
        let work: Vec<_> = missing
            .into_iter()
            .map(|missing| async move {
                let result = self.reconcile(&missing, purposes).await;
                (missing.scope, result)
            })
            .collect();
        let results: Vec<_> = stream::iter(work)
            .buffered(CONCURRENT_SCOPES)
            .collect()
            .await;
        let mut outcome = Reconciliation::default();
        for (scope, result) in results {
            match result {
                Ok(created) if created.is_empty() => {}
                Ok(created) => outcome.created.push((scope, created)),
                Err(error) => outcome.failed.push((scope, error)),
            }
        }
        Ok(outcome)
    }

    async fn reconcile(&self, missing: &MissingKeys, purposes: &[Purpose]) -> Result<Vec<Purpose>> {
        if missing.lack == Lack::RootKey {
            return Err(Error::new(ErrorKind::UnknownScope)
                .with_operation("reconcile_keys")
                .with_context("scope", &missing.scope));
        }
        let applied = self
            .change(Request::Reconcile(&missing.scope, purposes))
            .await?;
        Ok(applied.map_or_else(Vec::new, |change| {
            change
                .insert
                .data_keys
                .into_iter()
                .map(|key| key.purpose)
                .collect()
        }))
    }
}

/// Which scopes an operation is about.
#[derive(Clone, Copy, Debug)]
pub enum Scopes<'a> {
    /// Every scope that has keys.
    All,
    /// These.
    Only(&'a [ScopeId]),
}

/// What [`Kms::reconcile_keys`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Reconciliation {
    /// The purposes for which data keys were created, by scope.
    pub created: Vec<(ScopeId, Vec<Purpose>)>,
    /// The scopes that could not be done, and why; `UnknownScope` for one without root key.
    pub failed: Vec<(ScopeId, Error)>,
}
