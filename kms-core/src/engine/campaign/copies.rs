//! Finding wrapped keys that were copied from one scope to another, over all scopes at once.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::patience::persist;
use crate::error::{Error, ErrorKind, Result};
use crate::planner;
use crate::repository::{Repository, ScopeFilter};
use crate::rows::ScopeRows;

/// Scopes that are read at once.
const PAGE: usize = 500;

/// The ciphertexts that wrapped keys of more than one scope hold, as keyed 64-bit hashes: one pass over
/// all scopes, where asking for each scope would read the whole table each time.
pub(super) struct Copies {
    hasher: RandomState,
    copied: HashSet<u64>,
}

impl Copies {
    pub(super) async fn find(repository: &dyn Repository, patience: Duration) -> Result<Self> {
        let mut copies = Self {
            hasher: RandomState::new(),
            copied: HashSet::new(),
        };
        let mut first_seen: HashMap<u64, u64> = HashMap::new();
        let filter = ScopeFilter::default();
        let mut after = None;
        loop {
            let after_last = after.as_ref();
            let page = persist(patience, || repository.scopes(&filter, after_last, PAGE)).await?;
            let Some(last) = page.last().cloned() else {
                return Ok(copies);
            };
            for rows in persist(patience, || repository.load(&page)).await?.scopes {
                let scope = copies.hasher.hash_one(rows.scope.as_str());
                for ciphertext in planner::ciphertexts(&rows) {
                    let hash = copies.hasher.hash_one(&ciphertext);
                    if *first_seen.entry(hash).or_insert(scope) != scope {
                        copies.copied.insert(hash);
                    }
                }
            }
            after = Some(last);
        }
    }

    pub(super) fn refuse(&self, rows: &ScopeRows) -> Result<()> {
        let copied = planner::ciphertexts(rows)
            .any(|ciphertext| self.copied.contains(&self.hasher.hash_one(&ciphertext)));
        if copied {
            return Err(Error::new(ErrorKind::DuplicateKey)
                .with_detail("a key version of another scope holds a wrapped key of this one")
                .with_context("scope", &rows.scope));
        }
        Ok(())
    }
}
