//! The suites: what `cargo xtask test` can run, and what each needs.

use std::process::Command;

use anyhow::Result;

use crate::libpq::Libpq;
use crate::service::{Service, postgres::Postgres};
use crate::workspace::Workspace;

/// Every suite, in the order in which they run: what others stand on comes first.
pub(crate) const ALL: &[Suite] = &[
    Suite {
        name: "core",
        about: "the domain, on the in-memory repository",
        packages: &["kms-core"],
        targets: TESTS,
        needs: &[],
    },
    Suite {
        name: "aead",
        about: "the local root wrapper and every AEAD provider",
        packages: &["kms-wrapper-aead"],
        targets: TESTS,
        needs: &[],
    },
    Suite {
        name: "migrations",
        about: "the schema, on SQLite and Postgres",
        packages: &["kms-migrations"],
        targets: TESTS,
        needs: &[&Postgres],
    },
    Suite {
        name: "store",
        about: "the repositories: memory, SQLite, Postgres",
        packages: &["kms-testkit", "kms-store-diesel"],
        targets: TESTS,
        needs: &[&Postgres],
    },
    Suite {
        name: "kit",
        about: "the facade and its examples",
        packages: &["kms-kit"],
        targets: &["--tests", "--examples"],
        needs: &[&Postgres],
    },
    Suite {
        name: "docs",
        about: "the examples in the documentation",
        packages: &[
            "kms-core",
            "kms-wrapper-aead",
            "kms-migrations",
            "kms-testkit",
            "kms-store-diesel",
            "kms-kit",
        ],
        targets: &["--doc"],
        needs: &[],
    },
    Suite {
        name: "xtask",
        about: "this program",
        packages: &["xtask"],
        targets: TESTS,
        needs: &[],
    },
];

/// Unit and integration tests.
const TESTS: &[&str] = &["--tests"];

/// A set of tests with a name.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The packages whose tests these are, with all their features.
    pub(crate) packages: &'static [&'static str],
    /// Which of the packages' targets: arguments of `cargo test`.
    pub(crate) targets: &'static [&'static str],
    /// The services that some of its tests talk to. Such a test has the service's name in its path;
    /// where the service is missing, those tests are left out, and counted.
    pub(crate) needs: &'static [&'static dyn Service],
}

impl Suite {
    /// The `cargo test` of this suite, up to the `--`.
    pub(crate) fn cargo_test(&self, workspace: &Workspace, libpq: Libpq) -> Result<Command> {
        let mut command = workspace.cargo();
        command.arg("test").args(self.targets);
        for name in self.packages {
            command.args(["--package", name]);
        }
        let features = features(workspace, self.packages, libpq)?;
        if !features.is_empty() {
            command.arg("--features").arg(features.join(","));
        }
        Ok(command)
    }
}

/// Every feature of the packages, as cargo wants them when there is more than one package.
pub(crate) fn features(
    workspace: &Workspace,
    packages: &[&str],
    libpq: Libpq,
) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in packages {
        let package = workspace.package(name)?;
        let features = libpq.features(package);
        all.extend(features.iter().map(|feature| format!("{name}/{feature}")));
    }
    Ok(all)
}

/// The suites with these names, in the order in which they run; all when there are no names.
pub(crate) fn select(names: &[String]) -> Result<Vec<&'static Suite>> {
    for name in names {
        if !ALL.iter().any(|suite| suite.name == name) {
            let known: Vec<_> = ALL.iter().map(|suite| suite.name).collect();
            anyhow::bail!("no suite `{name}`: there are {}", known.join(", "));
        }
    }
    let chosen = |suite: &&Suite| names.is_empty() || names.iter().any(|name| name == suite.name);
    Ok(ALL.iter().filter(chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::select;

    #[test]
    fn without_names_all_suites_run_and_with_names_those_in_the_order_of_the_table() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let suites = select(&names).unwrap();
            suites.iter().map(|suite| suite.name).collect::<Vec<_>>()
        };
        assert!(names(&[]).len() >= 7);
        assert_eq!(names(&["store", "core"]), ["core", "store"]);
    }

    #[test]
    fn an_unknown_suite_is_refused_with_the_known_ones() {
        let Err(error) = select(&["stroe".to_owned()]) else {
            panic!("there is no such suite");
        };
        assert!(error.to_string().contains("store"), "{error}");
    }
}
