//! Counting what wraps what, over all scopes.

use std::collections::BTreeMap;

use super::Kms;
use crate::blob::Blob;
use crate::error::Result;
use crate::repository::ScopeFilter;
use crate::rows::ScopeRows;
use crate::wrapper::Ownership;

/// Scopes that are read at once.
const PAGE: usize = 500;

impl Kms {
    /// Counts, over all scopes, which root keys wrap the root key versions and how many wrapped keys are
    /// bound. It shows when an old root key can be shut down. No key is decrypted.
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
                self.count(&mut census, &rows);
            }
            after = Some(last);
        }
    }

    fn count(&self, census: &mut Census, rows: &ScopeRows) {
        census.scopes += 1;
        for version in &rows.root_key_versions {
            census.root_key_versions += 1;
            match Blob::decode(&version.key) {
                Err(_) => census.unreadable += 1,
                Ok(blob) => {
                    let current = self
                        .0
                        .opener
                        .root
                        .as_ref()
                        .map(|root| root.is_current(&blob));
                    if current != Some(Ownership::Yes) {
                        census.not_current += 1;
                    }
                    census.unbound += u64::from(!blob.is_marked_bound());
                    *census
                        .by_root_key
                        .entry(blob.key_id().to_owned())
                        .or_default() += 1;
                }
            }
        }
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
    /// Root key versions that are not, or not surely, wrapped by the encrypting root wrapper.
    pub not_current: u64,
    /// Wrapped keys that are not marked as bound to their rows. The mark is a hint: what is bound shows
    /// when it is opened.
    pub unbound: u64,
    /// Wrapped keys that are no blobs.
    pub unreadable: u64,
}
