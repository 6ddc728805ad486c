//! The suites: what `cargo xtask test` can run, and what each needs.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Result;

use crate::libpq::Libpq;
use crate::service::Service;
use crate::service::aws::Aws;
use crate::service::gcp::{self, Gcp};
use crate::service::gcp_client::{self, GcpClient};
use crate::service::pgbouncer::PgBouncer;
use crate::service::postgres::Postgres;
use crate::service::softhsm::SoftHsm;
use crate::service::vault::Vault;
use crate::workspace::Workspace;

/// Every suite, in the order in which they run: what others stand on comes first.
pub(crate) const ALL: &[Suite] = &[
    Suite {
        name: "core",
        about: "the domain, on the in-memory repository",
        tests: Tests::Programs(&["kms-core"]),
        needs: &[],
    },
    Suite {
        name: "model",
        about: "what threads share in the domain, under many orders of their steps",
        tests: Tests::Model("kms-core"),
        needs: &[],
    },
    Suite {
        name: "aead",
        about: "the local root wrapper and every AEAD provider",
        tests: Tests::Programs(&["kms-wrapper-aead"]),
        needs: &[],
    },
    Suite {
        name: "migrations",
        about: "the schema, on SQLite and Postgres",
        tests: Tests::Programs(&["kms-migrations"]),
        needs: &[&Postgres],
    },
    Suite {
        name: "store",
        about: "the repositories: memory, SQLite, Postgres",
        tests: Tests::Programs(&["kms-testkit", "kms-store-diesel"]),
        needs: &[&Postgres],
    },
    Suite {
        name: "aws",
        about: "the root wrapper of AWS KMS",
        tests: Tests::Programs(&["kms-wrapper-aws"]),
        needs: &[&Aws],
    },
    Suite {
        name: "gcp",
        about: "the root wrapper of Google Cloud KMS",
        tests: Tests::Programs(&["kms-wrapper-gcp"]),
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
        tests: Tests::Programs(&["kms-wrapper-vault"]),
        needs: &[&Vault],
    },
    Suite {
        name: "pkcs11",
        about: "the root wrapper of PKCS#11 tokens",
        tests: Tests::Programs(&["kms-wrapper-pkcs11"]),
        needs: &[&SoftHsm],
    },
    Suite {
        name: "kit",
        about: "the facade and its examples",
        tests: Tests::Programs(&["kms-kit"]),
        needs: &[&Postgres, &Aws, &Gcp, &Vault, &SoftHsm],
    },
    Suite {
        name: "roots",
        about: "the engine on each root of trust, and moving from one to another",
        tests: Tests::Programs(&["kms-root-tests"]),
        needs: &[&Postgres, &Aws, &Gcp, &Vault, &SoftHsm],
    },
    Suite {
        name: "interop",
        about: "the program that `cargo xtask interop` runs",
        tests: Tests::Programs(&["kms-interop"]),
        needs: &[],
    },
    Suite {
        name: "web",
        about: "the example of a web service",
        tests: Tests::Programs(&["kms-example-web"]),
        needs: &[],
    },
    Suite {
        name: "bench",
        about: "what the benches stand on: memory, plans, poolers",
        tests: Tests::Programs(&["kms-bench"]),
        needs: &[&Postgres, &PgBouncer],
    },
    Suite {
        name: "docs",
        about: "the examples in the documentation",
        tests: Tests::Docs(&[
            "kms-core",
            "kms-wrapper-aead",
            "kms-wrapper-aws",
            "kms-wrapper-gcp",
            "kms-wrapper-pkcs11",
            "kms-wrapper-vault",
            "kms-migrations",
            "kms-testkit",
            "kms-store-diesel",
            "kms-kit",
        ]),
        needs: &[],
    },
    Suite {
        name: "xtask",
        about: "this program",
        tests: Tests::Programs(&["xtask"]),
        needs: &[],
    },
];

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
    /// All test programs of these packages, with all features.
    Programs(&'static [&'static str]),
    /// The examples in the documentation of these packages, with all features.
    Docs(&'static [&'static str]),
    /// The unit tests of this package in modules named `model`, built with shuttle's locks.
    Model(&'static str),
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

impl Suite {
    /// The packages whose tests these are.
    pub(crate) fn packages(&self) -> &'static [&'static str] {
        match self.tests {
            Tests::Programs(packages) | Tests::Docs(packages) => packages,
            Tests::Model(_) | Tests::Script { .. } => &[],
        }
    }
}

/// The packages of these suites, each once: what they are built with, together.
pub(crate) fn packages(suites: &[&Suite]) -> Vec<&'static str> {
    let all: BTreeSet<_> = suites.iter().flat_map(|suite| suite.packages()).collect();
    all.into_iter().copied().collect()
}

/// `cargo test` on packages with all their features.
pub(crate) fn cargo_test(
    workspace: &Workspace,
    libpq: Libpq,
    packages: &[&str],
) -> Result<Command> {
    let mut command = workspace.cargo();
    command.arg("test");
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
        all.extend(libpq.features(package));
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
    use std::path::Path;

    use super::{ALL, Tests, packages, select};

    #[test]
    fn the_packages_of_all_suites_are_built_together_each_once() {
        let suites: Vec<_> = ALL.iter().collect();
        let all = packages(&suites);
        let is_once = |name| all.iter().filter(|other| **other == name).count() == 1;
        assert!(
            ALL.iter()
                .flat_map(super::Suite::packages)
                .all(|name| is_once(*name))
        );
    }

    #[test]
    fn every_package_that_has_tests_has_a_suite() {
        let workspace = crate::workspace::Workspace::read().unwrap();
        let with_programs = ALL
            .iter()
            .filter(|suite| matches!(suite.tests, Tests::Programs(_)));
        let known: Vec<_> = with_programs.flat_map(super::Suite::packages).collect();
        for package in &workspace.packages {
            let name = package.name.as_str();
            let is_known = known.iter().any(|known| **known == name);
            assert!(is_known || !has_tests(&package.folder), "{name}");
        }
    }

    /// Whether some source file in this folder has a test.
    fn has_tests(folder: &Path) -> bool {
        std::fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                return has_tests(&path);
            }
            path.extension().is_some_and(|extension| extension == "rs")
                && std::fs::read_to_string(&path).unwrap().contains("test]\n")
        })
    }

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
