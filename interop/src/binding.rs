//! Until every key is bound to its row and Go can read none any more, and the way back.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kms_kit::prelude::*;
use kms_kit::{Binding, CampaignOptions, ErrorKind, RewrapKeys};
use serde_json::json;

use crate::adoption;
use crate::database::{Database, Dialect};
use crate::dump::Dump;
use crate::engine::{self, LocalRoot, OIDC};
use crate::go::Go;
use crate::record::{Record, SMALL};
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const BINDING: &str = "Go's database, bound";

const SCOPES: [&str; 3] = ["made_by_go", "second", "third"];

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
    let root = LocalRoot::generate();
    let mut world = match prepared(dialect, program, &root).await {
        Ok(world) => world,
        Err(error) => return table.enter(BINDING, dialect, "made", Err(error)),
    };
    table
        .check(
            BINDING,
            dialect,
            "all keys of Go are counted as unbound, and Required refuses them",
            unbound_at_first(&world, &root),
        )
        .await;
    table
        .check(
            BINDING,
            dialect,
            "Migrating reads them, and Go goes on until the first write",
            until_the_first_write(&mut world, program, &root),
        )
        .await;
    table
        .check(
            BINDING,
            dialect,
            "a purpose that Migrating adds is not for Go, which reads the others",
            a_bound_purpose(&mut world, program, &root),
        )
        .await;
    table
        .check(
            BINDING,
            dialect,
            "rewrap_all binds the rest: none is unbound, Go reads no scope",
            bound(&mut world, program, &root),
        )
        .await;
    table
        .check(
            BINDING,
            dialect,
            "Required reads everything that was ever encrypted",
            required(&mut world, &root),
        )
        .await;
    table
        .check(
            BINDING,
            dialect,
            "back: rewrapping in GoCompatible unbinds, and Go reads again",
            back(&mut world, program, &root),
        )
        .await;
}

async fn prepared(dialect: Dialect, program: &Path, root: &LocalRoot) -> Result<World> {
    let database = Database::new(dialect)?;
    let go = Go::start(program, &database, &root.go())?;
    go.migrate()?;
    let mut world = adoption::adopted(database, go, root).await?;
    Side::Go.create(&world, "second", &engine::PURPOSES).await?;
    Side::Rust
        .create(&world, "third", &engine::PURPOSES)
        .await?;
    for (scope, rewrap) in [("second", false), ("third", true)] {
        world.write(Side::Go, scope, SMALL).await?;
        Side::Go.rotate(&world, scope, rewrap).await?;
        world.write(Side::Go, scope, SMALL).await?;
    }
    Ok(world)
}

async fn in_mode(world: &World, root: &LocalRoot, binding: Binding) -> Result<Kms> {
    engine::engine(world.database.repository()?, root.wrapper()?, binding).await
}

async fn unbound_at_first(world: &World, root: &LocalRoot) -> Result<()> {
    let census = world.kms.census().await?;
    ensure!(
        census.unbound > 0 && census.unbound == census.root_key_versions + census.data_key_versions,
        "{census:?}"
    );
    let before = Dump::of(&world.database)?;
    let required = in_mode(world, root, Binding::Required).await?;
    for scope in SCOPES {
        let scope = ScopeId::new(scope)?;
        let error = required.wrapper(&scope, &OIDC).await.err();
        let kind = error.map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::UnboundKey), "{kind:?}");
    }
    Dump::of(&world.database)?.same_as(&before)?;
    Ok(())
}

/// Reading changes nothing for Go. The first write to a scope takes that scope from it, and no other.
async fn until_the_first_write(world: &mut World, program: &Path, root: &LocalRoot) -> Result<()> {
    world.kms = in_mode(world, root, Binding::Migrating).await?;
    Side::Rust.read(world, &world.records).await?;
    world.write(Side::Rust, "second", SMALL).await?;
    Side::Go.read(world, &world.records).await?;

    let unbound = world.kms.census().await?.unbound;
    let first = ScopeId::new("made_by_go")?;
    world.kms.rewrap_keys(&first, RewrapKeys::All).await?;
    let left = world.kms.census().await?.unbound;
    ensure!(left < unbound && left > 0, "{unbound} unbound, then {left}");

    let fresh = Go::start(program, &world.database, &root.go())?;
    for go in [&world.go, &fresh] {
        go_reads(go, &world.records, |scope| scope != "made_by_go")?;
    }
    // A rotation binds the new versions only; Go opens all versions of a key or none.
    let third = ScopeId::new("third")?;
    world.kms.rotate_keys(&third, Rewrap::No).await?;
    go_reads(&fresh, &world.records, |scope| scope == "second")?;
    Side::Rust.read(world, &world.records).await
}

