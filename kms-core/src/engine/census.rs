//! Counting what wraps what, over all scopes.

use std::collections::BTreeMap;

use tokio::sync::OnceCell;

use super::Kms;
use crate::blob::Blob;
use crate::error::Result;
use crate::repository::ScopeFilter;
use crate::root_name::RootName;
use crate::rows::ScopeRows;
use crate::wrapper::{Ownership, VersionAge};

/// Scopes that are read at once.
const PAGE: usize = 500;

impl Kms {
    /// Counts, over all scopes, which root keys wrap the root key versions and how many wrapped keys are
    /// bound. It shows when an old root key, or an old version of the present one, can be shut down. No key is
    /// decrypted; the names of roots are resolved. A root wrapper whose key may have versions encrypts one probe, to learn which is the newest; if it
    /// can't, or the engine only decrypts, versions are counted as [untold](Census::version_untold).
    ///
    /// # Errors
    ///
    /// Those of the repository.
    pub async fn census(&self) -> Result<Census> {
        let mut census = Census::default();
        let newest = OnceCell::new();
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
                self.count(&mut census, &rows, &newest).await;
            }
            after = Some(last);
        }
    }

    async fn count(&self, census: &mut Census, rows: &ScopeRows, newest: &OnceCell<bool>) {
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
                    let root = root.as_ref().map(|root| &root.wrapper);
                    let current = root.map(|root| root.is_current(&blob));
                    if current != Some(Ownership::Yes) {
                        census.not_current += 1;
                        of_root.not_current += 1;
                    }
                    census.unknown += u64::from(current == Some(Ownership::Unknown));
                    if let Some(root) = root.filter(|_| current != Some(Ownership::No))
                        && root.version_of(&blob) != VersionAge::Only
                    {
                        // Only of the engine's own root the newest version is asked for.
                        let is_known = rows.root.is_none()
                            && *newest.get_or_init(|| self.learns_newest()).await;
                        match root.version_of(&blob) {
                            VersionAge::Newest | VersionAge::Only if is_known => {}
                            VersionAge::Older if is_known => census.older_version += 1,
                            _ => census.version_untold += 1,
                        }
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

impl Kms {
    /// Whether the root wrapper knows the newest version of its key, and not just one that it saw long ago.
    async fn learns_newest(&self) -> bool {
        let learned = self.0.learn_newest_version().await;
        if let Err(error) = &learned {
            tracing::info!(%error, "which version of the root key is the newest is not known");
        }
        learned.is_ok()
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
    /// Those of [`not_current`](Self::not_current) of which only decrypting them would tell: another key of the pool
    /// has blobs that look the same. A campaign rewraps them, and they are counted here after it too.
    pub unknown: u64,
    /// Root key versions that the encrypting root wrapper's key made, or may have made, in a version that is not its
    /// newest. Until none is left, that version must not be disabled or destroyed in the service.
    pub older_version: u64,
    /// The same where the version is not known: the service does not tell it, or the root wrapper could not be asked
    /// which is the newest.
    pub version_untold: u64,
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
