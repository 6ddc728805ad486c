//! `cargo xtask interop`: holds this system against Go's, on shared databases.
//!
//! Builds the Go program of `interop/go` and our own of `interop/`, gets the services, runs the second,
//! which starts the first. What that checks, and what its table says, is told there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::libpq::Libpq;
use crate::service::Service;
use crate::service::aws::Aws;
use crate::service::postgres::Postgres;
use crate::service::vault::Vault;
use crate::suite::{self, Suite, Tests};
use crate::test::REQUIRE;
use crate::test::services::Services;
use crate::workspace::Workspace;
use crate::{command, go};

/// Its name in `KMS_TEST_REQUIRE`.
pub(crate) const GO: &str = "go";

/// The package of our program; the Go program is in its folder `go`.
pub(crate) const PACKAGE: &str = "kms-interop";

/// Two minutes on two idle cores, once: it brings SQLite, which is C.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

const NEEDS: &[&dyn Service] = &[&Postgres, &Aws, &Vault];

/// With which packages our program is built: cargo compiles what they share for each set of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    Alone,
    /// With those of `cargo xtask test`.
    WithAllTests,
}

/// Runs it with these arguments. `false` if anything failed.
pub(crate) fn run(workspace: &Workspace, build: Build, args: &[String]) -> Result<bool> {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    let requires = |name: &str| required.split(',').any(|required| required.trim() == name);
    let module = workspace.package(PACKAGE)?.folder.join("go");
    let say = |line: &str| eprintln!("{GO}: {line}");
    let go = match go::for_module(&module, workspace, &say) {
        Ok(go) => go,
        Err(error) if requires(GO) => {
            return Err(error.context(format!("{REQUIRE} names `{GO}`")));
        }
        Err(error) => {
            eprintln!("SKIPPED: all of interop: {error:#}");
            return Ok(true);
        }
    };
    say("building the program of interop/go, the first time for minutes");
    let go = go_program(workspace, &go, &module)?;
    let program = our_program(workspace, build)?;
    let needs = Suite {
        name: "interop",
        about: "",
        tests: Tests::Docs(&[]),
        needs: NEEDS,
    };
    let services = Services::obtain(workspace, &[&needs])?;
    let missing: Vec<_> = services
        .missing
        .iter()
        .map(|(service, _)| service.name())
        .collect();
    if let Some(service) = missing.iter().find(|service| requires(service)) {
        anyhow::bail!("{REQUIRE} names `{service}`, which can't be had");
    }
    let start = Instant::now();
    let mut check = Command::new(program);
    check
        .args(["check", "--go"])
        .arg(go)
        .args(args)
        .envs(services.needed(&needs).variables());
    let status = command::run(&mut check)?;
    eprintln!("interop: {} s", start.elapsed().as_secs());
    Ok(status.success())
}

/// Builds the Go program. Go's own cache knows what is to be done.
pub(crate) fn go_program(workspace: &Workspace, go: &Path, module: &Path) -> Result<PathBuf> {
    let program = workspace.kept("interop")?.join("kms-interop-go");
    let mut build = Command::new("nice");
    build
        .arg(go)
        .args(["build", "-mod=readonly", "-trimpath", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(module)
        .env("GOWORK", "off");
    command::within(PATIENCE, &mut build)?;
    Ok(program)
}

/// Builds ours. It comes with its tests.
fn our_program(workspace: &Workspace, build: Build) -> Result<PathBuf> {
    let packages = match build {
        Build::Alone => vec![PACKAGE],
        Build::WithAllTests => suite::packages(&suite::ALL.iter().collect::<Vec<_>>()),
    };
    let mut build = suite::cargo_test(workspace, Libpq::detect()?, &packages)?;
    build.args(["--tests", "--examples", "--no-run"]);
    build.args(["--message-format", "json-render-diagnostics"]);
    let mut program = None;
    let status = command::tee(&mut build, &mut io::sink(), |line| {
        program = built(PACKAGE, line).or(program.take());
    })?;
    ensure!(status.success(), "{PACKAGE} does not compile");
    program.with_context(|| format!("cargo built no program {PACKAGE}"))
}

/// The program of this name in a message of cargo, if it is about that.
pub(crate) fn built(name: &str, message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = message["target"]["name"] == name
        && message["target"]["kind"][0] == "bin"
        && message["profile"]["test"] == false;
    let path = message["executable"].as_str().filter(|_| is_ours)?;
    Some(Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::PACKAGE;

    fn built(message: &str) -> Option<PathBuf> {
        super::built(PACKAGE, message)
    }

    #[test]
    fn the_program_is_told_from_its_tests_and_other_programs() {
        let message = |name: &str, test: bool| {
            format!(
                r#"{{"target": {{"name": "{name}", "kind": ["bin"]}}, "profile": {{"test": {test}}},
                    "executable": "/t/{name}"}}"#
            )
        };
        let found = Some(PathBuf::from("/t/kms-interop"));
        assert_eq!(built(&message("kms-interop", false)), found);
        assert_eq!(built(&message("kms-interop", true)), None);
        assert_eq!(built(&message("engine", false)), None);
        assert_eq!(built("not JSON"), None);
    }
}
