//! Databases that can't be taken over, and keys that don't open: each is named, and nothing is changed.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use kms_kit::migrations::ErrorKind as MigrationKind;
use kms_kit::prelude::*;
use kms_kit::{Binding, CampaignOptions, ErrorKind, RewrapKeys};
use serde_json::json;

use crate::adoption;
use crate::database::{Database, Dialect};
use crate::engine::{self, LocalRoot, OIDC};
use crate::go::Go;
use crate::record::SMALL;
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const REFUSED: &str = "Go's database, refused";
const DAMAGED: &str = "Go's database, damaged";

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
    let go = |up_to: u32| made_by_go(dialect, program, up_to);
    let outcome = older_versions(dialect, &go);
    table.enter(REFUSED, dialect, "an older schema version", outcome);
    let outcome = go(0).and_then(|database| {
        database
            .connect()?
            .execute("update kms_schema_version set version = 'v0.0.3'")?;
        refused(&database, &["v0.0.3", "v0.0.2"])
    });
    table.enter(REFUSED, dialect, "a newer schema version", outcome);
    let outcome = go(0).and_then(|database| {
        database
            .connect()?
            .execute("drop table kms_data_key_version")?;
        refused(&database, &["table kms_data_key_version"])
    });
    table.enter(
        REFUSED,
        dialect,
        "half-migrated: a table is missing",
        outcome,
    );
    let outcome = go(0).and_then(|database| {
        database
            .connect()?
            .execute("delete from kms_collection_version")?;
        refused(&database, &["row in kms_collection_version"])
    });
    table.enter(REFUSED, dialect, "half-migrated: a row is missing", outcome);
    let outcome = each_trigger(dialect, &go);
    table.enter(
        REFUSED,
        dialect,
        "a trigger is missing, any of them",
        outcome,
    );
    table
        .check(
            DAMAGED,
            dialect,
            "a data key version that doesn't decrypt",
            a_data_key_version_does_not_open(dialect, program),
        )
        .await;
    table
        .check(
            DAMAGED,
            dialect,
            "a root key version that doesn't decrypt",
            a_root_key_version_does_not_open(dialect, program),
        )
        .await;
    table
        .check(
            DAMAGED,
            dialect,
            "another root key",
            another_root_key(dialect, program),
        )
        .await;
}

/// As far as Go's migration of this number; 0 for all.
fn made_by_go(dialect: Dialect, program: &Path, up_to: u32) -> Result<Database> {
    let database = Database::new(dialect)?;
    let go = Go::start(program, &database, "")?;
    go.ask(&json!({"op": "migrate", "up_to": up_to}))?;
    Ok(database)
}

fn older_versions(dialect: Dialect, go: &dyn Fn(u32) -> Result<Database>) -> Result<()> {
    // The tables are there from number 4 on, and at v0.0.2 from number 6 on.
    for up_to in [4, 5] {
        refused(&go(up_to)?, &["v0.0.1", "v0.0.2"])
            .with_context(|| format!("{dialect} after migration {up_to}"))?;
    }
    Ok(())
}

/// Every trigger that Go's migrations make, one at a time.
fn each_trigger(dialect: Dialect, go: &dyn Fn(u32) -> Result<Database>) -> Result<()> {
    let triggers = match dialect {
        Dialect::Postgres => {
            "select tgname || ' on ' || relname as t from pg_trigger join pg_class on pg_class.oid = tgrelid
             where not tgisinternal order by 1"
        }
        Dialect::Sqlite => "select name as t from sqlite_master where type = 'trigger' order by 1",
    };
    let database = go(0)?;
    let triggers = database.connect()?.texts(triggers)?;
    ensure!(triggers.len() >= 12, "Go has these triggers: {triggers:?}");
    for trigger in triggers {
        let name = trigger.split(' ').next().unwrap_or_default();
        let mut connection = database.connect()?;
        let restore = match dialect {
            Dialect::Postgres => connection.texts(&format!(
                "select pg_get_triggerdef(pg_trigger.oid) as t from pg_trigger join pg_class on pg_class.oid = tgrelid
                 where tgname || ' on ' || relname = '{trigger}'"
            ))?,
            Dialect::Sqlite => connection.texts(&format!(
                "select sql as t from sqlite_master where name = '{trigger}'"
            ))?,
        };
        connection.execute(&format!("drop trigger {trigger}"))?;
        refused(&database, &["trigger", name]).with_context(|| trigger.clone())?;
        connection.execute(&restore.concat())?;
    }
    database.adopt().context("with all triggers again")?;
    Ok(())
}

