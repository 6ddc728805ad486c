//! Change sets as JSON, for the functions of the Postgres schema.

use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::Writes;
use crate::change::{ChangeSet, RootChange};

impl ChangeSet {
    /// What it inserts and updates, as the argument of `kms_apply_creation` and, in an array, of `kms_write_changes`.
    ///
    /// There is no key in the clear in it. Wrapped keys are standard base64. Lists that would be empty are left out.
    ///
    /// ```json
    /// {
    ///   "operation": "create_keys", "scope_id": "o_1", "root_key_id": "krk_…", "new_root_key": true,
    ///   "root_key_versions": [{"id": "krkv_…", "version": 1, "key": "…"}],
    ///   "data_keys": [{"id": "kdk_…", "purpose": "database"}],
    ///   "data_key_versions": [
    ///     {"id": "kdkv_…", "data_key_id": "kdk_…", "root_key_version_id": "krkv_…", "version": 1, "key": "…"}],
    ///   "rewrapped_root_key_versions": [{"id": "krkv_…", "key": "…"}],
    ///   "rewrapped_data_key_versions": [{"id": "kdkv_…", "root_key_version_id": "krkv_…", "key": "…"}],
    ///   "root": {"name": "eu"}
    /// }
    /// ```
    ///
    /// The versions are those that the database has to assign. `root` is there if the root of trust changes; its name is
    /// `null` for the engine's own. What a change set expects and deletes is not in it: that is for whoever applies it to
    /// check, by the rules of [`Batch`](crate::Batch).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut change = Map::new();
        change.insert("operation".into(), self.operation.name().into());
        change.insert("scope_id".into(), self.scope.as_str().into());
        change.insert("root_key_id".into(), self.root_key.as_str().into());
        change.insert("new_root_key".into(), self.insert.root_key.into());
        let mut put = |name: &str, rows: Vec<Value>| {
            if !rows.is_empty() {
                change.insert(name.into(), rows.into());
            }
        };
        let (insert, update) = (&self.insert, &self.update);
        let new = insert.root_key_versions.iter().map(|new| {
            json!({"id": new.id.as_str(), "version": new.version, "key": BASE64.encode(&new.key)})
        });
        put("root_key_versions", new.collect());
        let new = insert
            .data_keys
            .iter()
            .map(|new| json!({"id": new.id.as_str(), "purpose": new.purpose.as_str()}));
        put("data_keys", new.collect());
        let new = insert.data_key_versions.iter().map(|new| {
            json!({
                "id": new.id.as_str(),
                "data_key_id": new.data_key.as_str(),
                "root_key_version_id": new.root_key_version.as_str(),
                "version": new.version,
                "key": BASE64.encode(&new.key),
            })
        });
        put("data_key_versions", new.collect());
        let rewrapped = update
            .root_key_versions
            .iter()
            .map(|(id, key)| json!({"id": id.as_str(), "key": BASE64.encode(key)}));
        put("rewrapped_root_key_versions", rewrapped.collect());
        let rewrapped = update.data_key_versions.iter().map(|new| {
            json!({
                "id": new.id.as_str(),
                "root_key_version_id": new.root_key_version.as_str(),
                "key": BASE64.encode(&new.key),
            })
        });
        put("rewrapped_data_key_versions", rewrapped.collect());
        match &self.root {
            RootChange::Keep => {}
            RootChange::Assign(name) => {
                change.insert("root".into(), json!({"name": name.as_str()}));
            }
            RootChange::Unassign => {
                change.insert("root".into(), json!({"name": null}));
            }
        }
        Value::Object(change)
    }
}

impl Writes<'_> {
    /// The argument of `kms_write_changes`, in the order of the scopes.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut changes = self.changes.clone();
        changes.sort_unstable_by_key(|change| &change.scope);
        changes.into_iter().map(ChangeSet::to_json).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::change::{
        ChangeSet, Inserts, NewDataKey, NewDataKeyVersion, NewRootKeyVersion, Operation,
        RewrappedDataKeyVersion, RootChange, Updates,
    };
    use crate::id::{DataKeyId, DataKeyVersionId, RootKeyId, RootKeyVersionId};
    use crate::root_name::RootName;
    use crate::scope::{Purpose, ScopeId};

    #[test]
    fn the_json_of_a_change_set_has_every_row_and_leaves_out_empty_lists() {
        let root_version = RootKeyVersionId::from_stored("krkv_1");
        let mut change = ChangeSet {
            operation: Operation::Create,
            scope: ScopeId::from_stored("o_1"),
            root_key: RootKeyId::from_stored("krk_1"),
            expected: None,
            insert: Inserts {
                root_key: true,
                root_key_versions: vec![NewRootKeyVersion {
                    id: root_version.clone(),
                    version: 1,
                    key: vec![0, 255],
                }],
                data_keys: Vec::new(),
                data_key_versions: Vec::new(),
            },
            update: Updates::default(),
            root: RootChange::Keep,
            delete: None,
        };
        let expected = serde_json::json!({
            "operation": "create_keys", "scope_id": "o_1", "root_key_id": "krk_1", "new_root_key": true,
            "root_key_versions": [{"id": "krkv_1", "version": 1, "key": "AP8="}],
        });
        assert_eq!(change.to_json(), expected);
        change.insert.data_keys.push(NewDataKey {
            id: DataKeyId::from_stored("kdk_1"),
            purpose: Purpose::from_static("database"),
        });
        change.insert.data_key_versions.push(NewDataKeyVersion {
            id: DataKeyVersionId::from_stored("kdkv_1"),
            data_key: DataKeyId::from_stored("kdk_1"),
            root_key_version: root_version.clone(),
            version: 7,
            key: vec![1],
        });
        change.update = Updates {
            root_key_versions: vec![(root_version.clone(), vec![2])],
            data_key_versions: vec![RewrappedDataKeyVersion {
                id: DataKeyVersionId::from_stored("kdkv_0"),
                root_key_version: root_version,
                key: vec![3],
            }],
            scope: None,
        };
        change.root = RootChange::Assign(RootName::from_stored("eu"));
        let json = change.to_json();
        assert_eq!(
            json["data_keys"],
            serde_json::json!([{"id": "kdk_1", "purpose": "database"}])
        );
        assert_eq!(
            json["data_key_versions"],
            serde_json::json!([{"id": "kdkv_1", "data_key_id": "kdk_1", "root_key_version_id": "krkv_1",
                "version": 7, "key": "AQ=="}])
        );
        assert_eq!(
            json["rewrapped_root_key_versions"],
            serde_json::json!([{"id": "krkv_1", "key": "Ag=="}])
        );
        assert_eq!(
            json["rewrapped_data_key_versions"],
            serde_json::json!([{"id": "kdkv_0", "root_key_version_id": "krkv_1", "key": "Aw=="}])
        );
        assert_eq!(json["root"], serde_json::json!({"name": "eu"}));
        change.root = RootChange::Unassign;
        assert_eq!(change.to_json()["root"], serde_json::json!({"name": null}));
    }
}
