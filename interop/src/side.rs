//! The same operations by one side or the other.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use kms_kit::prelude::*;
use kms_kit::{ErrorKind, KeyVersionId, RewrapKeys, Scopes};
use serde_json::json;

use crate::go::Refusal;
use crate::record::{Bytes, Record};
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Go,
    Rust,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Go => Self::Rust,
            Self::Rust => Self::Go,
        }
    }

    pub(crate) async fn create(
        self,
        world: &World,
        scope: &str,
        purposes: &[Purpose],
    ) -> Result<()> {
        match self {
            Self::Go => {
                let purposes: Vec<_> = purposes.iter().map(Purpose::as_str).collect();
                world.go.ask(
                    &json!({"op": "create", "scope": scope, "purposes": purposes, "in_tx": scope.ends_with("tx")}),
                )?;
            }
            Self::Rust => {
                world
                    .kms
                    .create_keys(&ScopeId::new(scope)?, purposes)
                    .await?;
            }
        }
        Ok(())
    }

    /// Encrypts plaintexts of these sizes, each without aad and with one.
    pub(crate) async fn encrypt(
        self,
        world: &World,
        scope: &str,
        purpose: &Purpose,
        sizes: &[usize],
    ) -> Result<Vec<Record>> {
        if self == Self::Go {
            let request = json!({"op": "records", "scope": scope, "purpose": purpose.as_str(), "sizes": sizes});
            return Ok(world.go.ask(&request)?.records);
        }
        let wrapper = world.kms.wrapper(&ScopeId::new(scope)?, purpose).await?;
        let mut records = Vec::new();
        for &size in sizes {
            for aad in ["", scope] {
                let plaintext = Bytes::random(size);
                let blob = wrapper.encrypt(&plaintext.0, aad.as_bytes())?;
                records.push(Record {
                    scope: scope.to_owned(),
                    purpose: purpose.to_string(),
                    aad: aad.as_bytes().into(),
                    plaintext,
                    blob: Bytes(blob.encode()),
                });
            }
        }
        Ok(records)
    }

    /// Decrypts all of them, and sees each refused under another aad.
    pub(crate) async fn read(self, world: &World, records: &[Record]) -> Result<()> {
        if self == Self::Go {
            // In parts: a line of many megabytes serves nobody.
            for part in records.chunks(64) {
                world.go.ask(&json!({"op": "check", "records": part}))?;
            }
            return Ok(());
        }
        for record in records {
            read_one(&world.kms, record).await.with_context(|| {
                format!(
                    "a blob of {} bytes of {}",
                    record.plaintext.0.len(),
                    record.scope
                )
            })?;
        }
        Ok(())
    }

    pub(crate) async fn rotate(self, world: &World, scope: &str, rewrap: bool) -> Result<()> {
        match self {
            Self::Go => {
                world
                    .go
                    .ask(&json!({"op": "rotate", "scope": scope, "rewrap": rewrap}))?;
            }
            Self::Rust => {
                let rewrap = if rewrap { Rewrap::Yes } else { Rewrap::No };
                world.kms.rotate_keys(&ScopeId::new(scope)?, rewrap).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn rewrap(self, world: &World, scope: &str) -> Result<()> {
        match self {
            Self::Go => {
                world.go.ask(&json!({"op": "rewrap", "scope": scope}))?;
            }
            Self::Rust => {
                world
                    .kms
                    .rewrap_keys(&ScopeId::new(scope)?, RewrapKeys::All)
                    .await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn reconcile(
        self,
        world: &World,
        scope: &str,
        purposes: &[Purpose],
    ) -> Result<()> {
        match self {
            Self::Go => {
                let purposes: Vec<_> = purposes.iter().map(Purpose::as_str).collect();
                world
                    .go
                    .ask(&json!({"op": "reconcile", "scopes": [scope], "purposes": purposes}))?;
            }
            Self::Rust => {
                let scopes = [ScopeId::new(scope)?];
                let outcome = world
                    .kms
                    .reconcile_keys(Scopes::Only(&scopes), purposes)
                    .await?;
                ensure!(outcome.failed.is_empty(), "{:?}", outcome.failed);
            }
        }
        Ok(())
    }

    pub(crate) async fn revoke(self, world: &World, id: &KeyVersionId) -> Result<()> {
        match self {
            Self::Go => {
                world
                    .go
                    .ask(&json!({"op": "revoke", "id": id.to_string()}))?;
            }
            // No table references key versions here, so that nothing can prove them unused.
            Self::Rust => world.kms.dangerous().revoke_key_version(id).await?,
        }
        Ok(())
    }

    pub(crate) async fn delete(self, world: &World, scope: &str) -> Result<()> {
        match self {
            Self::Go => {
                world.go.ask(&json!({"op": "delete", "scope": scope}))?;
            }
            Self::Rust => {
                world
                    .kms
                    .dangerous()
                    .delete_keys(&ScopeId::new(scope)?)
                    .await?;
            }
        }
        Ok(())
    }

    /// The scope has no keys for this side, by whichever way it is asked.
    pub(crate) async fn misses(self, world: &World, scope: &str) -> Result<()> {
        match self {
            Self::Go => {
                for request in [
                    json!({"op": "list", "scope": scope}),
                    json!({"op": "encrypt", "scope": scope, "purpose": "oidc", "plaintext": "YQ=="}),
                ] {
                    let error = world
                        .go
                        .ask(&request)
                        .err()
                        .context("Go still finds the scope")?;
                    let kind = Refusal::of(&error).map(|refusal| &*refusal.kind);
                    ensure!(kind == Some("not found"), "{error:#}");
                }
            }
            Self::Rust => {
                let id = ScopeId::new(scope)?;
                let listed = world.kms.list_keys(&id).await.err();
                let got = world.kms.wrapper(&id, &crate::engine::OIDC).await.err();
                for error in [listed, got] {
                    let kind = error.map(|error| error.kind());
                    ensure!(kind == Some(ErrorKind::UnknownScope), "{kind:?}");
                }
            }
        }
        Ok(())
    }
}

async fn read_one(kms: &Kms, record: &Record) -> Result<()> {
    let scope = ScopeId::new(&record.scope)?;
    let purpose = Purpose::new(&record.purpose)?;
    let blob = Blob::decode(&record.blob.0)?;
    let plaintext = kms.decrypt(&scope, &purpose, &blob, &record.aad.0).await?;
    ensure!(
        plaintext.expose() == record.plaintext.0,
        "it decrypts to something else"
    );
    let wrong = kms.decrypt(&scope, &purpose, &blob, b"another aad").await;
    ensure!(
        wrong.err().map(|error| error.kind()) == Some(ErrorKind::AuthenticationFailed),
        "it opens with another aad"
    );
    Ok(())
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Go => "Go",
            Self::Rust => "Rust",
        })
    }
}
