//! Opening wrapped keys: from rows to a key ring.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::aead::Aead;
use crate::binding::{self, Binding};
use crate::blob::Blob;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::id::{RootKeyId, RootKeyVersionId};
use crate::key_ring::{DataKey, DataKeyVersion, Held, KeyRing, Opened, Ring, RootKeyVersion};
use crate::local_key::LocalKey;
use crate::resting_key::RestingKey;
use crate::rows::{DataKeyRow, DataKeyVersionRow, RootKeyVersionRow, ScopeRows};
use crate::scope::ScopeId;
use crate::secret::{KeyBytes, SecretBytes};
use crate::wrapper::{Ownership, Wrapper};
use smol_str::SmolStr;

/// Opens wrapped keys with the root wrapper, in one binding mode.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) root: Option<Arc<dyn Wrapper>>,
    pub(crate) aead: Arc<dyn Aead>,
    pub(crate) binding: Binding,
    pub(crate) decrypt_only: bool,
}

impl Opener {
    /// Opens the keys of a scope: the newest root key version, those that wrap a data key version, and
    /// all data key versions. What does not open fails alone. Keys whose wrapped form and bound fields
    /// are those of `known` are taken from there. The root wrapper gets `parallel` calls at once.
    pub(crate) async fn open(
        &self,
        rows: &ScopeRows,
        known: Option<&KeyRing>,
        parallel: usize,
    ) -> KeyRing {
        let known = known
            .map(KeyRing::ring)
            .filter(|ring| ring.scope == rows.scope && ring.root_key == rows.root_key);
        let root_keys = self.open_root_keys(rows, known, parallel).await;
        let mut wrapping = Wrapping::new(&root_keys);
        let root_key_versions = rows
            .root_key_versions
            .iter()
            .map(|row| RootKeyVersion {
                id: row.id.clone(),
                version: row.version,
                wrapped: Fingerprint::of(&row.key),
                key: match root_keys.get(&row.id) {
                    None => Opened::NotNeeded(row.key.as_slice().into()),
                    Some(Ok(key)) => Opened::Key(Arc::clone(key)),
                    Some(Err(error)) => Opened::Failed(error.clone()),
                },
            })
            .collect();
        let data_keys = rows
            .data_keys
            .iter()
            .map(|row| DataKey {
                id: row.id.clone(),
                purpose: row.purpose.clone(),
                versions: row
                    .versions
                    .iter()
                    .map(|version| DataKeyVersion {
                        id: version.id.clone(),
                        root_key_version: version.root_key_version.clone(),
                        version: version.version,
                        wrapped: Fingerprint::of(&version.key),
                        key: self.data_key(rows, row, version, &mut wrapping, known),
                    })
                    .collect(),
            })
            .collect();
        let ring = KeyRing::new(Ring {
            scope: rows.scope.clone(),
            root_key: rows.root_key.clone(),
            root_key_versions,
            data_keys,
            encrypts: !self.decrypt_only,
        });
        for (id, error) in ring.failures() {
            tracing::warn!(scope = %rows.scope, key_version = %id, kind = error.kind().name(), "a key version does not open");
        }
        ring
    }

    /// The prepared newest root key version, taken from `known` where it is the same.
    pub(crate) async fn newest_root_key(
        &self,
        rows: &ScopeRows,
        known: Option<&KeyRing>,
    ) -> Result<(RootKeyVersionId, LocalKey)> {
        let newest = rows.newest_root_key_version()?;
        let known = known.and_then(|ring| known_root_key(ring.ring(), rows, newest));
        let key = match known {
            Some(key) => key,
            None => self.open_root_key(rows, newest).await?,
        };
        Ok((newest.id.clone(), key.expand(newest.id.text())))
    }

    /// The bytes of every root key version, to be wrapped anew.
    pub(crate) async fn all_root_keys(
        &self,
        rows: &ScopeRows,
        parallel: usize,
    ) -> Result<HashMap<RootKeyVersionId, KeyBytes>> {
        let unwraps: Vec<_> = rows
            .root_key_versions
            .iter()
            .map(|row| async move {
                let key = self
                    .root_key_version(&rows.scope, &rows.root_key, &row.id, row.version, &row.key)
                    .await?;
                Ok((row.id.clone(), key))
            })
            .collect();
        let mut opened = stream::iter(unwraps).buffered(parallel);
        let mut keys = HashMap::new();
        while let Some(result) = opened.next().await {
            let (id, key) =
                result.map_err(|error: Error| error.with_context("scope", &rows.scope))?;
            keys.insert(id, key);
        }
        Ok(keys)
    }

