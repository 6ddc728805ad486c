//! Test programs, built together and run one by one.
//!
//! Cargo compiles a dependency anew for every set of features that the chosen packages make of it.
//! So the packages of all suites that are to run are chosen at once, and what they share is
//! compiled once; which program is run when is decided here.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;
use crate::libpq::Libpq;
use crate::suite;
use crate::workspace::Workspace;

/// The test programs of some packages.
#[derive(Debug, Default)]
pub(crate) struct Programs(Vec<Program>);

/// A program that the test harness is linked into.
#[derive(Debug)]
pub(crate) struct Program {
    package: String,
    /// What it is of its package: `lib`, `tests/rotation`.
    target: String,
    /// The folder of its package.
    folder: PathBuf,
    path: PathBuf,
}

impl Programs {
    /// Builds the programs of these packages, with all features of theirs: unit tests, integration
    /// tests, examples. None if something doesn't compile, which cargo has said.
    pub(crate) fn build(
        workspace: &Workspace,
        libpq: Libpq,
        packages: &[&str],
    ) -> Result<Option<Self>> {
        if packages.is_empty() {
            return Ok(Some(Self::default()));
        }
        let mut build = suite::cargo_test(workspace, libpq, packages)?;
        build.args(["--tests", "--examples", "--no-run"]);
        build.args(["--message-format", "json-render-diagnostics"]);
        let mut programs = Vec::new();
        let mut unclear = None;
        let status = command::tee(&mut build, &mut io::sink(), |line| {
            match Program::parse(line, workspace) {
                Ok(program) => programs.extend(program),
                Err(error) => unclear = Some(error),
            }
        })?;
        if let Some(error) = unclear {
            return Err(error.context("cannot make sense of what cargo built"));
        }
        programs.sort_by_cached_key(|program: &Program| (program.rank(), program.target.clone()));
        Ok(status.success().then_some(Self(programs)))
    }

    /// Those of these packages, package by package.
    pub(crate) fn of<'a>(&'a self, packages: &'a [&str]) -> impl Iterator<Item = &'a Program> {
        packages.iter().flat_map(|package| {
            let all = self.0.iter();
            all.filter(move |program| program.package == *package)
        })
    }
}

impl Program {
    /// The program in a message of cargo, if it is about one.
    fn parse(message: &str, workspace: &Workspace) -> Result<Option<Self>> {
        let Ok(message) = serde_json::from_str::<Value>(message) else {
            return Ok(None);
        };
        let (true, Some(path)) = (
            message["profile"]["test"] == true,
            message["executable"].as_str(),
        ) else {
            return Ok(None);
        };
        let text = |value: &Value| value.as_str().map(str::to_owned).context("not a string");
        let package = workspace.package_by_id(&text(&message["package_id"])?)?;
        let target = &message["target"];
        let name = text(&target["name"])?;
        let target = match text(&target["kind"][0])?.as_str() {
            "test" => format!("tests/{name}"),
            "example" => format!("examples/{name}"),
            "bin" => format!("bin/{name}"),
            _ => "lib".to_owned(),
        };
        Ok(Some(Self {
            package: package.name.clone(),
            target,
            folder: package.folder.clone(),
            path: path.into(),
        }))
    }

    /// The program as a command, as cargo would run it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env("CARGO_MANIFEST_PATH", self.folder.join("Cargo.toml"))
            .env("CARGO_PKG_NAME", &self.package);
        command
    }

    /// What it is, for a person.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.package, self.target)
    }

    /// Unit tests come first.
    fn rank(&self) -> u8 {
        match Path::new(&self.target).components().next() {
            Some(first) if first.as_os_str() == "tests" => 2,
            Some(first) if first.as_os_str() == "examples" => 3,
            Some(first) if first.as_os_str() == "bin" => 1,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Program, Programs};
    use crate::workspace::Workspace;

    const METADATA: &str = r#"{
        "workspace_root": "/w", "target_directory": "/w/target", "packages": [
            {"name": "core", "id": "path+file:///w/core#0.1.0", "features": {},
             "manifest_path": "/w/core/Cargo.toml", "publish": null},
            {"name": "kit", "id": "path+file:///w/kit#0.1.0", "features": {},
             "manifest_path": "/w/kit/Cargo.toml", "publish": null}
        ]
    }"#;

    fn message(package: &str, kind: &str, name: &str, test: bool) -> String {
        format!(
            r#"{{"reason": "compiler-artifact", "package_id": "path+file:///w/{package}#0.1.0",
                "target": {{"kind": ["{kind}"], "name": "{name}"}}, "profile": {{"test": {test}}},
                "executable": "/w/target/debug/deps/{name}-0"}}"#
        )
    }

    fn parse(message: &str) -> Option<Program> {
        let workspace = Workspace::parse(METADATA).unwrap();
        Program::parse(message, &workspace).unwrap()
    }

    #[test]
    fn test_programs_are_told_from_what_else_cargo_builds() {
        assert!(parse(&message("core", "bin", "fake", false)).is_none());
        assert!(parse(r#"{"reason": "build-finished", "success": true}"#).is_none());
        assert!(parse("not JSON").is_none());
        let program = parse(&message("core", "test", "rotation", true)).unwrap();
        assert_eq!(program.shown(), "core tests/rotation");
        assert_eq!(program.folder, Path::new("/w/core"));
        let unit = parse(&message("core", "lib", "kms_core", true)).unwrap();
        assert_eq!(unit.shown(), "core lib");
    }

    #[test]
    fn a_program_of_an_unknown_package_is_an_error_and_not_left_out() {
        let workspace = Workspace::parse(METADATA).unwrap();
        let unknown = message("other", "test", "rotation", true);
        assert!(Program::parse(&unknown, &workspace).is_err());
    }

    #[test]
    fn a_suite_gets_its_own_packages_programs() {
        let messages = [
            message("kit", "test", "two", true),
            message("core", "test", "one", true),
        ];
        let programs = Programs(
            messages
                .iter()
                .filter_map(|message| parse(message))
                .collect(),
        );
        let shown = |packages: &[&str]| {
            let shown = programs.of(packages).map(Program::shown);
            shown.collect::<Vec<_>>()
        };
        assert_eq!(shown(&["core"]), ["core tests/one"]);
        assert_eq!(shown(&["core", "kit"]), ["core tests/one", "kit tests/two"]);
    }
}