/// Adoption is refused, names all of these, and changes nothing.
fn refused(database: &Database, named: &[&str]) -> Result<()> {
    let before = database.contents()?;
    let error = database.adopt().err().context("it was adopted")?;
    let said = error.to_string();
    for name in named {
        ensure!(said.contains(name), "{said:?} doesn't name {name}");
    }
    ensure!(
        matches!(
            error.kind(),
            MigrationKind::WrongVersion { .. } | MigrationKind::HalfMigrated { .. }
        ),
        "{said}"
    );
    ensure!(
        database.contents()? == before,
        "a refused adoption changed something"
    );
    Ok(())
}

async fn a_data_key_version_does_not_open(dialect: Dialect, program: &Path) -> Result<()> {
    let mut world = damaged_world(dialect, program).await?;
    let scope = ScopeId::new("made_by_go")?;
    let keys = world.kms.list_keys(&scope).await?;
    let oidc = keys
        .iter()
        .find(|key| key.purpose == OIDC)
        .context("oidc")?;
    let damaged = oidc.versions[0].id.to_string();
    damage(&world.database, "kms_data_key_version", &damaged)?;

    // It fails alone, by its name; what other versions encrypted opens.
    let is_damaged = |record: &crate::record::Record| {
        Blob::decode(&record.blob.0).is_ok_and(|blob| blob.key_id() == damaged)
    };
    let (hit, spared): (Vec<_>, Vec<_>) = world
        .records
        .iter()
        .cloned()
        .partition(|record| is_damaged(record));
    ensure!(!hit.is_empty() && !spared.is_empty());
    Side::Rust.read(&world, &spared).await?;
    let blob = Blob::decode(&hit[0].blob.0)?;
    let error = world.kms.decrypt(&scope, &OIDC, &blob, &hit[0].aad.0).await;
    names(error.err(), ErrorKind::TamperedKey, &damaged)?;

    // Whatever would have to open it is refused, and leaves the database as it was.
    let before = world.database.contents()?;
    let rewrapped = world.kms.rewrap_keys(&scope, RewrapKeys::All).await;
    names(rewrapped.err(), ErrorKind::TamperedKey, &damaged)?;
    let rotated = world.kms.rotate_keys(&scope, Rewrap::Yes).await;
    names(rotated.err(), ErrorKind::TamperedKey, &damaged)?;
    ensure!(
        world.database.contents()? == before,
        "a refusal changed something"
    );

    only_the_damaged_scope_fails(&world, &damaged).await?;
    world.forget(is_damaged);
    Side::Rust.read(&world, &world.records).await
}

async fn a_root_key_version_does_not_open(dialect: Dialect, program: &Path) -> Result<()> {
    let world = damaged_world(dialect, program).await?;
    let scope = ScopeId::new("made_by_go")?;
    let keys = world.kms.list_keys(&scope).await?;
    let newest = keys[0].versions.last().context("a version")?;
    let damaged = newest.id.to_string();
    damage(&world.database, "kms_root_key_version", &damaged)?;

    let before = world.database.contents()?;
    let rewrapped = world.kms.rewrap_keys(&scope, RewrapKeys::All).await;
    names(rewrapped.err(), ErrorKind::TamperedKey, &damaged)?;
    // The newest version of the data key is under it: nothing is encrypted with an older one instead.
    let wrapper = world.kms.wrapper(&scope, &OIDC).await;
    let encrypted = wrapper.and_then(|wrapper| wrapper.encrypt(b"x", b""));
    names(encrypted.err(), ErrorKind::TamperedKey, &damaged)?;
    ensure!(
        world.database.contents()? == before,
        "a refusal changed something"
    );
    only_the_damaged_scope_fails(&world, &damaged).await
}

