//! Ours, with the default features: keys on SQLite, a local root key, wrappers from the cache.

use std::sync::Arc;

use anyhow::Result;
use diesel::{Connection as _, SqliteConnection};
use kms_kit::core::{KeyBytes, SecretBytes};
use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, SqliteRepository, migrations};
use kms_peers::{AAD, Peer, TENANTS, measure, runtime, tenant};

const PURPOSE: Purpose = Purpose::from_static("oidc");

struct KmsKit {
    kms: Kms,
    tenants: Vec<ScopeId>,
}

struct Plaintext(SecretBytes);

impl std::ops::Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Peer for KmsKit {
    type Plaintext = Plaintext;

    async fn encrypt(&self, tenant: usize, row: &[u8]) -> Result<Vec<u8>> {
        let wrapper = self.kms.wrapper(&self.tenants[tenant], &PURPOSE).await?;
        Ok(wrapper.encrypt_to_vec(row, AAD)?)
    }

    async fn decrypt(&self, tenant: usize, stored: &[u8]) -> Result<Plaintext> {
        let wrapper = self.kms.wrapper(&self.tenants[tenant], &PURPOSE).await?;
        Ok(Plaintext(wrapper.decrypt_encoded(stored, AAD)?))
    }
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.sqlite3");
    let file = file.to_string_lossy();
    migrations::sqlite::run(&mut SqliteConnection::establish(&file)?)?;
    let root = AeadWrapper::builder("bench-root")
        .key(KeyBytes::generate()?)
        .build()?;
    let repository = SqliteRepository::builder(&*file).build()?;
    let runtime = runtime()?;
    let peer = runtime.block_on(async {
        let kms = kms_kit::builder(Arc::new(repository))
            .root_wrapper(Arc::new(root))
            .purposes([PURPOSE])
            .build()
            .await?;
        let mut tenants = Vec::new();
        for number in 0..TENANTS {
            let scope = ScopeId::new(tenant(number))?;
            kms.create_keys(&scope, &[PURPOSE]).await?;
            tenants.push(scope);
        }
        anyhow::Ok(KmsKit { kms, tenants })
    })?;
    measure("kms_kit", &runtime, &peer)
}
