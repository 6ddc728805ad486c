//! Rewrapping: the same keys, encrypted anew.

use tokio::task::consume_budget;

use super::*;
use crate::binding::Binding;
use crate::blob::Blob;
use crate::fingerprint::Fingerprint;
use crate::wrapper::{Ownership, VersionAge, Wrapper};

/// Data key versions of a scope in the clear.
pub(super) type DataKeys = HashMap<DataKeyVersionId, KeyBytes>;

/// All keys of a scope in the clear.
pub(crate) struct AllKeys {
    pub(super) root_keys: HashMap<RootKeyVersionId, KeyBytes>,
    pub(super) data_keys: DataKeys,
}

impl Planner {
    /// Everything encrypted anew, or only some root key versions. `None` if there is nothing to do.
    pub(crate) async fn rewrap(
        &self,
        rows: &ScopeRows,
        which: RewrapKeys,
    ) -> Result<Option<Prepared>> {
        let mut draft = Draft::new(rows.scope.clone(), rows.root_key.clone());
        let root = self.opener.roots.of(rows.root.as_ref()).await?;
        match which {
            RewrapKeys::All => {
                let keys = self.open_all(rows).await?;
                self.rewrap_all(&mut draft, &root, rows, &keys).await?;
            }
            RewrapKeys::ForeignRoot | RewrapKeys::OlderVersions => {
                let mut foreign = rows.clone();
                foreign.root_key_versions.retain(|version| {
                    // One that can't be read is not skipped: opening it says what is wrong.
                    Blob::decode(&version.key)
                        .map_or(true, |blob| which.wants(&*root.wrapper, &blob))
                });
                if foreign.root_key_versions.is_empty() {
                    return Ok(None);
                }
                // Where copies are possible, one may be of a key that is the encrypting wrapper's already.
                let opened = match self.opener.binding {
                    Binding::Migrating => rows,
                    Binding::Required | Binding::GoCompatible => &foreign,
                };
                let root_keys = self.opener.all_root_keys(opened, self.parallel).await?;
                self.refuse_copies(rows, &root_keys, &DataKeys::new())?;
                self.rewrap_root_keys(&mut draft, &root, &foreign, &root_keys)
                    .await?;
            }
        }
        Ok(Some(draft.finish(Operation::Rewrap, Some(rows.clone()))))
    }

    /// The bytes of every key version of a scope. Refused if two are the same.
    pub(crate) async fn open_all(&self, rows: &ScopeRows) -> Result<AllKeys> {
        let root_keys = self.opener.all_root_keys(rows, self.parallel).await?;
        let data_keys = self.all_data_keys(rows, &root_keys).await?;
        self.refuse_copies(rows, &root_keys, &data_keys)?;
        Ok(AllKeys {
            root_keys,
            data_keys,
        })
    }

    /// Encrypts every key version anew for its place in these rows: the root key versions by this root, the data key
    /// versions by the newest root key version.
    pub(super) async fn rewrap_all(
        &self,
        draft: &mut Draft,
        root: &Root,
        rows: &ScopeRows,
        keys: &AllKeys,
    ) -> Result<()> {
        let newest = &rows.newest_root_key_version()?.id;
        self.rewrap_root_keys(draft, root, rows, &keys.root_keys)
            .await?;
        let wrapping = self.opener.prepare(&keys.root_keys[newest], newest.text());
        self.rewrap_data_keys(draft, rows, &keys.data_keys, newest, &wrapping)
            .await
    }

    /// The bytes of every data key version.
    pub(super) async fn all_data_keys(
        &self,
        rows: &ScopeRows,
        root_keys: &HashMap<RootKeyVersionId, KeyBytes>,
    ) -> Result<DataKeys> {
        let prepared: HashMap<_, _> = root_keys
            .iter()
            .map(|(id, bytes)| (id, self.opener.prepare(bytes, id.text())))
            .collect();
        let mut keys = DataKeys::new();
        for key in &rows.data_keys {
            for version in &key.versions {
                let wrapping = prepared
                    .get(&version.root_key_version)
                    .ok_or_else(|| rows.foreign_wrapping_key(key, version))?;
                let bytes = self.opener.data_key_version(rows, key, version, wrapping)?;
                keys.insert(version.id.clone(), bytes);
                consume_budget().await;
            }
        }
        Ok(keys)
    }