async fn another_root_key(dialect: Dialect, program: &Path) -> Result<()> {
    let world = damaged_world(dialect, program).await?;
    let scope = ScopeId::new("made_by_go")?;
    let before = world.database.contents()?;
    let other = LocalRoot::generate();
    for (id, kind) in [
        ("root", ErrorKind::TamperedKey),
        ("another", ErrorKind::ForeignRootKey),
    ] {
        let repository = world.database.repository()?;
        let kms = engine::engine(repository, other.wrapper_named(id)?, Binding::Migrating).await?;
        for error in [
            kms.wrapper(&scope, &OIDC).await.err(),
            kms.rewrap_keys(&scope, RewrapKeys::All).await.err(),
            kms.rotate_keys(&scope, Rewrap::Yes).await.err(),
        ] {
            let error = error.context("it opened under another root key")?;
            ensure!(error.kind() == kind, "{error}");
            ensure!(error.to_string().contains("krkv_"), "{error}");
        }
    }
    ensure!(
        world.database.contents()? == before,
        "a refusal changed something"
    );
    Ok(())
}

/// Two scopes, each with two versions.
async fn damaged_world(dialect: Dialect, program: &Path) -> Result<World> {
    let database = Database::new(dialect)?;
    let root = LocalRoot::generate();
    let go = Go::start(program, &database, &root.go())?;
    go.migrate()?;
    let mut world = adoption::adopted(database, go, &root).await?;
    Side::Go.create(&world, "spared", &engine::PURPOSES).await?;
    for scope in ["made_by_go", "spared"] {
        Side::Go.rotate(&world, scope, false).await?;
        world.write(Side::Go, scope, SMALL).await?;
    }
    Ok(world)
}

/// A campaign over all scopes does the others, and names the one that it could not do.
async fn only_the_damaged_scope_fails(world: &World, damaged: &str) -> Result<()> {
    let rows = |world: &World| -> Result<Vec<String>> {
        let (_, rows) = world.database.contents()?;
        let keys = rows
            .iter()
            .filter(|row| row.contains("_key_version: ") && row.contains(damaged));
        Ok(keys.cloned().collect())
    };
    let before = rows(world)?;
    ensure!(!before.is_empty());
    let options = CampaignOptions::new("all");
    let outcome = world
        .kms
        .rewrap_all(&options, RewrapKeys::All, |_| {})
        .await?;
    let failed: Vec<_> = outcome
        .failures
        .iter()
        .map(|failure| failure.scope.as_str())
        .collect();
    ensure!(failed == ["made_by_go"], "{outcome:?}");
    ensure!(outcome.done == 1, "{outcome:?}");
    ensure!(rows(world)? == before, "the damaged scope was changed");
    Ok(())
}

/// Flips a bit in the wrapped key.
fn damage(database: &Database, table: &str, id: &str) -> Result<()> {
    let mut connection = database.connect()?;
    let (hex, open, close) = match database.dialect() {
        Dialect::Postgres => ("encode(key, 'hex')", "'\\x", "'"),
        Dialect::Sqlite => ("lower(hex(key))", "x'", "'"),
    };
    let found = connection.texts(&format!(
        "select {hex} as t from {table} where private_id = '{id}'"
    ))?;
    let mut key = HEXLOWER.decode(found.concat().as_bytes())?;
    // Behind the nonce, before the id: in the encrypted key.
    *key.get_mut(20).context("the wrapped key is too short")? ^= 1;
    connection.execute(&format!(
        "update {table} set key = {open}{}{close} where private_id = '{id}'",
        HEXLOWER.encode(&key)
    ))?;
    // As any change does, so that caches look at the rows again.
    connection.execute("update kms_collection_version set version = version + 1")
}

fn names(error: Option<kms_kit::Error>, kind: ErrorKind, id: &str) -> Result<()> {
    let error = error.context("it was not refused")?;
    ensure!(error.kind() == kind, "{error}");
    ensure!(error.to_string().contains(id), "{error} doesn't name {id}");
    Ok(())
}