    /// Unwraps one root key version with the root wrapper.
    pub(crate) async fn root_key_version(
        &self,
        scope: &ScopeId,
        key: &RootKeyId,
        id: &RootKeyVersionId,
        version: i64,
        wrapped: &[u8],
    ) -> Result<KeyBytes> {
        let root = self.root()?;
        let context = |error: Error| {
            error
                .with_context("scope", scope)
                .with_context("key_version", id)
        };
        let blob = Blob::decode(wrapped).map_err(|source| context(tampered(source)))?;
        if root.owns(&blob) == Ownership::No {
            return Err(context(
                Error::new(ErrorKind::ForeignRootKey).with_context("root_key_id", blob.key_id()),
            ));
        }
        let aad = binding::root_key_version(scope, key, id, version);
        let mut opened = Err(Error::new(ErrorKind::AuthenticationFailed));
        for attempt in self.attempts(&blob) {
            opened = root.decrypt(&blob, attempt.aad(&aad)).await;
            if !could_be_otherwise_bound(&opened) {
                break;
            }
        }
        self.finish(opened, &blob).map_err(context)
    }

    /// Unwraps one data key version with the key that wraps it.
    pub(crate) fn data_key_version(
        &self,
        rows: &ScopeRows,
        key: &DataKeyRow,
        version: &DataKeyVersionRow,
        wrapping: &LocalKey,
    ) -> Result<KeyBytes> {
        let context = |error: Error| {
            error
                .with_context("scope", &rows.scope)
                .with_context("purpose", &key.purpose)
                .with_context("key_version", &version.id)
        };
        let blob = Blob::decode(&version.key).map_err(|source| context(tampered(source)))?;
        let aad = binding::data_key_version(
            &rows.scope,
            &key.purpose,
            &key.id,
            &version.id,
            version.version,
            &version.root_key_version,
        );
        let mut opened = Err(Error::new(ErrorKind::AuthenticationFailed));
        for attempt in self.attempts(&blob) {
            opened = wrapping.decrypt(&blob, attempt.aad(&aad));
            if !could_be_otherwise_bound(&opened) {
                break;
            }
        }
        self.finish(opened, &blob).map_err(context)
    }

    /// Prepares a key for use.
    pub(crate) fn prepare(&self, key: &KeyBytes, id: SmolStr) -> LocalKey {
        LocalKey::named(&*self.aead, key, id)
    }

    fn rest(&self, key: &KeyBytes) -> Arc<RestingKey> {
        RestingKey::new(Arc::clone(&self.aead), key)
    }

    pub(crate) fn root(&self) -> Result<&Arc<dyn Wrapper>> {
        self.root
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::NoRootWrapper))
    }

    async fn open_root_keys(
        &self,
        rows: &ScopeRows,
        known: Option<&Ring>,
        parallel: usize,
    ) -> RootKeys {
        let newest = rows.root_key_versions.last().map(|row| &row.id);
        // The newest first: it is what most callers wait for.
        let unwraps: Vec<_> = rows
            .root_key_versions
            .iter()
            .rev()
            .filter(|row| Some(&row.id) == newest || rows.wraps_something(&row.id))
            .map(|row| async move {
                let key = match known.and_then(|ring| known_root_key(ring, rows, row)) {
                    Some(key) => Ok(key),
                    None => self.open_root_key(rows, row).await,
                };
                (row.id.clone(), key)
            })
            .collect();
        stream::iter(unwraps)
            .buffer_unordered(parallel)
            .collect()
            .await
    }

    async fn open_root_key(
        &self,
        rows: &ScopeRows,
        row: &RootKeyVersionRow,
    ) -> Result<Arc<RestingKey>> {
        let bytes = self
            .root_key_version(&rows.scope, &rows.root_key, &row.id, row.version, &row.key)
            .await?;
        Ok(self.rest(&bytes))
    }

    fn data_key(
        &self,
        rows: &ScopeRows,
        key: &DataKeyRow,
        version: &DataKeyVersionRow,
        wrapping: &mut Wrapping<'_>,
        known: Option<&Ring>,
    ) -> Result<Held> {
        let resting = wrapping
            .resting(&version.root_key_version)
            .ok_or_else(|| rows.foreign_wrapping_key(key, version))?
            .map_err(Error::clone)?;
        let encrypts = key
            .versions
            .last()
            .is_some_and(|last| last.id == version.id);
        match known.and_then(|ring| known_data_key(ring, key, version)) {
            Some(Held::Ready(same)) if encrypts => return Ok(Held::Ready(Arc::clone(same))),
            Some(Held::Resting(same)) if !encrypts => return Ok(Held::Resting(Arc::clone(same))),
            // It was the newest until now, and its bytes are not to be had of it; or it is again.
            _ => {}
        }
        let wrapping = wrapping.expanded(&version.root_key_version, resting);
        let bytes = self.data_key_version(rows, key, version, wrapping)?;
        Ok(if encrypts {
            Held::Ready(Arc::new(self.prepare(&bytes, version.id.text())))
        } else {
            Held::Resting(self.rest(&bytes))
        })
    }

    /// The ways in which this mode may open a wrapped key, the likelier first.
    fn attempts(&self, blob: &Blob) -> impl Iterator<Item = Bound> + use<> {
        match self.binding {
            Binding::Required => [Some(Bound::Yes), None],
            _ if blob.is_marked_bound() => [Some(Bound::Yes), Some(Bound::No)],
            _ => [Some(Bound::No), Some(Bound::Yes)],
        }
        .into_iter()
        .flatten()
    }

    fn finish(&self, opened: Result<SecretBytes>, blob: &Blob) -> Result<KeyBytes> {
        match opened {
            Ok(bytes) => KeyBytes::from_slice(bytes.expose()).map_err(tampered),
            Err(error) if could_be_otherwise_bound::<SecretBytes>(&Err(error.clone())) => {
                // The mark is only a hint; here it makes the message more useful, nothing else.
                if self.binding == Binding::Required && !blob.is_marked_bound() {
                    Err(Error::new(ErrorKind::UnboundKey).with_source(error))
                } else {
                    Err(tampered(error))
                }
            }
            Err(error) => Err(error),
        }
    }
}