    pub(super) async fn rewrap_root_keys(
        &self,
        draft: &mut Draft,
        root: &Root,
        rows: &ScopeRows,
        keys: &HashMap<RootKeyVersionId, KeyBytes>,
    ) -> Result<()> {
        let wraps: Vec<_> = rows
            .root_key_versions
            .iter()
            .map(|row| async move {
                let key = self
                    .wrap_root_key(
                        root,
                        &rows.scope,
                        &rows.root_key,
                        &row.id,
                        row.version,
                        &keys[&row.id],
                    )
                    .await?;
                Ok::<_, Error>((row.id.clone(), key))
            })
            .collect();
        draft.update.root_key_versions = stream::iter(wraps)
            .buffered(self.parallel)
            .try_collect()
            .await?;
        Ok(())
    }

    pub(super) async fn rewrap_data_keys(
        &self,
        draft: &mut Draft,
        rows: &ScopeRows,
        keys: &DataKeys,
        root_version: &RootKeyVersionId,
        wrapping: &LocalKey,
    ) -> Result<()> {
        for key in &rows.data_keys {
            for version in &key.versions {
                let place = place(rows, key, &version.id, version.version);
                draft
                    .update
                    .data_key_versions
                    .push(RewrappedDataKeyVersion {
                        id: version.id.clone(),
                        root_key_version: root_version.clone(),
                        key: self.wrap_data_key(
                            &place,
                            root_version,
                            wrapping,
                            &keys[&version.id],
                        )?,
                    });
                consume_budget().await;
            }
        }
        Ok(())
    }

    /// Two rows with one key: one of them is a copy, put there by somebody. Bound into both places it would
    /// be legitimate for good. (An unbound mode has nothing to make permanent.)
    pub(super) fn refuse_copies(
        &self,
        rows: &ScopeRows,
        root_keys: &HashMap<RootKeyVersionId, KeyBytes>,
        data_keys: &DataKeys,
    ) -> Result<()> {
        if !self.opener.binding.binds() {
            return Ok(());
        }
        let mut all: Vec<(&str, &KeyBytes)> = root_keys
            .iter()
            .map(|(id, key)| (id.as_str(), key))
            .chain(data_keys.iter().map(|(id, key)| (id.as_str(), key)))
            .collect();
        all.sort_by_key(|(id, _)| *id);
        let mut seen = HashMap::with_capacity(all.len());
        for (id, key) in all {
            // By a keyed hash, so that nothing depends on the keys' bytes but this answer.
            if let Some(copy) = seen.insert(Fingerprint::of(key.expose()), id) {
                return Err(Error::new(ErrorKind::DuplicateKey)
                    .with_context("scope", &rows.scope)
                    .with_context("key_version", copy)
                    .with_context("other_key_version", id));
            }
        }
        Ok(())
    }
}

/// The ciphertexts of all wrapped keys of a scope, by which a copy in another scope is found. (Not the
/// whole blobs: whoever copies one can encode it in another way. And not only those without the mark of
/// a bound key, which anybody can set.)
pub(crate) fn ciphertexts(rows: &ScopeRows) -> impl Iterator<Item = Vec<u8>> {
    let root = rows.root_key_versions.iter().map(|version| &version.key);
    let data = rows
        .data_keys
        .iter()
        .flat_map(|key| &key.versions)
        .map(|version| &version.key);
    root.chain(data)
        .filter_map(|key| Some(Blob::decode(key).ok()?.ciphertext().to_vec()))
}

/// Which keys [`Kms::rewrap_keys`](crate::Kms::rewrap_keys) encrypts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RewrapKeys {
    /// Every root key version by the root wrapper, and every data key version by the newest root key
    /// version.
    #[default]
    All,
    /// Only the root key versions that the encrypting root wrapper did not, or not surely, make: what moving to
    /// another root key needs.
    ForeignRoot,
    /// Only the root key versions that an older version of the encrypting root wrapper's key made, or made in a version
    /// that is not told: what shutting down an old version in the service needs.
    OlderVersions,
}

impl RewrapKeys {
    /// Whether this root key version is among those to be wrapped anew.
    fn wants(self, root: &dyn Wrapper, blob: &Blob) -> bool {
        match self {
            Self::All => true,
            Self::ForeignRoot => root.is_current(blob) != Ownership::Yes,
            Self::OlderVersions => {
                root.is_current(blob) != Ownership::No
                    && !matches!(root.version_of(blob), VersionAge::Newest | VersionAge::Only)
            }
        }
    }
}

fn place<'a>(
    rows: &'a ScopeRows,
    key: &'a DataKeyRow,
    id: &'a DataKeyVersionId,
    version: i64,
) -> DataKeyPlace<'a> {
    DataKeyPlace {
        scope: &rows.scope,
        purpose: &key.purpose,
        key: &key.id,
        id,
        version,
    }
}
