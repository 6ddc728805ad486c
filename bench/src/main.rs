//! Measures a group of cases, and prints one line of JSON for each.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use kms_bench::cases::{blobs, cached, changing, loading};
use kms_bench::database::Database;
use kms_bench::measure::Run;

#[derive(Debug, Parser)]
struct Arguments {
    /// The groups to measure
    #[arg(required = true)]
    groups: Vec<Group>,
    /// The Postgres server, with a user that may create databases
    #[arg(long, env = "KMS_TEST_POSTGRES_URL")]
    postgres: Option<String>,
    /// Milliseconds for each case
    #[arg(long, default_value_t = 300)]
    budget: u64,
    /// Repetitions of work that is done a given number of times
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Only cases whose name holds one of these
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Group {
    /// Wrappers from the cache
    Cached,
    /// Encrypting and decrypting
    Blobs,
    /// Keys that are not in the cache
    Loading,
    /// Making and changing keys
    Changing,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut run = Run {
        budget: Duration::from_millis(arguments.budget),
        repetitions: arguments.repetitions,
        only: arguments.only,
        measurements: Vec::new(),
    };
    let postgres = || {
        let server = arguments.postgres.as_deref();
        Database::postgres(server.context("it takes a Postgres server: --postgres URL")?)
    };
    for group in &arguments.groups {
        match group {
            Group::Blobs => blobs::run(&mut run).await?,
            Group::Loading => {
                loading::in_memory(&mut run).await?;
                loading::run(&postgres()?, &mut run).await?;
                loading::run(&Database::sqlite()?, &mut run).await?;
            }
            Group::Changing => {
                changing::run(postgres, &mut run).await?;
                changing::long_transactions(&postgres()?, &mut run).await?;
                changing::run(Database::sqlite, &mut run).await?;
            }
            Group::Cached => {
                cached::run(&postgres()?, &mut run).await?;
                cached::run(&Database::sqlite()?, &mut run).await?;
            }
        }
        for measurement in run.measurements.drain(..) {
            println!("{}", measurement.to_json());
        }
    }
    Ok(())
}
