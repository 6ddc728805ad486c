//! Plans changes: from rows and keys to change sets. Calls the root wrapper, never the database.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::binding;
use crate::blob::Blob;
use crate::change::{
    ChangeSet, Deletion, DeletionTarget, Inserts, NewDataKey, NewDataKeyVersion, NewRootKeyVersion,
    Operation, Proof, RewrappedDataKeyVersion, RootChange, Updates,
};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::id::{DataKeyId, DataKeyVersionId, KeyVersionId, RootKeyId, RootKeyVersionId};
use crate::local_key::LocalKey;
use crate::opener::Opener;
use crate::prepared::{PendingDataKeyWrapper, Prepared};
use crate::root_name::RootName;
use crate::roots::Root;
use crate::rows::{DataKeyRow, ScopeRows};
use crate::scope::{Purpose, ScopeId};
use crate::secret::KeyBytes;

mod assign;
mod moving;
mod rewrap;

pub use rewrap::RewrapKeys;
pub(crate) use rewrap::ciphertexts;

/// Plans the changes of one engine.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    pub(crate) opener: Arc<Opener>,
    /// Calls to the root wrapper at once, for one plan.
    pub(crate) parallel: usize,
}

/// What a plan collects on its way.
struct Draft {
    scope: ScopeId,
    root_key: RootKeyId,
    insert: Inserts,
    update: Updates,
    root: RootChange,
    pending: Vec<PendingDataKeyWrapper>,
}

impl Planner {
    pub(crate) async fn create(
        &self,
        scope: &ScopeId,
        root: Option<&RootName>,
        purposes: &[Purpose],
    ) -> Result<Prepared> {
        let mut draft = Draft::new(scope.clone(), RootKeyId::generate());
        draft.insert.root_key = true;
        if let Some(name) = root {
            draft.root = RootChange::Assign(name.clone());
        }
        let root = self.opener.roots.of(root).await?;
        let (root_version, wrapping) = self.new_root_key_version(&mut draft, &root, 1).await?;
        for purpose in purposes {
            self.new_data_key(&mut draft, purpose, &root_version, &wrapping)?;
        }
        Ok(draft.finish(Operation::Create, None))
    }

    pub(crate) async fn rotate(&self, rows: &ScopeRows, rewrap: bool) -> Result<Prepared> {
        let mut draft = Draft::new(rows.scope.clone(), rows.root_key.clone());
        let newest = rows.newest_root_key_version()?;
        let root = self.opener.roots.of(rows.root.as_ref()).await?;
        // Keys that this root can't open are another root's: whoever took a row of `kms_scope_root` away, or gave a name
        // to another root, must not have the scope's next keys under this one.
        if let Ok(blob) = Blob::decode(&newest.key) {
            root.may_have_made(&blob)
                .map_err(|error| root.names(error.with_context("key_version", &newest.id)))?;
            // Where ids can't tell, opening does; a rewrap opens all of them anyway.
            if !rewrap && !root.surely_made(&blob) {
                self.opener.root_key_version_of(rows, newest).await?;
            }
        }
        let newest = newest.version;
        let (root_version, wrapping) = self
            .new_root_key_version(&mut draft, &root, newest + 1)
            .await?;
        if rewrap {
            let root_keys = self.opener.all_root_keys(rows, self.parallel).await?;
            let data_keys = self.all_data_keys(rows, &root_keys).await?;
            self.refuse_copies(rows, &root_keys, &data_keys)?;
            self.rewrap_root_keys(&mut draft, &root, rows, &root_keys)
                .await?;
            self.rewrap_data_keys(&mut draft, rows, &data_keys, &root_version, &wrapping)
                .await?;
        }
        for key in &rows.data_keys {
            let version = key.versions.last().map_or(1, |newest| newest.version + 1);
            self.new_data_key_version(
                &mut draft,
                &key.id,
                &key.purpose,
                version,
                &root_version,
                &wrapping,
            )?;
        }
        Ok(draft.finish(Operation::Rotate, Some(rows.clone())))
    }

    /// `wrapping` is the newest root key version.
    pub(crate) fn reconcile(
        &self,
        rows: &ScopeRows,
        purposes: &[Purpose],
        (root_version, wrapping): &(RootKeyVersionId, LocalKey),
    ) -> Result<Prepared> {
        let mut draft = Draft::new(rows.scope.clone(), rows.root_key.clone());
        for purpose in purposes {
            self.new_data_key(&mut draft, purpose, root_version, wrapping)?;
        }
        Ok(draft.finish(Operation::Reconcile, Some(rows.clone())))
    }

    async fn new_root_key_version(
        &self,
        draft: &mut Draft,
        root: &Root,
        version: i64,
    ) -> Result<(RootKeyVersionId, LocalKey)> {
        let id = RootKeyVersionId::generate();
        let bytes = KeyBytes::generate()?;
        let key = self
            .wrap_root_key(root, &draft.scope, &draft.root_key, &id, version, &bytes)
            .await?;
        draft.insert.root_key_versions.push(NewRootKeyVersion {
            id: id.clone(),
            version,
            key,
        });
        let prepared = self.opener.prepare(&bytes, id.text());
        Ok((id, prepared))
    }

    async fn wrap_root_key(
        &self,
        root: &Root,
        scope: &ScopeId,
        key: &RootKeyId,
        id: &RootKeyVersionId,
        version: i64,
        bytes: &KeyBytes,
    ) -> Result<Vec<u8>> {
        let binds = self.opener.binding.binds();
        let aad = if binds {
            binding::root_key_version(scope, key, id, version)
        } else {
            Vec::new()
        };
        let call = async { root.wrapper.encrypt(bytes.expose(), &aad).await };
        let blob = guarded("the root wrapper panicked", call)
            .await
            .map_err(|error| root.names(error.with_context("scope", scope)))?;
        let blob = if binds { blob.marked_bound() } else { blob };
        Ok(blob.encode())
    }

