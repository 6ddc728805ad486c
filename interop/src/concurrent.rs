//! Two Rust processes and two Go processes on one Postgres, at the same time.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::database::{Connection, Database, Dialect};
use crate::engine::{LocalRoot, PURPOSES};
use crate::record::{Bytes, Record};
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const TOGETHER: &str = "2 × Go + 2 × Rust at once";

/// Scopes that stay, and scopes that are deleted and made anew.
const STABLE: usize = 4;
const VOLATILE: usize = 4;

/// The tables of an application, as the docs want them.
const APPLICATION: &str = "
    create table organization (id text primary key);
    alter table kms_root_key
        add foreign key (scope_id) references organization (id) on delete cascade;
    create table interop_record (
        id bigint generated always as identity primary key,
        organization_id text not null references organization (id) on delete cascade,
        purpose text not null,
        key_version_id text not null references kms_data_key_version (private_id)
            on delete no action deferrable initially deferred,
        aad bytea not null,
        plaintext bytea not null,
        blob bytea not null
    );
    create index on interop_record (organization_id, id);
    create index on interop_record (key_version_id);
";

/// What each process says at its end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) did: BTreeMap<String, u64>,
    pub(crate) retries: u64,
    /// Rotations by scope.
    pub(crate) rotated: BTreeMap<String, i64>,
    pub(crate) failures: Vec<String>,
}

pub(crate) async fn run(table: &mut Table, program: &Path, seconds: f64, seed: u64) {
    let root = LocalRoot::generate();
    let (world, reports) = match together(program, &root, seconds, seed).await {
        Ok(found) => found,
        Err(error) => return table.enter(TOGETHER, Dialect::Postgres, "run", Err(error)),
    };
    for report in &reports {
        eprintln!(
            "{}: {:?}, {} retries",
            report.name, report.did, report.retries
        );
    }
    let mut enter = |operation: &str, outcome: Result<()>| {
        table.enter(TOGETHER, Dialect::Postgres, operation, outcome);
    };
    for report in &reports {
        enter(
            &format!("{}: every operation, none failed", report.name),
            succeeded(report),
        );
    }
    enter("no deadlock", no_deadlock(&world));
    enter("no version lost, none twice", versions(&world, &reports));
    enter("every blob opens on both sides", every_blob(&world).await);
    enter("no stray key, the schema as it was", in_order(&world).await);
}

async fn together(
    program: &Path,
    root: &LocalRoot,
    seconds: f64,
    seed: u64,
) -> Result<(World, Vec<Report>)> {
    let database = Database::new(Dialect::Postgres)?;
    // As with a team that comes from Go.
    let go = crate::go::Go::start(program, &database, &root.go())?;
    go.migrate()?;
    database.adopt()?;
    let mut connection = database.connect()?;
    connection.execute(APPLICATION)?;
    let world = World::with(database, go, root.wrapper()?).await?;
    for number in 0..STABLE {
        let scope = format!("stable_{number}");
        connection.execute(&format!("insert into organization (id) values ('{scope}')"))?;
        let maker = if number % 2 == 0 {
            Side::Go
        } else {
            Side::Rust
        };
        maker.create(&world, &scope, &PURPOSES).await?;
    }
    let mut processes = Vec::new();
    for number in 0..4 {
        processes.push(start(
            &world.database,
            program,
            root,
            seconds,
            seed,
            number,
        )?);
    }
    let mut reports = Vec::new();
    for process in processes {
        let output = process.wait_with_output()?;
        ensure!(
            output.status.success(),
            "a process failed: {}",
            output.status
        );
        reports.push(serde_json::from_slice(&output.stdout).context("not a report")?);
    }
    Ok((world, reports))
}

fn start(
    database: &Database,
    program: &Path,
    root: &LocalRoot,
    seconds: f64,
    seed: u64,
    number: u64,
) -> Result<Child> {
    let mut command = if number.is_multiple_of(2) {
        let mut command = Command::new(program);
        command.args([
            "stress",
            "--dialect",
            "postgres",
            "--dsn",
            database.go_address(),
        ]);
        command.args([
            "--root",
            &root.go(),
            "--name",
            &format!("Go {}", number / 2 + 1),
        ]);
        command
    } else {
        let mut command = Command::new(env::current_exe()?);
        command.args([
            "stress",
            "--address",
            database.address(),
            "--root-hex",
            root.hex(),
        ]);
        command.args(["--name", &format!("Rust {}", number / 2 + 1)]);
        command
    };
    command
        .args([
            "--seconds",
            &seconds.to_string(),
            "--seed",
            &(seed * 10 + number).to_string(),
        ])
        .args([
            "--stable",
            &STABLE.to_string(),
            "--volatile",
            &VOLATILE.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// None failed, and each was done: a run in which nothing happened shows nothing.
fn succeeded(report: &Report) -> Result<()> {
    ensure!(
        report.failures.is_empty(),
        "{} failed, the first: {:#?}",
        report.failures.len(),
        &report.failures[..report.failures.len().min(3)]
    );
    for operation in [
        "encrypt",
        "decrypt",
        "rotate",
        "rotate and rewrap",
        "rewrap",
    ] {
        let times = report.did.get(operation).copied().unwrap_or_default();
        ensure!(times > 0, "never did: {operation}: {:?}", report.did);
    }
    Ok(())
}

/// The server counts them, so that one that a retry mended shows too.
fn no_deadlock(world: &World) -> Result<()> {
    let deadlocks = world
        .database
        .connect()?
        .count("select deadlocks as n from pg_stat_database where datname = current_database()")?;
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
    let made: u64 = reports
        .iter()
        .filter_map(|report| report.did.get("create"))
        .sum();
    let deleted: u64 = reports
        .iter()
        .filter_map(|report| report.did.get("delete"))
        .sum();
    ensure!(
        made > 0 && deleted > 0,
        "{made} scopes made, {deleted} deleted"
    );
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
async fn every_blob(world: &World) -> Result<()> {
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
