//! `cargo xtask test`: gets the services, runs the suites, counts.
//!
//! What is counted is real. With a service at hand, the tests are told so (`KMS_TEST_REQUIRE`), so
//! that none of them can skip itself unseen. Without it, the tests that have its name as a word in
//! their path are listed first, counted, and left out by `--skip`; those that need it under another
//! name print `skipped: …` and return, and are counted from their output.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::libpq::Libpq;
use crate::libtest::{self, Reader};
use crate::report::{Outcome, Report};
use crate::service::server::Lifetime;
use crate::service::{self, Missing, Obtained, Running, Service};
use crate::suite::{self, Suite, Tests};
use crate::workspace::Workspace;
use crate::{command, script};

const REQUIRE: &str = "KMS_TEST_REQUIRE";

/// Runs the suites with these names, or all; `args` go to the tests. `false` if anything failed.
pub(crate) fn run(workspace: &Workspace, suites: &[String], args: &[String]) -> Result<bool> {
    let suites = suite::select(suites)?;
    let required = required(std::env::var(REQUIRE).ok().as_deref())?;
    let libpq = Libpq::detect()?;
    let services = Services::obtain(workspace, &suites)?;

    let mut report = Report::default();
    for suite in &suites {
        println!("\n== {}: {}", suite.name, suite.about);
        let (outcome, skipped) = run_suite(workspace, suite, libpq, &services, &required, args)?;
        report.suites.push((suite.name, outcome));
        report.skipped.extend(skipped);
    }
    for (service, _) in &services.missing {
        if required.contains(&service.name()) {
            report.required.push(service.name().to_owned());
        }
    }
    // Stopped before the report: its last line is the last line.
    drop(services);
    println!("\n{report}");
    Ok(report.is_success())
}

/// The list of suites for the help.
pub(crate) fn after_help() -> String {
    let mut help = String::from("Suites:\n");
    for suite in suite::ALL {
        let needs: Vec<_> = suite.needs.iter().map(|service| service.name()).collect();
        let needs = if needs.is_empty() {
            String::new()
        } else {
            format!(" [{}]", needs.join(", "))
        };
        // Writing to a string can't fail.
        let _ = writeln!(help, "  {:<12}{}{needs}", suite.name, suite.about);
    }
    help.push_str(
        "\nOne database of a suite: `cargo xtask test store -- sqlite` runs the tests with that word \
         in their path.",
    );
    help
}

/// What a suite needs, of what was found.
struct Needed<'a> {
    running: Vec<&'a (&'static dyn Service, Running)>,
    missing: Vec<&'a (&'static dyn Service, Missing)>,
}

impl Needed<'_> {
    /// The value of a variable of a service that runs.
    fn value_of(&self, variable: &str) -> Result<&str> {
        let running = self.running.iter();
        let mut variables = running.flat_map(|(_, running)| &running.variables);
        let found = variables.find(|(name, _)| *name == variable);
        let (_, value) = found.with_context(|| format!("no service gives {variable}"))?;
        Ok(value)
    }
}

