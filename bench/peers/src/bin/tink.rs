//! Tink for Rust: one keyset of AES-256-GCM in memory. The tenant is part of what a row is bound to.

use anyhow::{Result, anyhow};
use kms_peers::{AAD, Peer, TENANTS, measure, runtime, tenant};

struct Tink {
    aead: Box<dyn tink_core::Aead>,
    bound_to: Vec<Vec<u8>>,
}

impl Peer for Tink {
    type Plaintext = Vec<u8>;

    async fn encrypt(&self, tenant: usize, row: &[u8]) -> Result<Vec<u8>> {
        let encrypted = self.aead.encrypt(row, &self.bound_to[tenant]);
        encrypted.map_err(|error| anyhow!("{error:?}"))
    }

    async fn decrypt(&self, tenant: usize, stored: &[u8]) -> Result<Vec<u8>> {
        let decrypted = self.aead.decrypt(stored, &self.bound_to[tenant]);
        decrypted.map_err(|error| anyhow!("{error:?}"))
    }
}

fn main() -> Result<()> {
    tink_aead::init();
    let template = tink_aead::aes256_gcm_key_template();
    let keys = tink_core::keyset::Handle::new(&template).map_err(|error| anyhow!("{error:?}"))?;
    let aead = tink_aead::new(&keys).map_err(|error| anyhow!("{error:?}"))?;
    let bound_to = |number| [tenant(number).as_bytes(), AAD].concat();
    let bound_to = (0..TENANTS).map(bound_to).collect();
    measure("tink", &runtime()?, &Tink { aead, bound_to })
}
