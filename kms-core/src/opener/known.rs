//! What is held of a scope already, and may be kept.

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::id::KeyVersionId;

/// The keys that were opened before, to be found by their ids.
pub(super) struct Known<'a> {
    root_keys: HashMap<&'a RootKeyVersionId, &'a RootKeyVersion>,
    data_keys: HashMap<&'a DataKeyVersionId, (&'a DataKey, &'a DataKeyVersion)>,
    /// Whether keys may be kept, or failures only.
    keep: bool,
}

/// What is kept of a data key version.
pub(super) enum Kept {
    /// Its key: the row is the one that it was opened from.
    Key(Held),
    /// Its failure: nothing that could mend it has changed, and it is not due.
    Failure(Arc<Failure>),
    /// It is to be opened.
    Nothing,
}

impl<'a> Known<'a> {
    pub(super) fn of(ring: Option<&'a KeyRing>, rows: &ScopeRows, keep: bool) -> Self {
        let ring = ring
            .map(KeyRing::ring)
            .filter(|ring| ring.scope == rows.scope && ring.root_key == rows.root_key);
        let (root_keys, data_keys) = match ring {
            Some(ring) => (&ring.root_key_versions[..], &ring.data_keys[..]),
            None => (&[][..], &[][..]),
        };
        let versions = data_keys
            .iter()
            .flat_map(|key| key.versions.iter().map(move |version| (key, version)));
        Self {
            root_keys: root_keys.iter().map(|known| (&known.id, known)).collect(),
            data_keys: versions.map(|known| (&known.1.id, known)).collect(),
            keep,
        }
    }

    /// What became of this root key version, if its row is still the same.
    pub(super) fn root_key(&self, row: &RootKeyVersionRow) -> Option<Opened> {
        let known = self.root_keys.get(&row.id)?;
        let same = known.version == row.version && known.wrapped == Fingerprint::of(&row.key);
        match &known.key {
            Opened::Key(key) if same && self.keep => Some(Opened::Key(Arc::clone(key))),
            Opened::Failed(failure) if same => Some(Opened::Failed(Arc::clone(failure))),
            _ => None,
        }
    }

    /// What is kept of each version of a data key.
    pub(super) fn kept(&self, rows: &ScopeRows, key: &DataKeyRow, now: Moment) -> Vec<Kept> {
        if self.data_keys.is_empty() {
            return key.versions.iter().map(|_| Kept::Nothing).collect();
        }
        let root_rows: HashMap<_, _> = rows
            .root_key_versions
            .iter()
            .map(|row| (&row.id, row))
            .collect();
        key.versions
            .iter()
            .map(
                |version| match self.same(key, version).map(|known| &known.key) {
                    Some(Ok(held)) if self.keep => Kept::Key(held.clone()),
                    Some(Err(failure)) => {
                        let root = root_rows.get(&version.root_key_version);
                        if !failure.is_due(now)
                            && root.is_none_or(|root| self.is_same_root_key(root))
                        {
                            Kept::Failure(Arc::clone(failure))
                        } else {
                            Kept::Nothing
                        }
                    }
                    Some(Ok(_)) | None => Kept::Nothing,
                },
            )
            .collect()
    }

    /// The failure of this version before, whatever its row was.
    pub(super) fn failure(&self, version: &DataKeyVersionRow) -> Option<&'a Failure> {
        let (_, known) = self.data_keys.get(&version.id)?;
        known.key.as_ref().err().map(|failure| &**failure)
    }

    /// Says which key versions do not open, and which do again: once for each change.
    pub(super) fn log_changes(&self, ring: &KeyRing) {
        let scope = ring.scope();
        let mut failed = HashMap::new();
        for (id, failure) in ring.failed_versions() {
            let kind = failure.error().kind();
            if self.failure_of(&id) != Some(kind) {
                tracing::warn!(%scope, key_version = %id, kind = kind.name(), "a key version does not open");
            }
            failed.insert(id, kind);
        }
        if self.has_failures() {
            let opened = ring
                .ring()
                .data_keys
                .iter()
                .flat_map(|key| &key.versions)
                .map(|version| version.id.clone().into())
                .chain(
                    ring.ring()
                        .root_key_versions
                        .iter()
                        .filter(|version| matches!(version.key, Opened::Key(_)))
                        .map(|version| version.id.clone().into()),
                );
            for id in opened.filter(|id| !failed.contains_key(id)) {
                if self.failure_of(&id).is_some() {
                    tracing::info!(%scope, key_version = %id, "a key version opens again");
                }
            }
        }
    }

    fn has_failures(&self) -> bool {
        let root = |known: &&RootKeyVersion| matches!(known.key, Opened::Failed(_));
        self.root_keys.values().any(root)
            || self.data_keys.values().any(|(_, known)| known.key.is_err())
    }

    fn failure_of(&self, id: &KeyVersionId) -> Option<ErrorKind> {
        let failure = match id {
            KeyVersionId::Root(id) => match &self.root_keys.get(id)?.key {
                Opened::Failed(failure) => failure,
                _ => return None,
            },
            KeyVersionId::Data(id) => self.data_keys.get(id)?.1.key.as_ref().err()?,
        };
        Some(failure.error().kind())
    }

    fn is_same_root_key(&self, row: &RootKeyVersionRow) -> bool {
        self.root_keys.get(&row.id).is_some_and(|known| {
            known.version == row.version && known.wrapped == Fingerprint::of(&row.key)
        })
    }

    fn same(&self, key: &DataKeyRow, row: &DataKeyVersionRow) -> Option<&'a DataKeyVersion> {
        let (known_key, known) = self.data_keys.get(&row.id)?;
        let same = known_key.id == key.id
            && known_key.purpose == key.purpose
            && known.row == row.fingerprint();
        same.then_some(*known)
    }
}
