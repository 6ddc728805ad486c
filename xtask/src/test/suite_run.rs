//! Running one suite.

use std::io::stdout;
use std::process::Command;

use anyhow::Result;

use super::REQUIRE;
use super::left_out::LeftOut;
use super::services::Needed;
use crate::libtest::{self, Reader};
use crate::programs::Programs;
use crate::report::Outcome;
use crate::suite::{Suite, Tests};
use crate::workspace::Workspace;
use crate::{command, script};

/// One suite, and what it needs to run.
pub(super) struct SuiteRun<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) suite: &'a Suite,
    pub(super) needed: Needed<'a>,
    /// The services that the caller requires.
    pub(super) required: &'a [&'static str],
    /// What the tests get from the caller.
    pub(super) args: &'a [String],
}

impl SuiteRun<'_> {
    /// Runs it. Gives its outcome, and a line per service that it had to do without.
    ///
    /// `programs` are its test programs, if they compile; `docs` is the command that runs the
    /// examples in the documentation, up to the `--`.
    pub(super) fn run(
        &self,
        programs: Option<&Programs>,
        docs: Command,
    ) -> Result<(Outcome, Vec<String>)> {
        match self.suite.tests {
            Tests::Programs(packages) => match programs {
                Some(programs) => self.run_programs(programs, packages),
                None => Ok((Outcome::broken(), Vec::new())),
            },
            Tests::Docs(_) => self.run_docs(docs),
            Tests::Model(package) => self.run_model(package),
            Tests::Script {
                interpreter,
                path,
                argument,
            } => self.run_script(interpreter, path, argument),
        }
    }

    /// Runs the test programs, without the tests whose services are missing.
    fn run_programs(
        &self,
        programs: &Programs,
        packages: &[&str],
    ) -> Result<(Outcome, Vec<String>)> {
        let (required, mut lines) = self.required_inside();
        let missing: Vec<&str> = self
            .needed
            .missing
            .iter()
            .map(|(service, _)| service.name())
            .collect();
        let mut left_out = vec![0; missing.len()];
        let mut left_out_in_all = 0;
        let mut reader = Reader::default();
        let mut succeeded = true;
        for program in programs.of(packages) {
            println!("\n-- {}", program.shown());
            let mut test = program.command();
            test.args(self.args)
                .envs(self.needed.variables())
                .env(REQUIRE, &required);
            if !missing.is_empty() {
                let list = command::output(program.command().args(self.args).arg("--list"))?;
                let listed: Vec<String> = libtest::listed(&list).map(str::to_owned).collect();
                for (service, count) in missing.iter().zip(&mut left_out) {
                    let needs = |path: &&String| libtest::needs(path, service);
                    *count += listed.iter().filter(needs).count();
                }
                let skipped = LeftOut::of(&listed, &missing, self.args.is_empty());
                left_out_in_all += skipped.count();
                test.args(skipped.arguments());
            }
            if !(missing.is_empty() && lines.is_empty()) {
                // Shows what tests say that have to skip themselves.
                test.arg("--show-output");
            }
            let status = command::tee(&mut test, &mut stdout(), |line| reader.line(line))?;
            succeeded &= status.success();
        }
        lines.extend(self.missing_lines(|index| format!("{} tests left out", left_out[index])));
        let narrowed = !self.args.is_empty();
        let outcome = Outcome::of(reader.counts(), succeeded, left_out_in_all, narrowed);
        Ok((outcome, lines))
    }

    /// Runs the examples in the documentation, which need no service.
    fn run_docs(&self, mut docs: Command) -> Result<(Outcome, Vec<String>)> {
        docs.args(["--doc", "--no-fail-fast", "--"]).args(self.args);
        let mut reader = Reader::default();
        let status = command::tee(&mut docs, &mut stdout(), |line| reader.line(line))?;
        let narrowed = !self.args.is_empty();
        let outcome = Outcome::of(reader.counts(), status.success(), 0, narrowed);
        Ok((outcome, Vec::new()))
    }

    /// Runs a package's models. They are built apart from the other tests, in a folder of their own: the flag would
    /// have everything compiled anew, each time that it comes or goes.
    fn run_model(&self, package: &str) -> Result<(Outcome, Vec<String>)> {
        let mut models = self.workspace.cargo();
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        models
            .args(["test", "--package", package, "--lib", "--", "::model::"])
            .args(self.args)
            .env("RUSTFLAGS", format!("{flags} --cfg shuttle"))
            .env("CARGO_TARGET_DIR", self.workspace.kept("model")?);
        let mut reader = Reader::default();
        let status = command::tee(&mut models, &mut stdout(), |line| reader.line(line))?;
        let narrowed = !self.args.is_empty();
        let outcome = Outcome::of(reader.counts(), status.success(), 0, narrowed);
        Ok((outcome, Vec::new()))
    }

    /// Runs a script, if none of its services is missing; else it counts as one test skipped.
    fn run_script(
        &self,
        interpreter: &str,
        path: &str,
        argument: &str,
    ) -> Result<(Outcome, Vec<String>)> {
        let lines = self.missing_lines(|_| "the whole suite".to_owned());
        if !lines.is_empty() {
            let outcome = Outcome {
                skipped: 1,
                ..Outcome::default()
            };
            return Ok((outcome, lines));
        }
        let mut script = Command::new(self.needed.value_of(interpreter)?);
        script
            .arg(self.workspace.root.join(path))
            .arg(self.needed.value_of(argument)?)
            .current_dir(&self.workspace.root)
            // Nothing is to lie beside it afterwards.
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let mut reader = script::Reader::default();
        let status = command::tee(&mut script, &mut stdout(), |line| reader.line(line))?;
        let succeeded = status.success() && reader.is_whole();
        Ok((Outcome::of(reader.counts(), succeeded, 0, false), lines))
    }

    /// What tests are told to require: what is at hand, so that none skips itself unseen. And a line
    /// per service of which tests can't start one of their own: those may skip themselves, unless
    /// the caller requires it.
    fn required_inside(&self) -> (String, Vec<String>) {
        let mut required = Vec::new();
        let mut lines = Vec::new();
        for (service, running) in &self.needed.running {
            let (name, advice) = (service.name(), service.advice());
            match &running.lacks {
                Some(why) if !self.required.contains(&name) => lines.push(format!(
                    "{name} ({}, tests that start one of their own) {why}. To have it: {advice}",
                    self.suite.name
                )),
                _ => required.push(name),
            }
        }
        (required.join(","), lines)
    }

    /// A line per missing service; `what` says of each what is skipped.
    fn missing_lines(&self, what: impl Fn(usize) -> String) -> Vec<String> {
        let line = |(index, (service, why)): (usize, &&(&dyn crate::service::Service, _))| {
            let why: &crate::service::Missing = why;
            format!(
                "{} ({}, {}) {why}. To have it: {}",
                service.name(),
                self.suite.name,
                what(index),
                service.advice()
            )
        };
        self.needed.missing.iter().enumerate().map(line).collect()
    }
}
