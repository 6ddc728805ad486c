//! A database of its own for each test, with the tables of a small application beside the keys.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test binary uses its part"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod database;
pub mod process;

use std::sync::Arc;

use kms_kit::core::KeyBytes;
use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, KmsBuilder, Repository};

pub use database::{Connection, Database};

pub const DATABASE: Purpose = Purpose::from_static("database");
pub const OIDC: Purpose = Purpose::from_static("oidc");

/// Expands each async function of a `&World` to a test on SQLite and one on Postgres.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::support::World::on(
                    $crate::support::Database::sqlite(),
                ).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(database) = $crate::support::Database::postgres() {
                    super::$name(&$crate::support::World::on(database).await).await;
                }
            })*
        }
    };
}

pub struct World {
    pub database: Database,
    pub root: Arc<dyn Wrapper>,
    pub kms: Kms,
}

impl World {
    pub async fn on(database: Database) -> Self {
        let root = root("root");
        let kms = builder(database.repository(), &root).build().await.unwrap();
        Self {
            database,
            root,
            kms,
        }
    }

    pub fn builder(&self) -> KmsBuilder {
        self.builder_on(self.database.repository())
    }

    pub fn builder_on(&self, repository: Arc<dyn Repository>) -> KmsBuilder {
        builder(repository, &self.root)
    }

    /// An engine that shares nothing with the first but the database.
    pub async fn another_process(&self) -> Kms {
        self.builder().build().await.unwrap()
    }

    /// A scope with its row in the application's table, and keys.
    pub async fn scope(&self, id: &str) -> ScopeId {
        let scope = ScopeId::new(id).unwrap();
        self.database
            .execute(&format!("insert into organization (id) values ('{id}')"));
        self.kms
            .create_keys(&scope, &[DATABASE, OIDC])
            .await
            .unwrap();
        scope
    }

    /// A row of the application whose secret the newest key version encrypts. Gives that version's id.
    pub async fn client(&self, id: &str, scope: &ScopeId) -> String {
        let wrapper = self.kms.wrapper(scope, &OIDC).await.unwrap();
        let version = wrapper.key_version_id().to_string();
        self.database.execute(&format!(
            "insert into oidc_client (id, organization_id, key_version_id) values ('{id}', '{scope}', '{version}')"
        ));
        version
    }
}

pub fn root(id: &str) -> Arc<dyn Wrapper> {
    let wrapper = AeadWrapper::builder(id).key(KeyBytes::generate().unwrap());
    Arc::new(wrapper.build().unwrap())
}

fn builder(repository: Arc<dyn Repository>, root: &Arc<dyn Wrapper>) -> KmsBuilder {
    kms_kit::builder(repository)
        .root_wrapper(Arc::clone(root))
        .purposes([DATABASE, OIDC])
}
