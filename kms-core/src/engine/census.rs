//! Counting what wraps what, over all scopes.

use std::collections::BTreeMap;

use super::Kms;
use crate::blob::Blob;
use crate::error::Result;
use crate::repository::ScopeFilter;
use crate::root_name::RootName;
use crate::rows::ScopeRows;
use crate::wrapper::Ownership;

/// Scopes that are read at once.
const PAGE: usize = 500;

impl Kms {
    /// Counts, over all scopes, which root keys wrap the root key versions and how many wrapped keys are
    /// bound. It shows when an old root key can be shut down. No key is decrypted; the names of roots are resolved.
    ///
    /// # Errors
    ///
    /// Those of the repository.
    pub async fn census(&self) -> Result<Census> {
        let mut census = Census::default();
        let filter = ScopeFilter::default();
        let mut after = None;
        loop {
            let page = self
                .0
                .repository
                .scopes(&filter, after.as_ref(), PAGE)
                .await?;
            let Some(last) = page.last().cloned() else {
                return Ok(census);
            };
            for rows in self.0.repository.load(&page).await?.scopes {
                self.count(&mut census, &rows).await;
            }
            after = Some(last);
        }
    }

    async fn count(&self, census: &mut Census, rows: &ScopeRows) {
        // Of one that can't be had now, no version is surely current.
        let root = self.0.opener.roots.of(rows.root.as_ref()).await.ok();
        let mut of_root = census.by_root.remove(&rows.root).unwrap_or_default();
        of_root.scopes += 1;
        of_root.unresolved += u64::from(root.is_none());
        census.scopes += 1;
        for version in &rows.root_key_versions {
            census.root_key_versions += 1;
            of_root.root_key_versions += 1;
            match Blob::decode(&version.key) {
                Err(_) => census.unreadable += 1,
                Ok(blob) => {
                    let current = root.as_ref().map(|root| root.wrapper.is_current(&blob));
                    if current != Some(Ownership::Yes) {
                        census.not_current += 1;
                        of_root.not_current += 1;
                    }
                    census.unbound += u64::from(!blob.is_marked_bound());
                    *census
                        .by_root_key
                        .entry(blob.key_id().to_owned())
                        .or_default() += 1;
                }
            }
        }
        census.by_root.insert(rows.root.clone(), of_root);
        for version in rows.data_keys.iter().flat_map(|key| &key.versions) {
            census.data_key_versions += 1;
            match Blob::decode(&version.key) {
                Err(_) => census.unreadable += 1,
                Ok(blob) => census.unbound += u64::from(!blob.is_marked_bound()),
            }
        }
    }
}

/// What [`Kms::census`] counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Scopes that have keys.
    pub scopes: u64,
    /// Root key versions of all scopes.
    pub root_key_versions: u64,
    /// Data key versions of all scopes.
    pub data_key_versions: u64,
    /// Root key versions by the id of the root key that wraps them, as their blobs name it.
    pub by_root_key: BTreeMap<String, u64>,
    /// The same by the root of the scopes: `None` is the engine's own, the others are named ones.
    pub by_root: BTreeMap<Option<RootName>, RootCensus>,
    /// Root key versions that are not, or not surely, wrapped by the root that encrypts for their scope.
    pub not_current: u64,
    /// Wrapped keys that are not marked as bound to their rows. The mark is a hint: what is bound shows
    /// when it is opened.
    pub unbound: u64,
    /// Wrapped keys that are no blobs.
    pub unreadable: u64,
}

/// What [`Kms::census`] counted of the scopes under one root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootCensus {
    /// The scopes.
    pub scopes: u64,
    /// Their root key versions.
    pub root_key_versions: u64,
    /// Root key versions that are not, or not surely, wrapped by this root as it encrypts now.
    pub not_current: u64,
    /// The scopes for which the root could not be had: the resolver failed or does not know it, or there is none.
    pub unresolved: u64,
}
