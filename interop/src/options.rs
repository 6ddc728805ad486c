//! What Go's options and wrappers can do that ours differ in (for the prefix of the tables see [`prefix`](crate::prefix)).

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kms_kit::ErrorKind;
use kms_kit::prelude::*;
use serde_json::json;

use crate::adoption;
use crate::database::{Database, Dialect};
use crate::engine::{LocalRoot, OIDC};
use crate::go::Go;
use crate::record::{Bytes, SMALL};
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const OPTIONS: &str = "Go's options";

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
    table
        .check(
            OPTIONS,
            dialect,
            "a derived wrapper: its blobs are refused by name",
            derived(dialect, program),
        )
        .await;
    table
        .check(
            OPTIONS,
            dialect,
            "purposes: Go rotates those that it was built with, ours reads all",
            fewer_purposes(dialect, program),
        )
        .await;
    table
        .check(
            OPTIONS,
            dialect,
            "purposes that ours would refuse are listed, and Go goes on with them",
            odd_purposes(dialect, program),
        )
        .await;
    table
        .check(
            OPTIONS,
            dialect,
            "the tables that reference key versions, listed by both",
            referencers(dialect, program),
        )
        .await;
}

async fn world(dialect: Dialect, program: &Path) -> Result<(World, LocalRoot)> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let go = Go::start(program, &database, &root.go())?;
    go.migrate()?;
    Ok((adoption::adopted(database, go, &root).await?, root))
}

/// Keys derived from a key's bytes are none that we could know of.
async fn derived(dialect: Dialect, program: &Path) -> Result<()> {
    let (world, _) = world(dialect, program).await?;
    let scope = ScopeId::new("made_by_go")?;
    for (id, kind) in [
        ("derived", ErrorKind::UnknownKeyVersion),
        ("kdkv_0123456789", ErrorKind::UnknownKeyVersion),
        ("", ErrorKind::UnknownKeyVersion),
    ] {
        let request = json!({
            "op": "derive", "scope": scope.as_str(), "purpose": OIDC.as_str(), "id": id,
            "plaintext": Bytes::from(&b"x"[..]),
        });
        let blob = Blob::decode(&world.go.ask(&request)?.blob.0)?;
        ensure!(blob.key_id() == id, "{:?}", blob.key_id());
        let error = world.kms.decrypt(&scope, &OIDC, &blob, b"").await.err();
        let error = error.context("a blob of a derived wrapper opens")?;
        ensure!(error.kind() == kind, "{id:?}: {error}");
    }
    Ok(())
}

async fn fewer_purposes(dialect: Dialect, program: &Path) -> Result<()> {
    let (mut world, root) = world(dialect, program).await?;
    let oidc_alone = Go::with(
        program,
        &world.database,
        &root.go(),
        &["--purposes", "oidc"],
    )?;
    for rewrap in [false, true] {
        oidc_alone.ask(&json!({"op": "rotate", "scope": "made_by_go", "rewrap": rewrap}))?;
        world.write(Side::Go, "made_by_go", SMALL).await?;
        world.write(Side::Rust, "made_by_go", SMALL).await?;
    }
    world.both_read().await?;
    let versions = |world: &World| -> Result<String> {
        let found = world.database.connect()?.texts(
            "select purpose || ' ' || count(*) as t from kms_data_key
               join kms_data_key_version on data_key_id = kms_data_key.private_id group by purpose order by purpose",
        )?;
        Ok(found.join(", "))
    };
    let by_go = versions(&world)?;
    ensure!(by_go == "database 1, oidc 3, sessions 1", "{by_go}");
    Side::Rust.rotate(&world, "made_by_go", false).await?;
    let by_ours = versions(&world)?;
    ensure!(by_ours == "database 2, oidc 4, sessions 2", "{by_ours}");
    world.both_read().await
}

/// Go's constraints let a tab through, ours don't: in rows that are there it stays, and new ones are refused.
async fn odd_purposes(dialect: Dialect, program: &Path) -> Result<()> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let odd = Go::with(
        program,
        &database,
        &root.go(),
        &["--purposes", "tab\t,oidc"],
    )?;
    odd.migrate()?;
    let create = |scope: &str| json!({"op": "create", "scope": scope, "purposes": ["tab\t"]});
    odd.ask(&create("odd"))?;
    let records = json!({"op": "records", "scope": "odd", "purpose": "tab\t", "sizes": SMALL});
    let mut records = odd.ask(&records)?.records;
    database.adopt().context("adopting")?;
    let report = database.verify()?;
    ensure!(report.is_ok(), "{report}");
    ensure!(
        report
            .oddities
            .iter()
            .any(|oddity| oddity.rule.contains("white space")),
        "{report}"
    );
    for rewrap in [false, true] {
        odd.ask(&json!({"op": "rotate", "scope": "odd", "rewrap": rewrap}))?;
        let more = json!({"op": "records", "scope": "odd", "purpose": "tab\t", "sizes": SMALL});
        records.extend(odd.ask(&more)?.records);
    }
    odd.ask(&json!({"op": "check", "records": records}))?;
    ensure!(
        odd.ask(&create("new")).is_err(),
        "new rows are held to nothing"
    );
    Ok(())
}

async fn referencers(dialect: Dialect, program: &Path) -> Result<()> {
    let (world, _) = world(dialect, program).await?;
    world.database.connect()?.execute(
        "create table secret (id integer primary key,
             key_version_id text not null references kms_data_key_version (private_id))",
    )?;
    let gos = world.go.ask(&json!({"op": "referencers"}))?.names;
    ensure!(gos == ["secret"], "Go: {gos:?}");
    let ours = world.kms.data_key_version_referencers().await?;
    let ours: Vec<_> = ours.iter().map(|found| found.table.as_str()).collect();
    ensure!(ours == ["secret"], "{ours:?}");
    Ok(())
}