/// Go goes on with the scope's other purposes, but can't rewrap the scope.
async fn a_bound_purpose(world: &mut World, program: &Path, root: &LocalRoot) -> Result<()> {
    Side::Go.create(world, "fourth", &[OIDC]).await?;
    let oidc = Side::Go.encrypt(world, "fourth", &OIDC, SMALL).await?;
    let purposes = [OIDC, engine::SESSIONS];
    Side::Rust.reconcile(world, "fourth", &purposes).await?;
    let sessions = Side::Rust
        .encrypt(world, "fourth", &engine::SESSIONS, SMALL)
        .await?;
    let fresh = Go::start(program, &world.database, &root.go())?;
    fresh.ask(&json!({"op": "check", "records": oidc}))?;
    for refused in [
        json!({"op": "check", "records": sessions}),
        json!({"op": "rewrap", "scope": "fourth"}),
        json!({"op": "rotate", "scope": "fourth", "rewrap": true}),
    ] {
        let error = fresh.ask(&refused).err().context("Go opens a bound key")?;
        let said = format!("{error:#}");
        ensure!(said.contains("message authentication failed"), "{said}");
    }
    fresh.ask(&json!({"op": "check", "records": oidc}))?;
    Side::Rust.read(world, &oidc).await?;
    Side::Rust.read(world, &sessions).await?;
    Side::Rust.delete(world, "fourth").await
}

async fn bound(world: &mut World, program: &Path, root: &LocalRoot) -> Result<()> {
    let outcome = world
        .kms
        .rewrap_all(&CampaignOptions::new("bind"), RewrapKeys::All, |_| {})
        .await?;
    let outcome = outcome.report().context("it was finished before")?;
    ensure!(
        outcome.done == 3 && outcome.failures.is_empty(),
        "{outcome:?}"
    );
    let census = world.kms.census().await?;
    ensure!(census.unbound == 0, "{census:?}");
    let outcome = world
        .kms
        .rotate_all(&CampaignOptions::new("rotate"), Rewrap::Yes, |_| {})
        .await?;
    let outcome = outcome.report().context("it was finished before")?;
    ensure!(outcome.failures.is_empty(), "{outcome:?}");
    ensure!(world.kms.census().await?.unbound == 0);
    let fresh = Go::start(program, &world.database, &root.go())?;
    // The schema is still Go's; the keys are not.
    fresh.ask(&json!({"op": "validate"}))?;
    go_reads(&fresh, &world.records, |_| false)
}

async fn required(world: &mut World, root: &LocalRoot) -> Result<()> {
    world.kms = in_mode(world, root, Binding::Required).await?;
    Side::Rust.read(world, &world.records).await?;
    for scope in SCOPES {
        world.write(Side::Rust, scope, SMALL).await?;
    }
    Side::Rust.rotate(world, "second", true).await?;
    Side::Rust.read(world, &world.records).await
}

/// As long as the root key is there, nothing is final.
async fn back(world: &mut World, program: &Path, root: &LocalRoot) -> Result<()> {
    world.kms = in_mode(world, root, Binding::GoCompatible).await?;
    let outcome = world
        .kms
        .rewrap_all(&CampaignOptions::new("unbind"), RewrapKeys::All, |_| {})
        .await?;
    let outcome = outcome.report().context("it was finished before")?;
    ensure!(outcome.failures.is_empty(), "{outcome:?}");
    let census = world.kms.census().await?;
    ensure!(
        census.unbound == census.root_key_versions + census.data_key_versions,
        "{census:?}"
    );
    world.go = Go::start(program, &world.database, &root.go())?;
    world.both_read().await?;
    Side::Go.rotate(world, "third", true).await?;
    world.both_read().await
}

/// Go reads the blobs of these scopes, and none of the others.
fn go_reads(go: &Go, records: &[Record], readable: impl Fn(&str) -> bool) -> Result<()> {
    for scope in SCOPES {
        let of_scope: Vec<_> = records
            .iter()
            .filter(|record| record.scope == scope)
            .collect();
        let checked = go.ask(&json!({"op": "check", "records": of_scope}));
        if readable(scope) {
            checked.with_context(|| format!("Go reads {scope}"))?;
        } else {
            let error = checked
                .err()
                .with_context(|| format!("Go still reads {scope}"))?;
            ensure!(
                format!("{error:#}").contains("message authentication failed"),
                "{error:#}"
            );
        }
    }
    Ok(())
}
