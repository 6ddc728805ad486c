//! `cargo xtask migrations check`.

use anyhow::{Result, bail};

use crate::command;
use crate::libpq::Libpq;
use crate::service::server::Lifetime;
use crate::service::{self, Obtained, postgres::Postgres};
use crate::suite;
use crate::workspace::Workspace;

const PACKAGE: &str = "kms-migrations";

/// Runs the tests that hold the migrations against both databases; Postgres is not optional here.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let libpq = Libpq::detect()?;
    let variable = |name: &str| std::env::var(name).ok();
    let postgres = match service::obtain(&Postgres, variable, workspace, Lifetime::OfThisProgram)? {
        Obtained::Running(running) => running,
        Obtained::Missing(missing) => bail!("this check needs Postgres: {missing}"),
    };
    let mut test = workspace.cargo();
    test.args(["test", "--package", PACKAGE]);
    let features = suite::features(workspace, &[PACKAGE], libpq)?;
    if !features.is_empty() {
        test.arg("--features").arg(features.join(","));
    }
    test.args([
        "--no-fail-fast",
        "--test",
        "up_down_up",
        "--test",
        "schema_rs",
    ]);
    test.envs(postgres.variables.iter().map(|(name, value)| (name, value)));
    test.env("KMS_TEST_REQUIRE", "postgres");
    let status = command::run(&mut test)?;
    drop(postgres);
    Ok(status.success())
}
