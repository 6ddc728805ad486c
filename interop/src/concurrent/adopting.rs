//! Taking over a database that Go processes are just working on: adoption waits for them, and they for it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kms_kit::Purpose;
use serde_json::json;

use super::{APPLICATION, Report, verdict};
use crate::database::{Database, Dialect};
use crate::engine::{LocalRoot, PURPOSES};
use crate::go::Go;
use crate::side::Side;
use crate::world::World;

const SCOPES: usize = 4;

pub(super) async fn under_load(program: &Path) -> Result<()> {
    let database = Database::new(Dialect::Postgres)?;
    let root = LocalRoot::generate();
    let go = Go::start(program, &database, &root.go())?;
    go.migrate()?;
    let mut connection = database.connect()?;
    connection.execute(APPLICATION)?;
    let purposes: Vec<_> = PURPOSES.iter().map(Purpose::as_str).collect();
    for number in 0..SCOPES {
        let scope = format!("stable_{number}");
        connection.execute(&format!("insert into organization (id) values ('{scope}')"))?;
        go.ask(&json!({"op": "create", "scope": scope, "purposes": purposes}))?;
    }
    let mut working = Vec::new();
    for number in 0..2 {
        let mut command = Command::new(program);
        command
            .args(["stress", "--dialect", "postgres"])
            .args(["--dsn", database.go_address(), "--root", &root.go()])
            .args(["--name", "Go", "--seconds", "8", "--volatile", "0"])
            .args([
                "--seed",
                &number.to_string(),
                "--stable",
                &SCOPES.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        working.push(command.spawn()?);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while connection.count("select count(*) as n from interop_record")? < 20 {
        ensure!(Instant::now() < deadline, "Go does not begin to work");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let adoption = database.adopt().context("adopting")?;
    ensure!(!adoption.already_adopted && !adoption.ran.is_empty());
    let at_work = connection.count("select count(*) as n from interop_record")?;
    for process in working {
        let output = process.wait_with_output()?;
        let report: Report = serde_json::from_slice(&output.stdout).context("not a report")?;
        eprintln!(
            "while adopting, {}: {:?}, {} retries",
            report.name, report.did, report.retries
        );
        verdict::succeeded(&report)?;
    }
    let at_the_end = connection.count("select count(*) as n from interop_record")?;
    ensure!(at_the_end > at_work, "Go had ended before");
    let deadlocks = database.deadlocks()?;
    ensure!(deadlocks == 0, "{deadlocks} deadlocks");
    let report = database.verify()?;
    ensure!(report.is_ok(), "after adopting: {report}");
    let world = World::with(database, go, root.wrapper()?).await?;
    verdict::every_blob(&world).await?;
    Side::Rust.rotate(&world, "stable_0", true).await?;
    Side::Go.rotate(&world, "stable_0", true).await?;
    verdict::every_blob(&world).await
}