/// What was found of the services that the suites need.
struct Services {
    running: Vec<(&'static dyn Service, Running)>,
    missing: Vec<(&'static dyn Service, Missing)>,
}

impl Services {
    fn obtain(workspace: &Workspace, suites: &[&Suite]) -> Result<Self> {
        let mut services = Self {
            running: Vec::new(),
            missing: Vec::new(),
        };
        for &service in service::ALL {
            let needs = |suite: &&Suite| suite.needs.iter().any(|need| same(*need, service));
            if !suites.iter().any(needs) {
                continue;
            }
            let variable = |name: &str| std::env::var(name).ok();
            match service::obtain(service, variable, workspace, Lifetime::OfThisProgram)? {
                Obtained::Running(running) => services.running.push((service, running)),
                Obtained::Missing(missing) => {
                    eprintln!("MISSING: {} ({missing})", service.name());
                    services.missing.push((service, missing));
                }
            }
        }
        Ok(services)
    }

    /// Those that this suite needs.
    fn needed(&self, suite: &Suite) -> Needed<'_> {
        let needs = |service: &dyn Service| suite.needs.iter().any(|need| same(*need, service));
        Needed {
            running: self
                .running
                .iter()
                .filter(|(service, _)| needs(*service))
                .collect(),
            missing: self
                .missing
                .iter()
                .filter(|(service, _)| needs(*service))
                .collect(),
        }
    }
}

/// Runs one suite. Gives its outcome, and a line per service that it had to do without.
fn run_suite(
    workspace: &Workspace,
    suite: &Suite,
    libpq: Libpq,
    services: &Services,
    required: &[&str],
    args: &[String],
) -> Result<(Outcome, Vec<String>)> {
    let needed = services.needed(suite);
    match suite.tests {
        Tests::Cargo { packages, targets } => {
            let mut test = suite::cargo_test(workspace, libpq, packages, targets)?;
            test.args(["--no-fail-fast", "--"]).args(args);
            let mut list = suite::cargo_test(workspace, libpq, packages, targets)?;
            list.arg("--").args(args).arg("--list");
            run_cargo(suite.name, test, list, &needed, required, args)
        }
        Tests::Script {
            interpreter,
            path,
            argument,
        } => {
            let lines = whole_suite_left_out(suite.name, &needed);
            if !lines.is_empty() {
                let outcome = Outcome {
                    skipped: 1,
                    ..Outcome::default()
                };
                return Ok((outcome, lines));
            }
            let mut script = Command::new(needed.value_of(interpreter)?);
            script
                .arg(workspace.root.join(path))
                .arg(needed.value_of(argument)?)
                .current_dir(&workspace.root)
                // Nothing is to lie beside it afterwards.
                .env("PYTHONDONTWRITEBYTECODE", "1");
            Ok((run_script(script)?, lines))
        }
    }
}

/// Runs a `cargo test`, without the tests whose services are missing. `list` lists them.
fn run_cargo(
    suite: &str,
    mut test: Command,
    mut list: Command,
    needed: &Needed<'_>,
    required: &[&str],
    args: &[String],
) -> Result<(Outcome, Vec<String>)> {
    let mut lines = Vec::new();
    let mut at_hand = Vec::new();
    for (service, running) in &needed.running {
        let name = service.name();
        test.envs(running.variables.iter().map(|(name, value)| (name, value)));
        // Where tests can't start one of their own, those may skip themselves, unless it is required.
        match &running.lacks {
            Some(why) if !required.contains(&name) => {
                let advice = service.advice();
                lines.push(format!(
                    "{name} ({suite}, tests that start one of their own) {why}. To have it: {advice}"
                ));
            }
            _ => at_hand.push(name),
        }
    }
    test.env(REQUIRE, at_hand.join(","));

    let mut left_out = 0;
    if !needed.missing.is_empty() {
        // If it does not build, the run below says so.
        let list = command::output(&mut list).unwrap_or_default();
        let tests: Vec<&str> = libtest::listed(&list).collect();
        let mut skipped = BTreeSet::new();
        for (service, why) in &needed.missing {
            let name = service.name();
            let about = tests.iter().filter(|test| libtest::needs(test, name));
            let about: Vec<&str> = about.copied().collect();
            lines.push(format!(
                "{name} ({suite}, {} tests left out) {why}. To have it: {}",
                about.len(),
                service.advice()
            ));
            skipped.extend(about);
        }
        // Their whole paths: a word alone would leave out others. Exact as long as nothing is given
        // that would be taken for exact too.
        let exact = args.is_empty();
        test.args(exact.then_some("--exact"));
        for path in &skipped {
            test.args(["--skip", path]);
        }
        let leaves_out = |test: &&&str| {
            let matches = |path: &&str| {
                if exact {
                    test == &path
                } else {
                    test.contains(path)
                }
            };
            skipped.iter().any(matches)
        };
        left_out = tests.iter().filter(leaves_out).count();
    }
    if !lines.is_empty() {
        // Shows what tests say that have to skip themselves.
        test.arg("--show-output");
    }

    let mut reader = Reader::default();
    let status = command::tee(&mut test, &mut std::io::stdout(), |line| reader.line(line))?;
    let counts = reader.counts();
    let outcome = Outcome::of(counts, status.success(), left_out, !args.is_empty());
    Ok((outcome, lines))
}

/// A line per missing service of a suite that needs them all: it counts as one test.
fn whole_suite_left_out(suite: &str, needed: &Needed<'_>) -> Vec<String> {
    let line = |(service, why): &&(&dyn Service, Missing)| {
        let (name, advice) = (service.name(), service.advice());
        format!("{name} ({suite}, the whole suite) {why}. To have it: {advice}")
    };
    needed.missing.iter().map(line).collect()
}

/// Runs a script.
fn run_script(mut script: Command) -> Result<Outcome> {
    let mut reader = script::Reader::default();
    let status = command::tee(&mut script, &mut std::io::stdout(), |line| {
        reader.line(line);
    })?;
    let succeeded = status.success() && reader.is_whole();
    Ok(Outcome::of(reader.counts(), succeeded, 0, false))
}

/// The services that must be there.
fn required(variable: Option<&str>) -> Result<Vec<&'static str>> {
    let mut required = Vec::new();
    for name in variable.unwrap_or_default().split(',').map(str::trim) {
        if name.is_empty() {
            continue;
        }
        let Some(service) = service::ALL.iter().find(|service| service.name() == name) else {
            let known: Vec<_> = service::ALL.iter().map(|service| service.name()).collect();
            bail!(
                "{REQUIRE} names `{name}`, which is no service: there are {}",
                known.join(", ")
            );
        };
        required.push(service.name());
    }
    Ok(required)
}

fn same(one: &dyn Service, other: &dyn Service) -> bool {
    one.name() == other.name()
}

#[cfg(test)]
mod tests {
    use super::required;

    #[test]
    fn required_services_are_separated_by_commas() {
        assert_eq!(required(Some(" postgres ,")).unwrap(), ["postgres"]);
        assert!(required(Some("")).unwrap().is_empty());
        assert!(required(None).unwrap().is_empty());
    }

    #[test]
    fn requiring_an_unknown_service_is_an_error_and_not_ignored() {
        let error = required(Some("postgres,oracle")).unwrap_err();
        assert!(error.to_string().contains("`oracle`"), "{error}");
    }
}
