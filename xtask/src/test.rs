//! `cargo xtask test`: gets the services, runs the suites, counts.
//!
//! What is counted is real. With a service at hand, the tests are told so (`KMS_TEST_REQUIRE`), so
//! that none of them can skip itself unseen. Without it, the tests that have its name in their path
//! are left out by `--skip` and counted by listing them first; those that need it under another name
//! print `skipped: …` and return, and are counted from their output.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::command;
use crate::libpq::Libpq;
use crate::libtest::{self, Reader};
use crate::report::{Outcome, Report};
use crate::service::server::Lifetime;
use crate::service::{self, Missing, Obtained, Running, Service};
use crate::suite::{self, Suite};
use crate::workspace::Workspace;

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
        let (outcome, skipped) = run_suite(workspace, suite, libpq, &services, args)?;
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
}

/// Runs one suite. Gives its outcome, and a line per service that it had to do without.
fn run_suite(
    workspace: &Workspace,
    suite: &Suite,
    libpq: Libpq,
    services: &Services,
    args: &[String],
) -> Result<(Outcome, Vec<String>)> {
    let mut test = suite.cargo_test(workspace, libpq)?;
    test.args(["--no-fail-fast", "--"]).args(args);
    let mut list = suite.cargo_test(workspace, libpq)?;
    list.arg("--").args(args).arg("--list");

    let mut at_hand = Vec::new();
    for (service, running) in &services.running {
        if suite.needs.iter().any(|need| same(*need, *service)) {
            at_hand.push(service.name());
            test.envs(running.variables.iter().map(|(name, value)| (name, value)));
        }
    }
    test.env(REQUIRE, at_hand.join(","));

    let missing: Vec<_> = services
        .missing
        .iter()
        .filter(|(service, _)| suite.needs.iter().any(|need| same(*need, *service)))
        .collect();
    let mut left_out = 0;
    let mut lines = Vec::new();
    if !missing.is_empty() {
        // Shows what tests say that have to skip themselves.
        test.arg("--show-output");
        // If it does not build, the run below says so.
        let list = command::output(&mut list).unwrap_or_default();
        for (service, why) in missing {
            let name = service.name();
            test.args(["--skip", name]);
            let tests = libtest::listed_with(&list, name);
            left_out += tests;
            lines.push(format!(
                "{name} ({}, {tests} tests left out) {why}. To have it: {}",
                suite.name,
                service.advice()
            ));
        }
    }

    let mut reader = Reader::default();
    let status = command::tee(&mut test, &mut std::io::stdout(), |line| reader.line(line))?;
    let counts = reader.counts();
    let outcome = Outcome::of(counts, status.success(), left_out, !args.is_empty());
    Ok((outcome, lines))
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
                "{REQUIRE} names `{name}`, which is no service: there is {}",
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
