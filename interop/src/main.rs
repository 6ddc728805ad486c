//! Holds this system against the Go one: both work on one database, and each reads what the other writes.
//!
//! `cargo xtask interop` builds the Go program of `go/`, gets the services and runs this. What is printed is a
//! table: direction × database × operation, passed or failed.
//!
//! | to see | go to |
//! |---|---|
//! | what the Go program can be told | [`go`] |
//! | one side and the other, doing the same | [`side`] |
//! | both directions, operation by operation | [`directions`] |
//! | databases of Go's migrations taken over | [`adoption`], [`prefix`], [`options`] |
//! | what is refused, and changes nothing | [`refusals`], [`damage`] |
//! | until Go can't read any more, and back | [`binding`] |
//! | blobs of cloud wrappers | [`roots`] |
//! | four processes at once | [`concurrent`], [`stress`] |
//! | the one order of locks that does not do | [`lock_order`] |
#![allow(
    clippy::print_stdout,
    reason = "a command-line program: what it prints is what it is for"
)]

mod adoption;
mod binding;
mod concurrent;
mod connection;
mod damage;
mod database;
mod directions;
mod dump;
mod engine;
mod go;
mod lock_order;
mod options;
mod prefix;
mod record;
mod refusals;
mod roots;
mod side;
mod stress;
mod table;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::database::Dialect;
use crate::table::Table;

#[derive(Debug, Parser)]
#[command(name = "kms-interop")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the checks, and print the table
    Check {
        /// The Go program
        #[arg(long, env = "KMS_INTEROP_GO")]
        go: PathBuf,
        /// How long the four processes work at the same time
        #[arg(long, default_value_t = 12.0)]
        seconds: f64,
        /// Of their random choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only the groups whose names contain one of these
        groups: Vec<String>,
    },
    /// Be one of the processes that work at the same time
    Stress(stress::Plan),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<bool> {
    let (go, seconds, seed, groups) = match command {
        Command::Stress(plan) => return stress::run(&plan).await.map(|()| true),
        Command::Check {
            go,
            seconds,
            seed,
            groups,
        } => (go, seconds, seed, groups),
    };
    let wanted =
        |group: &str| groups.is_empty() || groups.iter().any(|part| group.contains(part.as_str()));
    let mut table = Table::default();
    for dialect in Dialect::available() {
        if wanted("directions") {
            directions::run(&mut table, dialect, &go).await;
        }
        if wanted("adoption") {
            adoption::run(&mut table, dialect, &go).await;
        }
        if wanted("options") {
            prefix::run(&mut table, dialect, &go).await;
            options::run(&mut table, dialect, &go).await;
        }
        if wanted("refusals") {
            refusals::run(&mut table, dialect, &go).await;
            damage::run(&mut table, dialect, &go).await;
        }
        if wanted("binding") {
            binding::run(&mut table, dialect, &go).await;
        }
        if wanted("roots") {
            roots::run(&mut table, dialect, &go).await;
        }
        if wanted("concurrent") && dialect == Dialect::Postgres {
            concurrent::run(&mut table, &go, seconds, seed).await;
            lock_order::run(&mut table, &go).await;
        }
    }
    println!("{table}");
    Ok(table.is_success())
}