    fn new_data_key(
        &self,
        draft: &mut Draft,
        purpose: &Purpose,
        root_version: &RootKeyVersionId,
        wrapping: &LocalKey,
    ) -> Result<()> {
        let id = DataKeyId::generate();
        draft.insert.data_keys.push(NewDataKey {
            id: id.clone(),
            purpose: purpose.clone(),
        });
        self.new_data_key_version(draft, &id, purpose, 1, root_version, wrapping)
    }

    fn new_data_key_version(
        &self,
        draft: &mut Draft,
        data_key: &DataKeyId,
        purpose: &Purpose,
        version: i64,
        root_version: &RootKeyVersionId,
        wrapping: &LocalKey,
    ) -> Result<()> {
        let id = DataKeyVersionId::generate();
        let bytes = KeyBytes::generate()?;
        let place = DataKeyPlace {
            scope: &draft.scope,
            purpose,
            key: data_key,
            id: &id,
            version,
        };
        let key = self.wrap_data_key(&place, root_version, wrapping, &bytes)?;
        draft.insert.data_key_versions.push(NewDataKeyVersion {
            id: id.clone(),
            data_key: data_key.clone(),
            root_key_version: root_version.clone(),
            version,
            key,
        });
        let prepared = self.opener.prepare_data_key(&bytes, &id);
        draft.pending.push(PendingDataKeyWrapper::new(
            draft.scope.clone(),
            purpose.clone(),
            id,
            Arc::new(prepared),
        ));
        Ok(())
    }

    fn wrap_data_key(
        &self,
        place: &DataKeyPlace<'_>,
        root_version: &RootKeyVersionId,
        wrapping: &LocalKey,
        bytes: &KeyBytes,
    ) -> Result<Vec<u8>> {
        if !self.opener.binding.binds() {
            return Ok(wrapping.encrypt(bytes.expose(), &[])?.encode());
        }
        let aad = binding::data_key_version(
            place.scope,
            place.purpose,
            place.key,
            place.id,
            place.version,
            root_version,
        );
        Ok(wrapping
            .encrypt(bytes.expose(), &aad)?
            .marked_bound()
            .encode())
    }
}

/// Where a data key version belongs.
struct DataKeyPlace<'a> {
    scope: &'a ScopeId,
    purpose: &'a Purpose,
    key: &'a DataKeyId,
    id: &'a DataKeyVersionId,
    version: i64,
}

/// Plans the deletion of one key version; `rows` are its scope's.
///
/// # Errors
///
/// [`ErrorKind::UnknownKeyVersion`], [`ErrorKind::NewestVersion`], and those of [`Deletion::check`].
pub(crate) fn revoke(rows: &ScopeRows, id: &KeyVersionId, proof: Proof) -> Result<ChangeSet> {
    let refused = match is_newest(rows, id) {
        None => Some(ErrorKind::UnknownKeyVersion),
        Some(true) => Some(ErrorKind::NewestVersion),
        Some(false) => None,
    };
    if let Some(kind) = refused {
        return Err(Error::new(kind)
            .with_context("scope", &rows.scope)
            .with_context("key_version", id));
    }
    let target = DeletionTarget::Version(id.clone());
    let deletion = Deletion { target, proof };
    deletion.check(rows)?;
    Ok(deleting(rows, Operation::Revoke, deletion))
}

/// Plans the deletion of all keys of a scope.
pub(crate) fn delete(rows: &ScopeRows, proof: Proof) -> ChangeSet {
    let target = DeletionTarget::Scope;
    deleting(rows, Operation::Delete, Deletion { target, proof })
}

fn deleting(rows: &ScopeRows, operation: Operation, deletion: Deletion) -> ChangeSet {
    ChangeSet {
        operation,
        scope: rows.scope.clone(),
        root_key: rows.root_key.clone(),
        expected: Some(rows.clone()),
        insert: Inserts::default(),
        update: Updates::default(),
        root: RootChange::Keep,
        delete: Some(deletion),
    }
}

/// `None` if the id is not among the versions.
fn is_newest(rows: &ScopeRows, id: &KeyVersionId) -> Option<bool> {
    match id {
        KeyVersionId::Root(id) => {
            is_last(rows.root_key_versions.iter().map(|version| &version.id), id)
        }
        KeyVersionId::Data(id) => rows
            .data_keys
            .iter()
            .find_map(|key| is_last(key.versions.iter().map(|version| &version.id), id)),
    }
}

fn is_last<'a, T: PartialEq + 'a>(
    versions: impl DoubleEndedIterator<Item = &'a T>,
    id: &T,
) -> Option<bool> {
    versions
        .rev()
        .position(|known| known == id)
        .map(|from_newest| from_newest == 0)
}

impl Draft {
    fn new(scope: ScopeId, root_key: RootKeyId) -> Self {
        Self {
            scope,
            root_key,
            insert: Inserts::default(),
            update: Updates::default(),
            root: RootChange::Keep,
            pending: Vec::new(),
        }
    }

    fn finish(self, operation: Operation, expected: Option<ScopeRows>) -> Prepared {
        Prepared::new(
            ChangeSet {
                operation,
                scope: self.scope,
                root_key: self.root_key,
                expected,
                insert: self.insert,
                update: self.update,
                root: self.root,
                delete: None,
            },
            self.pending,
        )
    }
}
