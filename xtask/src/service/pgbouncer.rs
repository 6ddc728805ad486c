//! pgbouncer: the pooler that tests put between the store and Postgres, each one of its own.

use std::process::Command;

use anyhow::{Result, bail};

use super::server::Lifetime;
use super::{Running, Service, Source};
use crate::command;
use crate::workspace::Workspace;

/// The program.
pub(crate) struct PgBouncer;

const PROGRAM: &str = "KMS_TEST_PGBOUNCER";

/// Packages put it where only root looks.
const PLACES: [&str; 3] = [
    "pgbouncer",
    "/usr/sbin/pgbouncer",
    "/usr/local/sbin/pgbouncer",
];

impl Service for PgBouncer {
    fn name(&self) -> &'static str {
        "pgbouncer"
    }

    fn variables(&self) -> &'static [&'static str] {
        &[PROGRAM]
    }

    fn is_server(&self) -> bool {
        false
    }

    fn address(&self, _: &str) -> Option<String> {
        None
    }

    fn sources(&self) -> &'static [Source] {
        &[
            Source {
                what: "binaries",
                start: from_binaries,
            },
            Source {
                what: "apt",
                start: from_apt,
            },
        ]
    }

    fn advice(&self) -> &'static str {
        "install pgbouncer (Debian: `apt-get install pgbouncer`), or set KMS_TEST_PGBOUNCER to the program"
    }
}

fn from_binaries(_: &Workspace, _: Lifetime) -> Result<Running> {
    for place in PLACES {
        if let Ok(said) = command::output(Command::new(place).arg("--version")) {
            return Ok(Running {
                variables: vec![(PROGRAM, place.to_owned())],
                lacks: None,
                how: said.lines().next().unwrap_or(place).to_owned(),
                server: None,
            });
        }
    }
    bail!("no `pgbouncer` in PATH or the usual folders");
}

fn from_apt(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    crate::apt::install(&["pgbouncer"])?;
    from_binaries(workspace, lifetime)
}
