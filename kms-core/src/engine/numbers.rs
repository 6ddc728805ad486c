//! The numbers to which wrapped keys are bound, where the rows hold others.

use std::collections::HashMap;

use super::Kms;
use crate::error::{ErrorKind, Result};
use crate::id::KeyVersionId;
use crate::scope::ScopeId;
use crate::secret::KeyBytes;

impl Kms {
    /// Finds the numbers that the versions of a scope's keys had when their keys were wrapped, where the rows hold
    /// others: a copy that numbered the rows anew leaves them so, and their keys are
    /// [`TamperedKey`](ErrorKind::TamperedKey) from then on. Changes nothing. What was proven, `renumber` of
    /// `kms-migrations` writes.
    ///
    /// Tries each number from 1 to `up_to`. For a root key version each try is a call of the root wrapper; versions
    /// that open under their own number cost one call. A key that is not bound opens under any number, and nothing
    /// can be proven of it: the engine's [`Binding`](crate::Binding) decides whether it is read at all.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`], those of the repository, and those of the root wrapper that say nothing about a key.
    pub async fn prove_numbers(&self, scope: &ScopeId, up_to: i64) -> Result<Vec<NumberProof>> {
        let rows = self
            .rows(scope)
            .await
            .map_err(|error| error.with_operation("prove_numbers"))?;
        let opener = &self.0.opener;
        let mut proofs = Vec::new();
        let mut root_keys = HashMap::new();
        for version in &rows.root_key_versions {
            let mut search = Search::of(version.version);
            for number in search.numbers(up_to) {
                let opened = opener
                    .root_key_version(
                        rows.root.as_ref(),
                        &rows.scope,
                        &rows.root_key,
                        &version.id,
                        number,
                        &version.key,
                    )
                    .await;
                if let Some(key) = search.end(number, opened)? {
                    root_keys.extend(key.map(|key| {
                        let key = opener.prepare(&key, version.id.text());
                        (version.id.clone(), key)
                    }));
                    break;
                }
            }
            proofs.extend(search.proof(version.id.clone()));
        }
        for key in &rows.data_keys {
            for version in &key.versions {
                let Some(wrapping) = root_keys.get(&version.root_key_version) else {
                    continue;
                };
                let mut search = Search::of(version.version);
                let mut row = version.clone();
                for number in search.numbers(up_to) {
                    row.version = number;
                    let opened = opener.data_key_version(&rows, key, &row, wrapping);
                    if search.end(number, opened)?.is_some() {
                        break;
                    }
                }
                proofs.extend(search.proof(version.id.clone()));
            }
        }
        Ok(proofs)
    }
}

/// A version whose key does not open under the number of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NumberProof {
    /// The version.
    pub id: KeyVersionId,
    /// The number in its row.
    pub stored: i64,
    /// The number to which its key is bound; `None` if it opened under none of those that were tried.
    pub bound: Option<i64>,
}

/// The search for the number of one version.
struct Search {
    stored: i64,
    bound: Option<i64>,
}

impl Search {
    fn of(stored: i64) -> Self {
        Self {
            stored,
            bound: None,
        }
    }

    /// The number of the row, then all others.
    fn numbers(&self, up_to: i64) -> impl Iterator<Item = i64> + use<> {
        let stored = self.stored;
        std::iter::once(stored).chain((1..=up_to).filter(move |number| *number != stored))
    }

    /// Whether the search ends with this try, and the key if it opened.
    fn end(&mut self, number: i64, opened: Result<KeyBytes>) -> Result<Option<Option<KeyBytes>>> {
        match opened {
            Ok(key) => {
                self.bound = Some(number);
                Ok(Some(Some(key)))
            }
            Err(error) if error.kind() == ErrorKind::TamperedKey => Ok(None),
            // Bound to nothing, and not to be read in this mode.
            Err(error) if error.kind() == ErrorKind::UnboundKey => {
                self.bound = Some(self.stored);
                Ok(Some(None))
            }
            Err(error) => Err(error),
        }
    }

    fn proof(&self, id: impl Into<KeyVersionId>) -> Option<NumberProof> {
        (self.bound != Some(self.stored)).then(|| NumberProof {
            id: id.into(),
            stored: self.stored,
            bound: self.bound,
        })
    }
}
