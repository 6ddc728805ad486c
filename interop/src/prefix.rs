//! Tables of another prefix, which Go's option `WithTableNamePrefix` gives them.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kms_kit::migrations::ErrorKind;
use serde_json::json;

use crate::adoption;
use crate::database::{Database, Dialect};
use crate::dump::Dump;
use crate::engine::LocalRoot;
use crate::go::Go;
use crate::record::SMALL;
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const PREFIX: &str = "Go's database, another prefix";

/// The scripts that `docs/from-go.md` points to.
const ON_POSTGRES: &str = include_str!("../sql/rename_prefix.postgres.sql");
const ON_SQLITE: &str = include_str!("../sql/rename_prefix.sqlite.sql");

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
    table
        .check(PREFIX, dialect, "is not ours, and stays as it is", async {
            stays(dialect, program).await
        })
        .await;
    table
        .check(PREFIX, dialect, "is renamed and adopted", async {
            renamed(dialect, program).await
        })
        .await;
}

/// Go with a prefix and with none, and ours, in one database.
async fn stays(dialect: Dialect, program: &Path) -> Result<()> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let prefixed = Go::with(program, &database, &root.go(), &["--prefix", "app"])?;
    prefixed.migrate()?;
    let create = json!({"op": "create", "scope": "of_app", "purposes": ["oidc"]});
    prefixed.ask(&create)?;
    let records = json!({"op": "records", "scope": "of_app", "purpose": "oidc", "sizes": SMALL});
    let records = prefixed.ask(&records)?.records;

    let before = Dump::of(&database)?;
    let error = database
        .adopt()
        .err()
        .context("tables of another prefix were adopted")?;
    ensure!(*error.kind() == ErrorKind::NotMigrated, "{error}");
    Dump::of(&database)?.same_as(&before)?;

    let go = Go::start(program, &database, &root.go())?;
    go.migrate()?;
    let mut world = adoption::adopted(database, go, &root).await?;
    Side::Rust.rotate(&world, "made_by_go", true).await?;
    world.write(Side::Rust, "made_by_go", SMALL).await?;
    world.both_read().await?;
    prefixed.ask(&json!({"op": "rotate", "scope": "of_app", "rewrap": true}))?;
    prefixed.ask(&json!({"op": "check", "records": records}))?;
    Ok(())
}

async fn renamed(dialect: Dialect, program: &Path) -> Result<()> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let prefixed = Go::with(program, &database, &root.go(), &["--prefix", "app"])?;
    prefixed.migrate()?;
    for request in [
        json!({"op": "create", "scope": "of_app", "purposes": ["oidc", "database"]}),
        json!({"op": "rotate", "scope": "of_app", "rewrap": true}),
        json!({"op": "rotate", "scope": "of_app"}),
    ] {
        prefixed.ask(&request)?;
    }
    let records = json!({"op": "records", "scope": "of_app", "purpose": "oidc", "sizes": SMALL});
    let records = prefixed.ask(&records)?.records;
    drop(prefixed);

    let mut connection = database.connect()?;
    match dialect {
        Dialect::Postgres => connection.execute(&format!("begin; {ON_POSTGRES} commit"))?,
        Dialect::Sqlite => {
            let statements = connection.texts(ON_SQLITE)?.join("\n");
            connection.execute(&format!("begin; {statements} commit"))?;
        }
    }
    drop(connection);
    let go = Go::start(program, &database, &root.go())?;
    database.adopt().context("adopting the renamed tables")?;
    let report = database.verify()?;
    ensure!(report.is_ok(), "after adopting: {report}");
    let left = report.beyond.iter().find(|object| object.contains("app_"));
    ensure!(left.is_none(), "left under the old name: {left:?}");
    let mut world = World::with(database, go, root.wrapper()?).await?;
    world.records = records;
    world.both_read().await?;
    for side in [Side::Go, Side::Rust] {
        side.rotate(&world, "of_app", true).await?;
        world.write(side, "of_app", SMALL).await?;
        world.both_read().await?;
    }
    Ok(())
}
