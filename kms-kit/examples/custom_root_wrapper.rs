//! A root of trust of your own: implement `Wrapper`, and let the suite check it.
//!
//! This one holds the keys of a house's own key server, as versions. A real one would ask the server in `encrypt`
//! and `decrypt`; what it must promise stays the same, and is in the docs of `Wrapper`.
//!
//! `cargo run -p kms-kit --example custom_root_wrapper` uses it;
//! `cargo test -p kms-kit --example custom_root_wrapper` runs the suite on it.

#![allow(clippy::print_stdout, reason = "it shows what it did")]

use std::sync::Arc;

use async_trait::async_trait;
use kms_kit::core::{Aead, KeyBytes, LocalKey, MemoryRepository};
use kms_kit::prelude::*;
use kms_kit::{Claim, Error, ErrorKind, Ownership, Result, SecretBytes};

/// Keys of the house, oldest first: the last one encrypts, all decrypt.
#[derive(Debug)]
struct HouseKeys(Vec<LocalKey>);

impl HouseKeys {
    fn new(aead: &dyn Aead, keys: &[(&str, KeyBytes)]) -> Result<Self> {
        if keys.is_empty() {
            return Err(Error::new(ErrorKind::InvalidConfiguration).with_detail("no house key"));
        }
        let keys = keys.iter().map(|(id, key)| LocalKey::new(aead, key, *id));
        Ok(Self(keys.collect()))
    }

    fn newest(&self) -> &LocalKey {
        self.0.last().expect("`new` refuses an empty list")
    }
}

#[async_trait]
impl Wrapper for HouseKeys {
    fn kind(&self) -> &'static str {
        "house"
    }

    fn key_id(&self) -> Option<String> {
        Some(self.newest().id().to_owned())
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        match self.0.iter().any(|key| key.id() == blob.key_id()) {
            true => Ownership::Yes,
            false => Ownership::No,
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        // Not what `owns` says: a blob of an older key is ours, and still to be rewrapped.
        match self.newest().id() == blob.key_id() {
            true => Ownership::Yes,
            false => Ownership::No,
        }
    }

    fn claims(&self) -> Vec<Claim> {
        // Somebody chose these ids; another house may have chosen the same.
        let keys = self.0.iter();
        keys.map(|key| Claim::by_label(key.id(), "house")).collect()
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.newest().encrypt(plaintext, aad)
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        // The blob's id chooses among our own keys; it never brings in another.
        match self.0.iter().find(|key| key.id() == blob.key_id()) {
            Some(key) => key.decrypt(blob, aad),
            None => Err(Error::new(ErrorKind::AuthenticationFailed)),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    const NOTES: Purpose = Purpose::from_static("notes");

    let aead = kms_kit::aead::fastest();
    let root = HouseKeys::new(&*aead, &[("house-2027", KeyBytes::generate()?)])?;
    root.preflight().await?;
    let kms = kms_kit::builder(Arc::new(MemoryRepository::new()))
        .root_wrapper(Arc::new(root))
        .purposes([NOTES])
        .build()
        .await?;

    let tenant = ScopeId::new("o_1")?;
    kms.create_keys(&tenant, &[NOTES]).await?;
    let blob = kms.wrapper(&tenant, &NOTES).await?.encrypt(b"hello", b"")?;
    let plain = kms.decrypt(&tenant, &NOTES, &blob, b"").await?;
    assert_eq!(plain.expose(), b"hello");

    let census = kms.census().await?;
    println!(
        "root key versions by the key that wraps them: {:?}",
        census.by_root_key
    );
    Ok(())
}

#[cfg(test)]
mod suite {
    use super::*;
    use kms_testkit::wrapper::Subject;

    /// Keys that depend on their ids alone, so that two houses can have one in common.
    fn house(ids: &[&'static str]) -> Arc<dyn Wrapper> {
        let keys = ids.iter().map(|id| {
            let mut key = [0; 32];
            key[..id.len()].copy_from_slice(id.as_bytes());
            (*id, KeyBytes::from_slice(&key).unwrap())
        });
        let keys: Vec<_> = keys.collect();
        Arc::new(HouseKeys::new(&*kms_kit::aead::fastest(), &keys).unwrap())
    }

    kms_testkit::wrapper_suite!(
        Subject::new(
            house(&["house-2026", "house-2027"]),
            house(&["stranger-2026", "stranger-2027"]),
        )
        .with_former(house(&["house-2026"]))
    );
}