type RootKeys = HashMap<RootKeyVersionId, Result<Arc<RestingKey>>>;

/// The root key versions of a scope, each expanded once if anything is opened with it.
struct Wrapping<'a> {
    root_keys: &'a RootKeys,
    expanded: HashMap<RootKeyVersionId, LocalKey>,
}

impl<'a> Wrapping<'a> {
    fn new(root_keys: &'a RootKeys) -> Self {
        Self {
            root_keys,
            expanded: HashMap::new(),
        }
    }

    fn resting(&self, id: &RootKeyVersionId) -> Option<Result<&'a RestingKey, &'a Error>> {
        let key = self.root_keys.get(id)?;
        Some(key.as_ref().map(|key| &**key))
    }

    fn expanded(&mut self, id: &RootKeyVersionId, resting: &RestingKey) -> &LocalKey {
        let expand = || resting.expand(id.text());
        self.expanded.entry(id.clone()).or_insert_with(expand)
    }
}

enum Bound {
    Yes,
    No,
}

impl Bound {
    fn aad(self, bound: &[u8]) -> &[u8] {
        match self {
            Self::Yes => bound,
            Self::No => &[],
        }
    }
}

/// Whether this failure may come from trying with the wrong AAD.
fn could_be_otherwise_bound<T>(opened: &Result<T>) -> bool {
    opened.as_ref().is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidBlob
        )
    })
}

fn tampered(source: Error) -> Error {
    Error::new(ErrorKind::TamperedKey).with_source(source)
}

fn known_root_key(
    ring: &Ring,
    rows: &ScopeRows,
    row: &RootKeyVersionRow,
) -> Option<Arc<RestingKey>> {
    if ring.scope != rows.scope || ring.root_key != rows.root_key {
        return None;
    }
    let known = ring
        .root_key_versions
        .iter()
        .find(|known| known.id == row.id)?;
    match &known.key {
        Opened::Key(key)
            if known.version == row.version && known.wrapped == Fingerprint::of(&row.key) =>
        {
            Some(Arc::clone(key))
        }
        _ => None,
    }
}

fn known_data_key<'a>(
    ring: &'a Ring,
    key: &DataKeyRow,
    version: &DataKeyVersionRow,
) -> Option<&'a Held> {
    let known_key = ring
        .data_keys
        .iter()
        .find(|known| known.id == key.id && known.purpose == key.purpose)?;
    let known = known_key.versions.iter().find(|known| {
        known.id == version.id
            && known.version == version.version
            && known.root_key_version == version.root_key_version
            && known.wrapped == Fingerprint::of(&version.key)
    })?;
    known.key.as_ref().ok()
}

impl ScopeRows {
    /// The root key version with the highest number.
    pub(crate) fn newest_root_key_version(&self) -> Result<&RootKeyVersionRow> {
        self.root_key_versions.last().ok_or_else(|| {
            Error::new(ErrorKind::TamperedKey)
                .with_detail("the root key has no version")
                .with_context("scope", &self.scope)
        })
    }

    /// Whether any data key version of the scope is wrapped by this root key version.
    pub(crate) fn wraps_something(&self, id: &RootKeyVersionId) -> bool {
        self.data_keys
            .iter()
            .flat_map(|key| &key.versions)
            .any(|version| version.root_key_version == *id)
    }

    /// The error for a data key version that names a root key version of another scope.
    pub(crate) fn foreign_wrapping_key(
        &self,
        key: &DataKeyRow,
        version: &DataKeyVersionRow,
    ) -> Error {
        Error::new(ErrorKind::TamperedKey)
            .with_detail("wrapped by a root key version that is not this scope's")
            .with_context("scope", &self.scope)
            .with_context("purpose", &key.purpose)
            .with_context("key_version", &version.id)
            .with_context("root_key_version", &version.root_key_version)
    }
}
