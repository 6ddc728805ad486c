//! Both directions: one side changes, the other reads everything ever written, and so does the first again.

mod operation;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use kms_kit::Binding;
use kms_kit::prelude::*;
use serde_json::json;

use self::operation::OPERATIONS;
use crate::database::{Database, Dialect};
use crate::engine::{self, LocalRoot, PURPOSES};
use crate::go::Go;
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
        let root = LocalRoot::generate();
        let made = match maker {
            Maker::Go => made_by_go(dialect, program, &root).await,
            Maker::Rust => made_by_us(dialect, program, &root).await,
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
                let work = operation.work(&mut world, side, &tag);
                table
                    .check(&direction, dialect, operation.name(), work)
                    .await;
            }
        }
        let outcome = at_the_end(&world).await;
        table.enter(name, dialect, "every blob, once more", outcome);
        let outcome = by_new_processes(world, program, &root).await;
        table.enter(name, dialect, "every blob, by new processes", outcome);
    }
}

/// Makes the tables, and says on standard error how long that took.
fn timed(name: &str, dialect: Dialect, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    make()?;
    let took = start.elapsed().as_millis();
    eprintln!("{name}, {dialect}, tables made: {took} ms");
    Ok(())
}

/// Every blob, of all sizes, of several versions, of scopes in all states, while Go runs on.
async fn made_by_go(dialect: Dialect, program: &Path, root: &LocalRoot) -> Result<World> {
    let database = Database::new(dialect)?;
    let go = Go::start(program, &database, &root.go())?;
    timed("Go's database", dialect, || go.migrate()).context("Go's migrations")?;
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

async fn made_by_us(dialect: Dialect, program: &Path, root: &LocalRoot) -> Result<World> {
    let database = Database::new(dialect)?;
    timed("our database", dialect, || Ok(database.run()?))?;
    let mut world = World::on(program, database, root).await?;
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
    world.both_read_all().await?;
    Ok(world)
}

/// Both sides, once more, read everything; the tables are as they were.
async fn at_the_end(world: &World) -> Result<()> {
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

/// By processes that have none of the keys in their caches.
async fn by_new_processes(mut world: World, program: &Path, root: &LocalRoot) -> Result<()> {
    world.go = Go::start(program, &world.database, &root.go())?;
    world.kms = engine::engine(
        world.database.repository()?,
        root.wrapper()?,
        Binding::GoCompatible,
    )
    .await?;
    world.both_read_all().await
}
