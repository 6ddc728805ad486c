//! Both directions: one side changes, the other reads everything ever written, and so does the first again.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kms_kit::prelude::*;
use kms_kit::{ErrorKind, KeyKind};
use serde_json::json;

use crate::database::{Database, Dialect};
use crate::engine::{DATABASE, LocalRoot, OIDC, PURPOSES};
use crate::go::{Go, Refusal};
use crate::record::{ALL, SMALL};
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

/// Who made the database.
#[derive(Clone, Copy)]
enum Maker {
    /// Go's migrations, adopted while a Go process runs on it and has its keys cached.
    Go,
    /// Our migrations.
    Rust,
}

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
    for maker in [Maker::Go, Maker::Rust] {
        let name = match maker {
            Maker::Go => "Go's database",
            Maker::Rust => "our database",
        };
        let made = match maker {
            Maker::Go => made_by_go(dialect, program).await,
            Maker::Rust => made_by_us(dialect, program).await,
        };
        let mut world = match made {
            Ok(world) => {
                table.enter(name, dialect, "made, read by both", Ok(()));
                world
            }
            Err(error) => {
                table.enter(name, dialect, "made, read by both", Err(error));
                continue;
            }
        };
        for side in [Side::Go, Side::Rust] {
            let direction = format!("{name}: {side} → {} → {side}", side.other());
            let tag = format!("{side}").to_lowercase();
            for operation in OPERATIONS {
                let outcome = operation.work(&mut world, side, &tag).await;
                table.enter(&direction, dialect, operation.name(), outcome);
            }
        }
        let outcome = at_the_end(&mut world).await;
        table.enter(name, dialect, "every blob, once more", outcome);
    }
}

/// Every blob, of all sizes, of several versions, of scopes in all states, while Go runs on.
async fn made_by_go(dialect: Dialect, program: &Path) -> Result<World> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let go = Go::start(program, &database, &root.go())?;
    go.migrate().context("Go's migrations")?;
    let mut records = Vec::new();
    for (scope, rotations) in [
        ("old_plain", vec![]),
        ("old_rotated", vec![false, false]),
        ("old_rewrapped", vec![false, true]),
    ] {
        let purposes: Vec<_> = PURPOSES.iter().map(Purpose::as_str).collect();
        go.ask(&json!({"op": "create", "scope": scope, "purposes": purposes}))?;
        let mut write = |sizes: &[usize]| -> Result<()> {
            let request =
                json!({"op": "records", "scope": scope, "purpose": "oidc", "sizes": sizes});
            records.extend(go.ask(&request)?.records);
            Ok(())
        };
        write(ALL)?;
        for rewrap in rotations {
            go.ask(&json!({"op": "rotate", "scope": scope, "rewrap": rewrap}))?;
            write(SMALL)?;
        }
    }
    database.adopt().context("adopting")?;
    let report = database.verify()?;
    ensure!(report.is_ok(), "after adopting: {report}");
    let mut world = World::with(database, go, root.wrapper()?).await?;
    world.records = records;
    world.both_read_all().await?;
    Ok(world)
}

async fn made_by_us(dialect: Dialect, program: &Path) -> Result<World> {
    let database = Database::new(dialect)?;
    database.migrate()?;
    let mut world = World::on(program, database, &LocalRoot::generate()).await?;
    let version = world.go.ask(&json!({"op": "validate"}))?.version;
    ensure!(version == "v0.0.2", "Go finds version {version}");
    for (scope, rotations) in [
        ("old_plain", vec![]),
        ("old_rotated", vec![false, false]),
        ("old_rewrapped", vec![false, true]),
    ] {
        Side::Rust.create(&world, scope, &PURPOSES).await?;
        world.write(Side::Rust, scope, ALL).await?;
        for rewrap in rotations {
            Side::Rust.rotate(&world, scope, rewrap).await?;
            world.write(Side::Rust, scope, SMALL).await?;
        }
    }
    world.both_read().await?;
    Ok(world)
}

#[derive(Clone, Copy, Debug)]
enum Operation {
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

const OPERATIONS: [Operation; 13] = [
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
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateInTransaction => "create in a transaction",
            Self::CreateAgain => "create what exists is refused",
            Self::Encrypt => "encrypt, 1 B to 1 MiB, with and without aad",
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
    async fn work(self, world: &mut World, side: Side, tag: &str) -> Result<()> {
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

/// Both sides, once more, read everything; the tables are as they were.
async fn at_the_end(world: &mut World) -> Result<()> {
    world.both_read_all().await?;
    let census = world.kms.census().await?;
    ensure!(
        census.unbound == census.root_key_versions + census.data_key_versions,
        "mode GoCompatible wrote bound keys: {census:?}"
    );
    ensure!(census.unreadable == 0, "{census:?}");
    let report = world.database.verify()?;
    ensure!(report.is_ok(), "{report}");
    let without_purposes = kms_kit::builder(world.database.repository()?);
    let lists = without_purposes.build().await?;
    lists.list_keys(&ScopeId::new("old_plain")?).await?;
    Ok(())
}
