//! Two Rust processes and two Go processes on one Postgres, at the same time.

mod adopting;
mod verdict;

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::database::{Database, Dialect};
use crate::engine::{LocalRoot, PURPOSES};
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const TOGETHER: &str = "2 × Go + 2 × Rust at once";

/// Scopes that stay, of which the first is changed by Go alone, and scopes that are deleted and made anew.
const STABLE: usize = 4;
const VOLATILE: usize = 4;

/// What the four processes are called on the server.
const NAME: &str = "kms-interop-stress";

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
    /// Where a change was seen too late. Go promises nothing.
    #[serde(default)]
    pub(crate) stale: Vec<String>,
}

pub(crate) async fn run(table: &mut Table, program: &Path, seconds: f64, seed: u64) {
    table
        .check(
            "2 × Go at work",
            Dialect::Postgres,
            "adopted under their hands",
            adopting::under_load(program),
        )
        .await;
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
    verdict::enter(table, &world, &reports).await;
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
            &database.address_named(NAME),
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
            &database.address_named(NAME),
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
