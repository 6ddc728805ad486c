//! Rows of Go's that don't decrypt: each is named by its id, and nothing is changed.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use kms_kit::prelude::*;
use kms_kit::{Binding, CampaignOptions, ErrorKind, RewrapKeys};

use crate::adoption;
use crate::database::{Database, Dialect};
use crate::dump::Dump;
use crate::engine::{self, LocalRoot, OIDC};
use crate::go::Go;
use crate::record::{Record, SMALL};
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const DAMAGED: &str = "Go's database, damaged";

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
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
    let is_damaged =
        |record: &Record| Blob::decode(&record.blob.0).is_ok_and(|blob| blob.key_id() == damaged);
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
    let before = Dump::of(&world.database)?;
    let rewrapped = world.kms.rewrap_keys(&scope, RewrapKeys::All).await;
    names(rewrapped.err(), ErrorKind::TamperedKey, &damaged)?;
    let rotated = world.kms.rotate_keys(&scope, Rewrap::Yes).await;
    names(rotated.err(), ErrorKind::TamperedKey, &damaged)?;
    Dump::of(&world.database)?.same_as(&before)?;

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

    let before = Dump::of(&world.database)?;
    let rewrapped = world.kms.rewrap_keys(&scope, RewrapKeys::All).await;
    names(rewrapped.err(), ErrorKind::TamperedKey, &damaged)?;
    // The newest version of the data key is under it: nothing is encrypted with an older one instead.
    let wrapper = world.kms.wrapper(&scope, &OIDC).await;
    let encrypted = wrapper.and_then(|wrapper| wrapper.encrypt(b"x", b""));
    names(encrypted.err(), ErrorKind::TamperedKey, &damaged)?;
    Dump::of(&world.database)?.same_as(&before)?;
    only_the_damaged_scope_fails(&world, &damaged).await
}

async fn another_root_key(dialect: Dialect, program: &Path) -> Result<()> {
    let world = damaged_world(dialect, program).await?;
    let scope = ScopeId::new("made_by_go")?;
    let before = Dump::of(&world.database)?;
    let other = LocalRoot::generate();
    let builder = |id: &str| -> Result<_> {
        let repository = world.database.repository()?;
        let root = other.wrapper_named(id)?;
        Ok(engine::builder(repository, root, Binding::Migrating))
    };
    for id in ["root", "another"] {
        let refused = builder(id)?.build().await.err();
        names(refused, ErrorKind::WrongRootKey, "root")?;
    }
    Dump::of(&world.database)?.same_as(&before)?;
    // Under the former id it is told before anything is changed, and where a new one may be, by the id.
    for (id, reading, changing) in [
        ("root", ErrorKind::TamperedKey, ErrorKind::WrongRootKey),
        (
            "another",
            ErrorKind::ForeignRootKey,
            ErrorKind::ForeignRootKey,
        ),
    ] {
        let kms = builder(id)?.root_checked_later().root_may_be_new();
        let kms = kms.build().await?;
        names(kms.wrapper(&scope, &OIDC).await.err(), reading, "krkv_")?;
        for error in [
            kms.rewrap_keys(&scope, RewrapKeys::All).await.err(),
            kms.rotate_keys(&scope, Rewrap::Yes).await.err(),
        ] {
            names(error, changing, "root")?;
        }
        let after = Dump::of(&world.database)?;
        match id {
            "root" => after.same_as(&before)?,
            // A root of an id that the database does not know leaves a check blob of its own.
            _ => ensure!(after.rows("_key_version", "") == before.rows("_key_version", "")),
        }
    }
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
    let before = Dump::of(&world.database)?;
    let before = before.rows("_key_version", damaged);
    ensure!(!before.is_empty());
    let options = CampaignOptions::new("all");
    let outcome = world
        .kms
        .rewrap_all(&options, RewrapKeys::All, |_| {})
        .await?;
    let outcome = outcome.report().context("it was finished before")?;
    let failed: Vec<_> = outcome
        .failures
        .iter()
        .map(|failure| failure.scope.as_str())
        .collect();
    ensure!(failed == ["made_by_go"], "{outcome:?}");
    ensure!(outcome.done == 1, "{outcome:?}");
    let after = Dump::of(&world.database)?;
    ensure!(
        after.rows("_key_version", damaged) == before,
        "the damaged scope was changed"
    );
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
