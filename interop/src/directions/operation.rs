//! What one side does to a database that both use.

use anyhow::{Context as _, Result, ensure};
use kms_kit::prelude::*;
use kms_kit::{ErrorKind, KeyKind};

use crate::engine::{DATABASE, OIDC, PURPOSES};
use crate::go::Refusal;
use crate::record::{ALL, SMALL};
use crate::side::Side;
use crate::world::World;

#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Create,
    CreateInTransaction,
    CreateAgain,
    Encrypt,
    Rotate,
    RotateAndRewrap,
    Rewrap,
    RewrapOthers,
    Reconcile,
    RevokeRootKeyVersion,
    RevokeDataKeyVersion,
    Delete,
    CreateAfterDeletion,
}

pub(super) const OPERATIONS: [Operation; 13] = [
    Operation::Create,
    Operation::CreateInTransaction,
    Operation::CreateAgain,
    Operation::Encrypt,
    Operation::Rotate,
    Operation::RotateAndRewrap,
    Operation::Rewrap,
    Operation::RewrapOthers,
    Operation::Reconcile,
    Operation::RevokeRootKeyVersion,
    Operation::RevokeDataKeyVersion,
    Operation::Delete,
    Operation::CreateAfterDeletion,
];

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateInTransaction => "create in a transaction",
            Self::CreateAgain => "create what exists is refused",
            Self::Encrypt => "encrypt, 0 B to 1 MiB, with and without aad",
            Self::Rotate => "rotate",
            Self::RotateAndRewrap => "rotate with rewrap",
            Self::Rewrap => "rewrap",
            Self::RewrapOthers => "rewrap what the other side made",
            Self::Reconcile => "reconcile a missing purpose",
            Self::RevokeRootKeyVersion => "revoke a root key version",
            Self::RevokeDataKeyVersion => "revoke a data key version",
            Self::Delete => "delete a scope",
            Self::CreateAfterDeletion => "create it anew",
        }
    }

    /// What one side does to a scope of its own, after which both sides encrypt and read.
    pub(super) async fn work(self, world: &mut World, side: Side, tag: &str) -> Result<()> {
        let main = format!("{tag}_main");
        let written = match self {
            Self::Create => {
                side.create(world, &main, &PURPOSES).await?;
                &main
            }
            Self::CreateInTransaction => {
                let scope = format!("{tag}_in_tx");
                side.create(world, &scope, &PURPOSES).await?;
                world.write(side, &scope, SMALL).await?;
                &main
            }
            Self::CreateAgain => {
                refused_as_existing(world, side, &main).await?;
                &main
            }
            Self::Encrypt => {
                world.write(side, &main, ALL).await?;
                &main
            }
            Self::Rotate => {
                side.rotate(world, &main, false).await?;
                &main
            }
            Self::RotateAndRewrap => {
                side.rotate(world, &main, true).await?;
                &main
            }
            Self::Rewrap => {
                side.rewrap(world, &main).await?;
                &main
            }
            Self::RewrapOthers => {
                for scope in ["old_plain", "old_rotated", "old_rewrapped"] {
                    side.rewrap(world, scope).await?;
                }
                side.rotate(world, "old_rotated", true).await?;
                &main
            }
            Self::Reconcile => {
                let scope = format!("{tag}_lacking");
                side.create(world, &scope, &[DATABASE]).await?;
                for rotating in [side, side.other()] {
                    rotating.rotate(world, &scope, true).await?;
                }
                side.reconcile(world, &scope, &PURPOSES).await?;
                side.other().reconcile(world, &scope, &PURPOSES).await?;
                world.write(side, &scope, SMALL).await?;
                &main
            }
            Self::RevokeRootKeyVersion => {
                side.rotate(world, &main, true).await?;
                revoke_oldest(world, side, &main, KeyKind::Kek).await?;
                &main
            }
            Self::RevokeDataKeyVersion => {
                revoke_oldest(world, side, &main, KeyKind::Dek).await?;
                &main
            }
            Self::Delete => {
                let scope = format!("{tag}_in_tx");
                side.delete(world, &scope).await?;
                world.forget(|record| record.scope == scope);
                Side::Go.misses(world, &scope).await?;
                Side::Rust.misses(world, &scope).await?;
                &main
            }
            Self::CreateAfterDeletion => {
                let scope = format!("{tag}_in_tx");
                side.create(world, &scope, &PURPOSES).await?;
                world.write(side.other(), &scope, SMALL).await?;
                &main
            }
        };
        world.write(side, written, SMALL).await?;
        world.write(side.other(), written, SMALL).await?;
        match self {
            Self::Encrypt => world.both_read_all().await,
            _ => world.both_read().await,
        }
    }
}

async fn refused_as_existing(world: &World, side: Side, scope: &str) -> Result<()> {
    let error = side.create(world, scope, &[OIDC]).await.err();
    let error = error.context("the scope was created again")?;
    match side {
        Side::Go => {
            let refusal = Refusal::of(&error).map(|refusal| &*refusal.message);
            let unique = |text: &str| text.contains("unique") || text.contains("UNIQUE");
            ensure!(refusal.is_some_and(unique), "{error:#}");
        }
        Side::Rust => {
            let kind = error
                .downcast_ref::<kms_kit::Error>()
                .map(kms_kit::Error::kind);
            ensure!(kind == Some(ErrorKind::AlreadyExists), "{error:#}");
        }
    }
    Ok(())
}

/// Revokes the oldest version of the scope's root key, or of its first data key. What a data key version
/// encrypted is gone with it, for both sides alike.
async fn revoke_oldest(world: &mut World, side: Side, scope: &str, kind: KeyKind) -> Result<()> {
    let keys = world.kms.list_keys(&ScopeId::new(scope)?).await?;
    let key = keys.iter().find(|key| key.kind == kind).context("a key")?;
    ensure!(key.versions.len() > 1, "there is only one version");
    let id = key.versions[0].id.clone();
    side.revoke(world, &id).await?;
    world.forget(|record| {
        Blob::decode(&record.blob.0).is_ok_and(|blob| blob.key_id() == id.to_string())
    });
    Ok(())
}
