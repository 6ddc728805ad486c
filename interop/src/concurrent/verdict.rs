//! What is to be seen when the four processes have ended.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{NAME, Report, STABLE, TOGETHER};
use crate::connection::Connection;
use crate::database::Dialect;
use crate::record::{Bytes, Record};
use crate::side::Side;
use crate::stress::{SAW_GO_ROTATE, WATCHED};
use crate::table::Table;
use crate::world::World;

/// What every process did, and what those in Rust did besides.
const BY_ALL: [&str; 5] = [
    "encrypt",
    "decrypt",
    "rotate",
    "rotate and rewrap",
    "rewrap",
];

pub(super) async fn enter(table: &mut Table, world: &World, reports: &[Report]) {
    let mut enter = |operation: &str, outcome: Result<()>| {
        table.enter(TOGETHER, Dialect::Postgres, operation, outcome);
    };
    for report in reports {
        enter(
            &format!("{}: every operation, none failed", report.name),
            succeeded(report),
        );
        if report.name.starts_with("Rust") {
            enter(
                &format!("{}: saw Go's rotations within the freshness", report.name),
                fresh(report),
            );
        }
    }
    enter("no deadlock", no_deadlock(world).await);
    enter("no version lost, none twice", versions(world, reports));
    enter("every blob opens on both sides", every_blob(world).await);
    enter("no stray key, the schema as it was", in_order(world).await);
}

/// A run in which nothing happened shows nothing.
fn at_least_once(report: &Report, operations: &[&str]) -> Result<()> {
    for operation in operations {
        let times = report.did.get(*operation).copied().unwrap_or_default();
        ensure!(times > 0, "never did: {operation}: {:?}", report.did);
    }
    Ok(())
}

pub(super) fn succeeded(report: &Report) -> Result<()> {
    ensure!(
        report.failures.is_empty(),
        "{} failed, the first: {:#?}",
        report.failures.len(),
        &report.failures[..report.failures.len().min(3)]
    );
    at_least_once(report, &BY_ALL)
}

fn fresh(report: &Report) -> Result<()> {
    ensure!(report.stale.is_empty(), "{:#?}", report.stale);
    at_least_once(report, &[WATCHED, SAW_GO_ROTATE])
}

/// The server counts them, so that one that a retry mended shows too. (That it does, `lock_order` shows.)
async fn no_deadlock(world: &World) -> Result<()> {
    let mut connection = world.database.connect()?;
    // What a session has counted is certain to be added up when it is gone.
    let sessions = format!(
        "select count(*) as n from pg_stat_activity where application_name = '{NAME}' and datname = current_database()"
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while connection.count(&sessions)? > 0 {
        ensure!(
            Instant::now() < deadline,
            "sessions of processes that have ended stay"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let deadlocks = world.database.deadlocks()?;
    ensure!(deadlocks == 0, "{deadlocks} deadlocks");
    Ok(())
}

fn versions(world: &World, reports: &[Report]) -> Result<()> {
    let mut connection = world.database.connect()?;
    let gaps = connection.count(
        "select count(*) as n from (
           select root_key_id from kms_root_key_version group by 1 having count(*) <> max(version)
           union all
           select data_key_id from kms_data_key_version group by 1 having count(*) <> max(version)
         ) as gaps",
    )?;
    ensure!(gaps == 0, "{gaps} keys have gaps in their versions");
    let uneven = connection.count(
        "select count(*) as n from kms_data_key as d
         where (select count(*) from kms_data_key_version where data_key_id = d.private_id)
            <> (select count(*) from kms_root_key_version where root_key_id = d.root_key_id)",
    )?;
    ensure!(
        uneven == 0,
        "{uneven} data keys have not been rotated with their root key"
    );
    let mut rotations = 0;
    for number in 0..STABLE {
        let scope = format!("stable_{number}");
        let expected: i64 = reports
            .iter()
            .filter_map(|report| report.rotated.get(&scope))
            .sum();
        let found = count_root_key_versions(&mut connection, &scope)?;
        ensure!(
            found == expected + 1,
            "{scope} was rotated {expected} times and has {found} root key versions"
        );
        rotations += expected;
    }
    ensure!(rotations > 0);
    let done = |language: &str, operation: &str| -> u64 {
        reports
            .iter()
            .filter(|report| report.name.starts_with(language))
            .filter_map(|report| report.did.get(operation))
            .sum()
    };
    for language in ["Go", "Rust"] {
        for operation in ["create", "delete"] {
            ensure!(
                done(language, operation) > 0,
                "{language} never did: {operation}"
            );
        }
    }
    let (made, deleted) = (done("", "create"), done("", "delete"));
    let scopes = connection.count("select count(*) as n from kms_root_key")?;
    let expected = i64::try_from(STABLE)? + i64::try_from(made)? - i64::try_from(deleted)?;
    ensure!(
        scopes == expected,
        "{made} made, {deleted} deleted, {scopes} there"
    );
    Ok(())
}

fn count_root_key_versions(connection: &mut Connection, scope: &str) -> Result<i64> {
    connection.count(&format!(
        "select count(*) as n from kms_root_key_version join kms_root_key on root_key_id = kms_root_key.private_id
         where scope_id = '{scope}'"
    ))
}

/// By the engine and the Go process that watched, and by new ones.
pub(super) async fn every_blob(world: &World) -> Result<()> {
    let rows = world.database.connect()?.texts(
        "select json_build_object(
             'scope', organization_id, 'purpose', purpose, 'aad', translate(encode(aad, 'base64'), chr(10), ''),
             'plaintext', translate(encode(plaintext, 'base64'), chr(10), ''),
             'blob', translate(encode(blob, 'base64'), chr(10), ''))::text as t
         from interop_record",
    )?;
    let records: Vec<Record> = rows
        .iter()
        .map(|row| serde_json::from_str(row))
        .collect::<Result<_, _>>()?;
    ensure!(
        records.len() > 50,
        "only {} rows were written",
        records.len()
    );
    ensure!(records.iter().any(|record| record.aad == Bytes::default()));
    eprintln!("{TOGETHER}: {} rows are left", records.len());
    for side in [Side::Go, Side::Rust] {
        side.read(world, &records)
            .await
            .with_context(|| format!("{side} reads"))?;
    }
    Ok(())
}

async fn in_order(world: &World) -> Result<()> {
    let report = world.database.verify()?;
    ensure!(report.is_ok(), "{report}");
    let census = world.kms.census().await?;
    ensure!(
        census.unreadable == 0 && census.not_current == 0,
        "{census:?}"
    );
    ensure!(
        census.unbound == census.root_key_versions + census.data_key_versions,
        "{census:?}"
    );
    Ok(())
}
