//! `cargo xtask test`: gets the services, runs the suites, counts.
//!
//! What is counted is real. With a service at hand, the tests are told so (`KMS_TEST_REQUIRE`), so
//! that none of them can skip itself unseen. Without it, the tests that have its name as a word in
//! their path are listed first, counted, and left out by `--skip`; those that need it under another
//! name print `skipped: …` and return, and are counted from their output.

mod left_out;
pub(crate) mod services;
mod suite_run;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::interop;
use crate::libpq::Libpq;
use crate::programs::Programs;
use crate::report::Report;
use crate::service;
use crate::suite::{self, Suite, Tests};
use crate::workspace::Workspace;
use services::Services;
use suite_run::SuiteRun;

pub(crate) const REQUIRE: &str = "KMS_TEST_REQUIRE";

/// Runs the suites with these names, or all; `args` go to the tests. `false` if anything failed.
pub(crate) fn run(workspace: &Workspace, suites: &[String], args: &[String]) -> Result<bool> {
    let suites = suite::select(suites)?;
    let required = required(std::env::var(REQUIRE).ok().as_deref())?;
    let libpq = Libpq::detect()?;
    let built = Built::build(workspace, libpq, &suites)?;
    let services = Services::obtain(workspace, &suites)?;

    let mut report = Report::default();
    for suite in &suites {
        println!("\n== {}: {}", suite.name, suite.about);
        let run = SuiteRun {
            workspace,
            suite,
            needed: services.needed(suite),
            required: &required,
            args,
        };
        let docs = match built {
            Built::Together(_) => suite::cargo_test(workspace, libpq, &suite::packages(&suites))?,
            Built::Alone(_) => suite::cargo_test(workspace, libpq, suite.packages())?,
        };
        let (outcome, skipped) = run.run(built.of(suite), docs)?;
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

/// The test programs of the suites that run.
enum Built {
    Together(Programs),
    /// By suite; those that are not in here don't compile.
    Alone(BTreeMap<&'static str, Programs>),
}

impl Built {
    /// Builds them together; if that fails, each suite alone, so that those which compile run.
    fn build(workspace: &Workspace, libpq: Libpq, suites: &[&'static Suite]) -> Result<Self> {
        let has_programs = |suite: &&&Suite| matches!(suite.tests, Tests::Programs(_));
        if !suites.iter().any(|suite| has_programs(&suite)) {
            return Ok(Self::Together(Programs::default()));
        }
        if let Some(programs) = Programs::build(workspace, libpq, &suite::packages(suites))? {
            return Ok(Self::Together(programs));
        }
        let mut built = BTreeMap::new();
        for suite in suites.iter().filter(has_programs) {
            if suites.len() > 1
                && let Some(programs) = Programs::build(workspace, libpq, suite.packages())?
            {
                built.insert(suite.name, programs);
            }
        }
        Ok(Self::Alone(built))
    }

    fn of(&self, suite: &Suite) -> Option<&Programs> {
        match self {
            Self::Together(programs) => Some(programs),
            Self::Alone(built) => built.get(suite.name),
        }
    }
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

/// The services that must be there.
fn required(variable: Option<&str>) -> Result<Vec<&'static str>> {
    let mut required = Vec::new();
    for name in variable.unwrap_or_default().split(',').map(str::trim) {
        // Go is no service: `interop` alone needs it.
        if name.is_empty() || name == interop::GO {
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

#[cfg(test)]
mod tests {
    use super::required;

    #[test]
    fn required_services_are_separated_by_commas() {
        assert_eq!(required(Some(" postgres ,go")).unwrap(), ["postgres"]);
        assert!(required(Some("")).unwrap().is_empty());
        assert!(required(None).unwrap().is_empty());
    }

    #[test]
    fn requiring_an_unknown_service_is_an_error_and_not_ignored() {
        let error = required(Some("postgres,oracle")).unwrap_err();
        assert!(error.to_string().contains("`oracle`"), "{error}");
    }
}
