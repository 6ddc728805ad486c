//! The automation of this workspace: `cargo xtask …`.
//!
//! Everything that a person or the CI does here is a command of this program, so that both do the
//! same: it gets the real services that the tests talk to, runs the suites, counts what ran, and
//! checks what must stay true of the workspace (formatting, lints, docs, features).
//!
//! | to change | go to |
//! |---|---|
//! | which suites there are, and what they run | the table in [`suite`] |
//! | which services there are, and how each is had | [`service`], one module per service |
//! | what each feature may pull in | the table in [`features`] |
//! | what is measured, and what it has to reach | `rows`, the table in [`mod@bench`] |
//! | what the CI does | [`ci`], called by `.ci/run` |
//!
//! Unix only: servers are kept on a lifeline (see [`service::server`]) that needs pipes and process
//! groups.

#![allow(
    clippy::print_stdout,
    reason = "a command-line program: what it prints is what it is for"
)]

mod account;
mod ahead;
mod apt;
mod bench;
mod cache;
mod ci;
mod cli;
mod command;
mod features;
mod go;
mod interop;
mod interrupt;
mod libpq;
mod libtest;
mod migrations;
mod programs;
mod python;
mod report;
mod script;
mod service;
mod suite;
mod test;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Nothing below leaves through `exit`: servers are stopped by going out of scope.
    match interrupt::install().and_then(|()| cli.run()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) if interrupt::requested() => {
            eprintln!("interrupted: everything that was started has been stopped");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
