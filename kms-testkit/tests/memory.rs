//! The memory repository passes the suite for repositories.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_core::{
    DataKeyVersionId, DataKeyVersionRow, KeyVersionId, MemoryRepository, OnDelete, Referencer,
    Repository, RootKeyVersionId, RootKeyVersionRow, ScopeId, ScopeRows,
};
use kms_testkit::repository::{Fixture, REFERENCE_COLUMN};

kms_testkit::repository_suite!(memory);

async fn memory() -> Memory {
    Memory(MemoryRepository::new())
}

struct Memory(MemoryRepository);

#[async_trait]
impl Fixture for Memory {
    fn repository(&self) -> Arc<dyn Repository> {
        Arc::new(self.0.clone())
    }

    async fn another_repository(&self) -> Arc<dyn Repository> {
        self.repository()
    }

    async fn delete_scope(&self, scope: &ScopeId) {
        self.delete_root_key(scope).await;
    }

    async fn delete_root_key(&self, scope: &ScopeId) {
        self.0
            .tamper(|scopes| scopes.retain(|rows| rows.scope != *scope));
    }

    async fn add_referencer(&self, table: &str, on_delete: OnDelete) {
        self.0.declare_referencer(Referencer {
            schema: None,
            table: table.to_owned(),
            column: REFERENCE_COLUMN.to_owned(),
            on_delete,
        });
    }

    async fn drop_referencer(&self, table: &str) {
        self.0.drop_referencer(table);
    }

    async fn add_reference(&self, table: &str, id: &DataKeyVersionId) {
        self.0
            .reference(id, table)
            .expect("table and version are there");
    }

    async fn drop_reference(&self, table: &str, id: &DataKeyVersionId) {
        assert!(self.0.release(id, table), "there is such a row");
    }

    async fn set_key(&self, id: &KeyVersionId, key: &[u8]) {
        match id {
            KeyVersionId::Root(id) => self.edit_root(id, |row| row.key = key.to_vec()),
            KeyVersionId::Data(id) => self.edit_data(id, |row| row.key = key.to_vec()),
        }
    }

    async fn set_version(&self, id: &KeyVersionId, version: i64) {
        match id {
            KeyVersionId::Root(id) => self.edit_root(id, |row| row.version = version),
            KeyVersionId::Data(id) => self.edit_data(id, |row| row.version = version),
        }
    }

    async fn set_wrapping(&self, id: &DataKeyVersionId, root_key_version: &RootKeyVersionId) {
        self.edit_data(id, |row| row.root_key_version = root_key_version.clone());
    }

    async fn set_age(&self, id: &RootKeyVersionId, age: Duration) {
        self.edit_root(id, |row| row.create_time -= age);
    }

    async fn set_schema_version(&self, version: &str) {
        self.0.set_schema_version(version);
    }
}

impl Memory {
    fn edit_root(&self, id: &RootKeyVersionId, edit: impl FnOnce(&mut RootKeyVersionRow)) {
        self.0.tamper(|scopes| {
            let mut rows = scopes
                .iter_mut()
                .flat_map(|rows| &mut rows.root_key_versions);
            edit(rows.find(|row| row.id == *id).expect("such a version"));
        });
    }

    fn edit_data(&self, id: &DataKeyVersionId, edit: impl FnOnce(&mut DataKeyVersionRow)) {
        self.0.tamper(|scopes| {
            let mut rows = scopes.iter_mut().flat_map(data_key_versions);
            edit(rows.find(|row| row.id == *id).expect("such a version"));
        });
    }
}

fn data_key_versions(rows: &mut ScopeRows) -> impl Iterator<Item = &mut DataKeyVersionRow> {
    rows.data_keys.iter_mut().flat_map(|key| &mut key.versions)
}
