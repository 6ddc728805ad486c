//! The same keys in another place: in another database, or under another scope id of this one.

use super::rewrap::AllKeys;
use super::*;

impl Planner {
    /// All keys of a scope of another database. They keep their ids. Their numbers are those that this database assigns:
    /// from 1 on, without the gaps that revocations left.
    pub(crate) async fn import(&self, exported: &ScopeRows) -> Result<Prepared> {
        let root = self.opener.roots.of(exported.root.as_ref()).await?;
        let keys = self.open_all(exported).await?;
        let rows = renumbered(exported);
        let mut draft = Draft::new(rows.scope.clone(), rows.root_key.clone());
        if let Some(name) = &rows.root {
            draft.root = RootChange::Assign(name.clone());
        }
        self.rewrap_all(&mut draft, &root, &rows, &keys).await?;
        draft.insert = inserts(&rows, std::mem::take(&mut draft.update));
        Ok(draft.finish(Operation::Import, None))
    }

    /// Another id for a scope. Every other id and every number stays.
    pub(crate) async fn rename(&self, rows: &ScopeRows, to: &ScopeId) -> Result<Prepared> {
        let root = self.opener.roots.of(rows.root.as_ref()).await?;
        let keys = self.open_all(rows).await?;
        let renamed = ScopeRows {
            scope: to.clone(),
            ..rows.clone()
        };
        let mut draft = Draft::new(rows.scope.clone(), rows.root_key.clone());
        self.rewrap_all(&mut draft, &root, &renamed, &keys).await?;
        draft.update.scope = Some(to.clone());
        Ok(draft.finish(Operation::Rename, Some(rows.clone())))
    }
}

impl AllKeys {
    /// A key version that is not the same there, or not there at all.
    pub(crate) fn difference(&self, other: &Self) -> Option<KeyVersionId> {
        let root = self
            .root_keys
            .iter()
            .find(|(id, key)| !is_same(key, other.root_keys.get(id)))
            .map(|(id, _)| id.clone().into());
        let data = self
            .data_keys
            .iter()
            .find(|(id, key)| !is_same(key, other.data_keys.get(id)))
            .map(|(id, _)| id.clone().into());
        root.or(data)
    }
}

fn is_same(key: &KeyBytes, other: Option<&KeyBytes>) -> bool {
    other.is_some_and(|other| key.expose() == other.expose())
}

/// These rows with the numbers that a database assigns when they are inserted in their order.
fn renumbered(rows: &ScopeRows) -> ScopeRows {
    let mut rows = rows.clone();
    for (number, row) in (1..).zip(&mut rows.root_key_versions) {
        row.version = number;
    }
    for key in &mut rows.data_keys {
        for (number, row) in (1..).zip(&mut key.versions) {
            row.version = number;
        }
    }
    rows
}

/// What inserts these rows with these wrapped keys, which are in their order.
fn inserts(rows: &ScopeRows, wrapped: Updates) -> Inserts {
    let root_key_versions = rows.root_key_versions.iter().zip(wrapped.root_key_versions);
    let data_keys = rows.data_keys.iter();
    let data_key_versions = data_keys
        .flat_map(|key| key.versions.iter().map(move |row| (key, row)))
        .zip(wrapped.data_key_versions);
    Inserts {
        root_key: true,
        root_key_versions: root_key_versions
            .map(|(row, (id, key))| NewRootKeyVersion {
                id,
                version: row.version,
                key,
            })
            .collect(),
        data_keys: rows
            .data_keys
            .iter()
            .map(|key| NewDataKey {
                id: key.id.clone(),
                purpose: key.purpose.clone(),
            })
            .collect(),
        data_key_versions: data_key_versions
            .map(|((key, row), new)| NewDataKeyVersion {
                id: new.id,
                data_key: key.id.clone(),
                root_key_version: new.root_key_version,
                version: row.version,
                key: new.key,
            })
            .collect(),
    }
}
