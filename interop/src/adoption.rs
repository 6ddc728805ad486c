//! Databases that Go's migrations made, in the ways that teams run them, taken over while Go goes on.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kms_kit::prelude::*;
use serde_json::json;

use crate::database::{Database, Dialect};
use crate::engine::{LocalRoot, PURPOSES};
use crate::go::{Go, Refusal};
use crate::record::SMALL;
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const ADOPTION: &str = "Go's database, adopted";

/// What golang-migrate keeps, which must stay as it is.
const BOOKKEEPING: &str =
    "select cast(version as varchar) || ' ' || cast(dirty as varchar) as t from schema_migrations";

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
    table
        .check(ADOPTION, dialect, "run by golang-migrate", async {
            run_by_golang_migrate(Database::new(dialect)?, program).await
        })
        .await;
    if dialect == Dialect::Postgres {
        table
            .check(ADOPTION, dialect, "in a schema of another name", async {
                run_by_golang_migrate(Database::in_schema("keys")?, program).await
            })
            .await;
    }
    table
        .check(
            ADOPTION,
            dialect,
            "without Go's last migration",
            without_the_last_migration(dialect, program),
        )
        .await;
    table
        .check(
            ADOPTION,
            dialect,
            "a root key version in use can't be revoked, by Go either",
            a_version_in_use_stays(dialect, program),
        )
        .await;
    table
        .check(
            ADOPTION,
            dialect,
            "a scope that Go deletes by SQL is noticed",
            a_deletion_is_noticed(dialect, program),
        )
        .await;
}

async fn run_by_golang_migrate(database: Database, program: &Path) -> Result<()> {
    let root = LocalRoot::generate();
    let go = Go::start(program, &database, &root.go())?;
    let migrate = json!({"op": "migrate", "golang_migrate": true});
    go.ask(&migrate)?;
    let before = database.connect()?.texts(BOOKKEEPING)?;
    ensure!(before.len() == 1, "golang-migrate keeps {before:?}");

    let mut world = adopted(database, go, &root).await?;
    let after = world.database.connect()?.texts(BOOKKEEPING)?;
    ensure!(before == after, "its bookkeeping became {after:?}");
    let again = world
        .go
        .ask(&migrate)
        .err()
        .map(|error| format!("{error:#}"));
    ensure!(
        again
            .as_ref()
            .is_some_and(|said| said.contains("no change")),
        "golang-migrate has something to do: {again:?}"
    );
    both_change(&mut world).await
}

/// The last of Go's migrations changes a trigger and not the version. Before it a rewrap by Go fails.
async fn without_the_last_migration(dialect: Dialect, program: &Path) -> Result<()> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let go = Go::start(program, &database, &root.go())?;
    go.ask(&json!({"op": "migrate", "up_to": 6}))?;
    go.ask(&json!({"op": "create", "scope": "first", "purposes": ["oidc"]}))?;
    let rotated = go.ask(&json!({"op": "rotate", "scope": "first", "rewrap": true}));
    ensure!(
        rotated.is_err(),
        "the trigger of migration 04 lets a rewrap through"
    );
    let mut world = adopted(database, go, &root).await?;
    Side::Go.rotate(&world, "first", true).await?;
    Side::Rust.rotate(&world, "first", true).await?;
    both_change(&mut world).await
}

/// Go's own constraint deletes the data keys under a root key version along with it.
async fn a_version_in_use_stays(dialect: Dialect, program: &Path) -> Result<()> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let go = Go::start(program, &database, &root.go())?;
    go.migrate()?;
    let mut world = adopted(database, go, &root).await?;
    Side::Go.rotate(&world, "made_by_go", false).await?;
    world.write(Side::Go, "made_by_go", SMALL).await?;
    let keys = world.kms.list_keys(&ScopeId::new("made_by_go")?).await?;
    let oldest = keys[0].versions[0].id.clone();
    let error = Side::Go.revoke(&world, &oldest).await.err();
    let error = error.context("Go revoked a root key version that wraps data keys")?;
    // Go's library keeps the message and drops the error that holds the code.
    let reason = match dialect {
        Dialect::Postgres => "23503",
        Dialect::Sqlite => "IN USE",
    };
    let said = Refusal::of(&error).map(|refusal| refusal.message.to_uppercase());
    ensure!(said.is_some_and(|said| said.contains(reason)), "{error:#}");
    world.both_read().await?;
    Side::Go.rewrap(&world, "made_by_go").await?;
    Side::Go.revoke(&world, &oldest).await?;
    world.both_read().await?;
    Side::Go.delete(&world, "made_by_go").await?;
    Side::Go.misses(&world, "made_by_go").await?;
    let left = world.database.connect()?.count(
        "select (select count(*) from kms_root_key_version) + (select count(*) from kms_data_key_version) as n",
    )?;
    ensure!(left == 0, "{left} versions are left of a deleted scope");
    Ok(())
}

/// Go itself doesn't say that a scope was deleted; the trigger does, to caches of both sides.
async fn a_deletion_is_noticed(dialect: Dialect, program: &Path) -> Result<()> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let go = Go::start(program, &database, &root.go())?;
    go.migrate()?;
    let mut world = adopted(database, go, &root).await?;
    let another = Go::start(program, &world.database, &root.go())?;
    let encrypt =
        json!({"op": "encrypt", "scope": "made_by_go", "purpose": "oidc", "plaintext": "YQ=="});
    // Both processes have the scope's keys in their caches now.
    another.ask(&encrypt)?;
    world.both_read().await?;
    Side::Go.delete(&world, "made_by_go").await?;
    let error = another
        .ask(&encrypt)
        .err()
        .context("the other Go process still encrypts")?;
    let kind = Refusal::of(&error).map(|refusal| &*refusal.kind);
    ensure!(kind == Some("not found"), "{error:#}");
    Side::Rust.misses(&world, "made_by_go").await?;
    world.forget(|_| true);
    both_change(&mut world).await
}

/// A database in which Go has made a scope and encrypted, taken over under the running Go process.
pub(crate) async fn adopted(database: Database, go: Go, root: &LocalRoot) -> Result<World> {
    let purposes: Vec<_> = PURPOSES.iter().map(Purpose::as_str).collect();
    go.ask(&json!({"op": "create", "scope": "made_by_go", "purposes": purposes}))?;
    let request =
        json!({"op": "records", "scope": "made_by_go", "purpose": "oidc", "sizes": SMALL});
    let records = go.ask(&request)?.records;
    let adoption = database.adopt().context("adopting")?;
    ensure!(!adoption.already_adopted && !adoption.ran.is_empty());
    let report = database.verify()?;
    ensure!(report.is_ok(), "after adopting: {report}");
    let mut world = World::with(database, go, root.wrapper()?).await?;
    world.records = records;
    world.both_read().await?;
    Ok(world)
}

/// One change by each side, and everything is still read by both.
async fn both_change(world: &mut World) -> Result<()> {
    for side in [Side::Go, Side::Rust] {
        let scope = format!("{side}_later").to_lowercase();
        side.create(world, &scope, &PURPOSES).await?;
        world.write(side, &scope, SMALL).await?;
        side.other().rotate(world, &scope, true).await?;
        world.write(side.other(), &scope, SMALL).await?;
        world.both_read().await?;
    }
    Ok(())
}
