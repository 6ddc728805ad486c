//! The suites: what `cargo xtask test` can run, and what each needs.

use std::process::Command;

use anyhow::Result;

use crate::libpq::Libpq;
use crate::service::Service;
use crate::service::aws::Aws;
use crate::service::gcp::{self, Gcp};
use crate::service::gcp_client::{self, GcpClient};
use crate::service::postgres::Postgres;
use crate::service::vault::Vault;
use crate::workspace::Workspace;

/// Every suite, in the order in which they run: what others stand on comes first.
pub(crate) const ALL: &[Suite] = &[
    Suite {
        name: "core",
        about: "the domain, on the in-memory repository",
        tests: unit_and_integration(&["kms-core"]),
        needs: &[],
    },
    Suite {
        name: "aead",
        about: "the local root wrapper and every AEAD provider",
        tests: unit_and_integration(&["kms-wrapper-aead"]),
        needs: &[],
    },
    Suite {
        name: "migrations",
        about: "the schema, on SQLite and Postgres",
        tests: unit_and_integration(&["kms-migrations"]),
        needs: &[&Postgres],
    },
    Suite {
        name: "store",
        about: "the repositories: memory, SQLite, Postgres",
        tests: unit_and_integration(&["kms-testkit", "kms-store-diesel"]),
        needs: &[&Postgres],
    },
    Suite {
        name: "aws",
        about: "the root wrapper of AWS KMS",
        tests: unit_and_integration(&["kms-wrapper-aws"]),
        needs: &[&Aws],
    },
    Suite {
        name: "gcp",
        about: "the root wrapper of Google Cloud KMS",
        tests: unit_and_integration(&["kms-wrapper-gcp"]),
        needs: &[&Gcp],
    },
    Suite {
        name: "gcp-fake",
        about: "the fake Cloud KMS, asked by Google's own client",
        tests: Tests::Script {
            interpreter: gcp_client::PYTHON,
            path: "kms-testkit/tests/fake_cloud_kms/check.py",
            argument: gcp::ENDPOINT,
        },
        needs: &[&Gcp, &GcpClient],
    },
    Suite {
        name: "vault",
        about: "the root wrapper of Vault and OpenBao",
        tests: unit_and_integration(&["kms-wrapper-vault"]),
        needs: &[&Vault],
    },
    Suite {
        name: "kit",
        about: "the facade and its examples",
        tests: Tests::Cargo {
            packages: &["kms-kit"],
            targets: &["--tests", "--examples"],
        },
        needs: &[&Postgres, &Aws, &Gcp, &Vault],
    },
    Suite {
        name: "docs",
        about: "the examples in the documentation",
        tests: Tests::Cargo {
            packages: &[
                "kms-core",
                "kms-wrapper-aead",
                "kms-wrapper-aws",
                "kms-wrapper-gcp",
                "kms-wrapper-vault",
                "kms-migrations",
                "kms-testkit",
                "kms-store-diesel",
                "kms-kit",
            ],
            targets: &["--doc"],
        },
        needs: &[],
    },
    Suite {
        name: "xtask",
        about: "this program",
        tests: unit_and_integration(&["xtask"]),
        needs: &[],
    },
];

const fn unit_and_integration(packages: &'static [&'static str]) -> Tests {
    Tests::Cargo {
        packages,
        targets: &["--tests"],
    }
}

/// A set of tests with a name.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) tests: Tests,
    /// The services that some of its tests talk to. Such a test has the service's name in its path;
    /// where the service is missing, those tests are left out, and counted.
    pub(crate) needs: &'static [&'static dyn Service],
}

/// What a suite runs.
#[derive(Clone, Copy)]
pub(crate) enum Tests {
    /// `cargo test`, with all features of the packages.
    Cargo {
        packages: &'static [&'static str],
        /// Which of the packages' targets: arguments of `cargo test`.
        targets: &'static [&'static str],
    },
    /// A program that prints `ok NAME` or `FAILED NAME: WHY` per check, and `N passed, N failed` at
    /// its end. It needs all the services of its suite.
    Script {
        /// The variable, of one of those services, that holds the interpreter.
        interpreter: &'static str,
        path: &'static str,
        /// The variable, of one of those services, whose value is its argument.
        argument: &'static str,
    },
}

/// The `cargo test` of packages, up to the `--`.
pub(crate) fn cargo_test(
    workspace: &Workspace,
    libpq: Libpq,
    packages: &[&str],
    targets: &[&str],
) -> Result<Command> {
    let mut command = workspace.cargo();
    command.arg("test").args(targets);
    for name in packages {
        command.args(["--package", name]);
    }
    let features = features(workspace, packages, libpq)?;
    if !features.is_empty() {
        command.arg("--features").arg(features.join(","));
    }
    Ok(command)
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
    use super::{ALL, Tests, select};

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
    fn a_script_has_its_interpreter_and_argument_from_services_that_it_needs() {
        for suite in ALL {
            let Tests::Script {
                interpreter,
                argument,
                ..
            } = suite.tests
            else {
                continue;
            };
            for variable in [interpreter, argument] {
                let mut needs = suite.needs.iter();
                let gives = needs.any(|service| service.variables().contains(&variable));
                assert!(gives, "{}: {variable}", suite.name);
            }
        }
    }

    #[test]
    fn an_unknown_suite_is_refused_with_the_known_ones() {
        let Err(error) = select(&["stroe".to_owned()]) else {
            panic!("there is no such suite");
        };
        assert!(error.to_string().contains("store"), "{error}");
    }
}
