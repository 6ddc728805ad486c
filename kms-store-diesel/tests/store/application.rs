//! The application beside the repository: its tables, and hands that edit rows, by plain SQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_core::{DataKeyVersionId, KeyVersionId, OnDelete, Repository, RootKeyVersionId, ScopeId};
use kms_testkit::repository::{Fixture, REFERENCE_COLUMN};

/// A database of one test.
pub(crate) trait Database: Send + Sync {
    /// A repository with a pool of its own.
    fn open(&self) -> Arc<dyn Repository>;

    fn execute(&self, sql: &str);

    /// Bytes as a literal.
    fn bytes(bytes: &[u8]) -> String;

    /// What makes a plain `no action` hold until the cascade has reached both rows.
    fn deferred() -> &'static str;

    /// Statements that make a root key version this much older.
    fn aging(id: &RootKeyVersionId, age: Duration) -> Vec<String>;
}

pub(crate) struct Application<D> {
    repository: Arc<dyn Repository>,
    pub(crate) database: D,
}

impl<D: Database> Application<D> {
    pub(crate) fn on(database: D) -> Self {
        Self {
            repository: database.open(),
            database,
        }
    }
}

#[async_trait]
impl<D: Database> Fixture for Application<D> {
    fn repository(&self) -> Arc<dyn Repository> {
        Arc::clone(&self.repository)
    }

    async fn another_repository(&self) -> Arc<dyn Repository> {
        self.database.open()
    }

    async fn add_scope(&self, scope: &ScopeId) {
        self.database.execute(&format!(
            "insert into organization (id) values ({})",
            text(scope.as_str())
        ));
    }

    async fn delete_scope(&self, scope: &ScopeId) {
        self.database.execute(&format!(
            "delete from organization where id = {}",
            text(scope.as_str())
        ));
    }

    async fn delete_root_key(&self, scope: &ScopeId) {
        self.database.execute(&format!(
            "delete from kms_root_key where scope_id = {}",
            text(scope.as_str())
        ));
    }

    async fn add_referencer(&self, table: &str, on_delete: OnDelete) {
        let rule = match on_delete {
            OnDelete::Restrict => "on delete restrict".to_owned(),
            OnDelete::NoAction => format!("on delete no action {}", D::deferred()),
            OnDelete::Cascade => "on delete cascade".to_owned(),
            OnDelete::SetNull => "on delete set null".to_owned(),
            OnDelete::SetDefault => "on delete set default".to_owned(),
        };
        self.database.execute(&format!(
            "create table {} ({REFERENCE_COLUMN} text references kms_data_key_version (private_id) {rule})",
            name(table)
        ));
    }

    async fn drop_referencer(&self, table: &str) {
        self.database
            .execute(&format!("drop table {}", name(table)));
    }

    async fn add_reference(&self, table: &str, id: &DataKeyVersionId) {
        self.database.execute(&format!(
            "insert into {} ({REFERENCE_COLUMN}) values ({})",
            name(table),
            text(id.as_str())
        ));
    }

    async fn drop_reference(&self, table: &str, id: &DataKeyVersionId) {
        self.database.execute(&format!(
            "delete from {} where {REFERENCE_COLUMN} = {}",
            name(table),
            text(id.as_str())
        ));
    }

    async fn set_key(&self, id: &KeyVersionId, key: &[u8]) {
        self.database.execute(&format!(
            "update {} set key = {} where private_id = {}",
            table_of(id),
            D::bytes(key),
            text(id.as_str())
        ));
    }

    async fn set_version(&self, id: &KeyVersionId, version: i64) {
        self.database.execute(&format!(
            "update {} set version = {version} where private_id = {}",
            table_of(id),
            text(id.as_str())
        ));
    }

    async fn set_wrapping(&self, id: &DataKeyVersionId, root_key_version: &RootKeyVersionId) {
        self.database.execute(&format!(
            "update kms_data_key_version set root_key_version_id = {} where private_id = {}",
            text(root_key_version.as_str()),
            text(id.as_str())
        ));
    }

    async fn set_age(&self, id: &RootKeyVersionId, age: Duration) {
        for statement in D::aging(id, age) {
            self.database.execute(&statement);
        }
    }

    async fn set_schema_version(&self, version: &str) {
        self.database.execute(&format!(
            "update kms_schema_version set version = {}",
            text(version)
        ));
    }
}

pub(crate) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(crate) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn table_of(id: &KeyVersionId) -> &'static str {
    match id {
        KeyVersionId::Root(_) => "kms_root_key_version",
        KeyVersionId::Data(_) => "kms_data_key_version",
    }
}
