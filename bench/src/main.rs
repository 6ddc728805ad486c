//! Measures a group of cases, and prints one line of JSON for each.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use kms_bench::cases::{blobs, cached, changing, cloud, loading, scale, versions};
use kms_bench::database::Database;
use kms_bench::measure::Run;
use kms_bench::{allocations, statements};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

#[derive(Debug, Parser)]
struct Arguments {
    /// The groups to measure
    #[arg(required = true)]
    groups: Vec<Group>,
    /// The Postgres server, with a user that may create databases
    #[arg(long, env = "KMS_TEST_POSTGRES_URL")]
    postgres: Option<String>,
    /// LocalStack, for the group `cloud`; without it that is measured with injected latencies alone
    #[arg(long, env = "KMS_TEST_AWS_ENDPOINT")]
    aws: Option<String>,
    /// Milliseconds for each case
    #[arg(long, default_value_t = 300)]
    budget: u64,
    /// Milliseconds that one measurement of a quick case takes
    #[arg(long, default_value_t = 10)]
    batch: u64,
    /// Repetitions of work that is done a given number of times
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Only cases whose name holds one of these
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// The numbers of scopes of the group `scale`
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    scopes: Vec<usize>,
    /// Fail if a time for one scope grows with the number of scopes
    #[arg(long)]
    check: bool,
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
    /// Starting and rotating with a root of trust that is far away
    Cloud,
    /// The same among few scopes and among many, on Postgres
    Scale,
}

impl Arguments {
    /// Whether the cases on Postgres can be measured, which is said if not.
    fn has_postgres(&self) -> bool {
        if self.postgres.is_none() {
            eprintln!("kms-bench: nothing on Postgres: --postgres URL says where there is one");
        }
        self.postgres.is_some()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    statements::count()?;
    let mut run = Run {
        budget: Duration::from_millis(arguments.budget),
        batch: Duration::from_millis(arguments.batch),
        repetitions: arguments.repetitions,
        only: arguments.only.clone(),
        measurements: Vec::new(),
    };
    let postgres = || {
        let server = arguments.postgres.as_deref();
        Database::postgres(server.context("it takes a Postgres server: --postgres URL")?)
    };
    let mut grown = Vec::new();
    for group in &arguments.groups {
        match group {
            Group::Blobs => {
                blobs::run(&mut run).await?;
                versions::run(&mut run).await?;
            }
            Group::Loading => {
                loading::in_memory(&mut run).await?;
                if arguments.has_postgres() {
                    loading::run(&postgres()?, &mut run).await?;
                }
                loading::run(&Database::sqlite()?, &mut run).await?;
            }
            Group::Changing => {
                if arguments.has_postgres() {
                    changing::run(postgres, &mut run).await?;
                    changing::long_transactions(&postgres()?, &mut run).await?;
                }
                changing::run(Database::sqlite, &mut run).await?;
            }
            Group::Cloud => {
                if arguments.has_postgres() {
                    cloud::run(postgres, &mut run).await?;
                    if let Some(endpoint) = &arguments.aws {
                        cloud::localstack(endpoint, postgres, &mut run).await?;
                    }
                }
            }
            Group::Scale => scale::run(postgres, &arguments.scopes, &mut run).await?,
            Group::Cached => {
                if arguments.has_postgres() {
                    cached::run(&postgres()?, &mut run).await?;
                }
                cached::run(&Database::sqlite()?, &mut run).await?;
            }
        }
        grown.extend(scale::grown(&run.measurements));
        for measurement in run.measurements.drain(..) {
            println!("{}", measurement.to_json());
        }
    }
    ensure!(
        !arguments.check || grown.is_empty(),
        "not flat: {}",
        grown.join(", ")
    );
    Ok(())
}
