//! An engine in memory with a local root key.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod instrumented;
pub mod meddling;

use std::sync::Arc;

use kms_core::{
    Blob, DataKeyWrapper, KeyBytes, Kms, KmsBuilder, MemoryRepository, Purpose, Repository,
    ScopeId, ScopeRows, Wrapper,
};
use kms_wrapper_aead::{AeadWrapper, fastest};

pub const DATABASE: Purpose = Purpose::from_static("database");
pub const OIDC: Purpose = Purpose::from_static("oidc");

pub fn scope(id: &str) -> ScopeId {
    ScopeId::new(id).unwrap()
}

pub fn root(id: &str) -> Arc<dyn Wrapper> {
    let wrapper = AeadWrapper::builder(id).key(KeyBytes::generate().unwrap());
    Arc::new(wrapper.build().unwrap())
}

pub struct World {
    pub repository: MemoryRepository,
    pub root: Arc<dyn Wrapper>,
    pub kms: Kms,
}

impl World {
    pub async fn new() -> Self {
        let repository = MemoryRepository::new();
        let root = root("root");
        let kms = builder(&repository, &root).build().await.unwrap();
        Self {
            repository,
            root,
            kms,
        }
    }

    pub async fn with_scope(id: &str) -> Self {
        let world = Self::new().await;
        world
            .kms
            .create_keys(&scope(id), &[DATABASE, OIDC])
            .await
            .unwrap();
        world
    }

    pub fn builder(&self) -> KmsBuilder {
        builder(&self.repository, &self.root)
    }

    /// Of an application that says nothing about runtimes.
    pub fn builder_in_any_runtime(&self) -> KmsBuilder {
        in_any_runtime(Arc::new(self.repository.clone())).root_wrapper(Arc::clone(&self.root))
    }

    pub fn builder_without_root(&self) -> KmsBuilder {
        on(Arc::new(self.repository.clone()))
    }

    pub async fn another_process(&self) -> Kms {
        self.builder().build().await.unwrap()
    }

    /// The rows as they are stored.
    pub async fn repository_rows(&self, scope: &ScopeId) -> ScopeRows {
        let snapshot = self.repository.load(std::slice::from_ref(scope)).await;
        snapshot.unwrap().scopes.remove(0)
    }

    pub async fn wrapper(&self, scope: &ScopeId) -> DataKeyWrapper {
        self.kms.wrapper(scope, &OIDC).await.unwrap()
    }

    pub async fn encrypt(&self, scope: &ScopeId, plaintext: &[u8]) -> Blob {
        self.wrapper(scope).await.encrypt(plaintext, b"").unwrap()
    }

    /// The number of the version that made the blob.
    pub async fn version_of(&self, scope: &ScopeId, blob: &Blob) -> i64 {
        let keys = self.kms.list_keys(scope).await.unwrap();
        let mut versions = keys.iter().flat_map(|key| &key.versions);
        versions
            .find(|version| version.id.as_str() == blob.key_id())
            .unwrap()
            .version
    }
}

/// An engine whose loads run in the test's own runtime, so that time and order are the test's.
pub fn on(repository: Arc<dyn Repository>) -> KmsBuilder {
    in_any_runtime(repository).runtime(tokio::runtime::Handle::current())
}

/// An engine of an application that says nothing about runtimes.
pub fn in_any_runtime(repository: Arc<dyn Repository>) -> KmsBuilder {
    KmsBuilder::new(repository, fastest()).purposes([DATABASE, OIDC])
}

fn builder(repository: &MemoryRepository, root: &Arc<dyn Wrapper>) -> KmsBuilder {
    on(Arc::new(repository.clone())).root_wrapper(Arc::clone(root))
}
