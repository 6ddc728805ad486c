//! `cargo xtask features`: features compile alone and in pairs, and pull in only what they may.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::command;
use crate::libpq::{self, Libpq};
use crate::workspace::{Package, Workspace};

const FACADE: &str = "kms-kit";

/// What the facade may depend on with one of its features alone (`""`: with none).
struct Rule {
    feature: &'static str,
    with: &'static [&'static str],
    without: &'static [&'static [&'static str]],
}

/// The rules, one per feature of the facade. A feature without a rule is an error.
const RULES: &[Rule] = &[
    Rule {
        feature: "",
        with: &["kms-core"],
        without: &[DIESEL, SQLITE, LIBPQ, TLS, RING, AWS_LC, HTTP],
    },
    Rule {
        feature: "default",
        with: &["libsqlite3-sys", "ring"],
        without: &[LIBPQ, TLS, AWS_LC, HTTP],
    },
    Rule {
        feature: "sqlite",
        with: &["diesel", "libsqlite3-sys"],
        without: &[LIBPQ, TLS, RING, AWS_LC, HTTP],
    },
    Rule {
        feature: "postgres",
        with: &["diesel", "pq-sys"],
        without: &[BUNDLED_LIBPQ, SQLITE, TLS, RING, AWS_LC, HTTP],
    },
    Rule {
        feature: "postgres-bundled",
        with: &["diesel", "pq-sys", "pq-src"],
        // libpq itself is linked with OpenSSL: no rule about TLS.
        without: &[SQLITE, RING, AWS_LC, HTTP],
    },
    Rule {
        feature: "ring",
        with: &["ring"],
        without: &[DIESEL, SQLITE, LIBPQ, TLS, AWS_LC, HTTP],
    },
    Rule {
        feature: "aws-lc-rs",
        with: &["aws-lc-rs"],
        without: &[DIESEL, SQLITE, LIBPQ, TLS, RING, HTTP],
    },
    Rule {
        feature: "full",
        with: &["libsqlite3-sys", "pq-sys", "ring", "aws-lc-rs"],
        without: &[],
    },
];

const DIESEL: &[&str] = &["diesel", "diesel_migrations"];
const SQLITE: &[&str] = &["libsqlite3-sys"];
const LIBPQ: &[&str] = &["pq-sys", "pq-src"];
const BUNDLED_LIBPQ: &[&str] = &["pq-src"];
const TLS: &[&str] = &["rustls", "native-tls", "openssl", "openssl-sys"];
const RING: &[&str] = &["ring"];
const AWS_LC: &[&str] = &["aws-lc-rs", "aws-lc-sys"];
const HTTP: &[&str] = &["hyper", "reqwest", "ureq"];

/// Features that are sums of others: checked alone, not in pairs.
const SUMS: &[&str] = &["default", "full"];

/// Runs all checks. `false` if any failed.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let mut failures = dependencies(workspace)?;
    failures.extend(compile(workspace)?);
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    Ok(failures.is_empty())
}

/// Holds what the facade depends on, feature by feature, against the rules.
fn dependencies(workspace: &Workspace) -> Result<Vec<String>> {
    let facade = workspace.package(FACADE)?;
    let mut failures = strangers(facade);
    for rule in RULES {
        if !rule.feature.is_empty() && !facade.features.contains_key(rule.feature) {
            continue;
        }
        let tree = command::output(
            workspace
                .cargo()
                .args(["tree", "--package", FACADE, "--no-default-features"])
                .args(["--features", rule.feature])
                .args(["--edges", "no-dev", "--prefix", "none", "--format", "{p}"]),
        )?;
        let found = violations(rule, &tree);
        let verdict = if found.is_empty() { "ok" } else { "FAILED" };
        println!(
            "{FACADE} {}: dependencies {verdict}",
            shown(&[rule.feature])
        );
        failures.extend(found);
    }
    Ok(failures)
}

/// Features without a rule, and rules without a feature.
fn strangers(facade: &Package) -> Vec<String> {
    let unknown = facade.features.keys().filter(|feature| {
        let known = RULES.iter().any(|rule| rule.feature == feature.as_str());
        !known
    });
    let absent = RULES.iter().map(|rule| rule.feature);
    let absent =
        absent.filter(|feature| !feature.is_empty() && !facade.features.contains_key(*feature));
    let unknown = unknown.map(|feature| {
        format!("feature `{feature}` of {FACADE} has no rule in xtask/src/features.rs")
    });
    let absent = absent
        .map(|feature| format!("{FACADE} has no feature `{feature}`, but there is a rule for it"));
    unknown.chain(absent).collect()
}

/// Where the output of `cargo tree` breaks a rule.
fn violations(rule: &Rule, tree: &str) -> Vec<String> {
    let packages: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let alone = shown(&[rule.feature]);
    let missing = rule.with.iter().filter(|name| !packages.contains(*name));
    let extra = rule
        .without
        .iter()
        .copied()
        .flatten()
        .filter(|name| packages.contains(*name));
    let missing = missing.map(|name| format!("{FACADE} {alone} does not depend on {name}"));
    let extra = extra.map(|name| format!("{FACADE} {alone} depends on {name}"));
    missing.chain(extra).collect()
}

/// Checks that the code compiles: every package with no feature and with each alone, the facade
/// with every pair too.
fn compile(workspace: &Workspace) -> Result<Vec<String>> {
    let libpq = Libpq::detect()?;
    let mut failures = Vec::new();
    for package in &workspace.packages {
        for features in combinations(package) {
            let what = format!("{} {}", package.name, shown(&features));
            if libpq == Libpq::Bundled && needs_system_libpq(package, &features) {
                println!("skipped: {what} (no libpq to link with on this machine)");
                continue;
            }
            let status = command::run(
                workspace
                    .cargo()
                    .args(["check", "--quiet", "--package", &package.name])
                    .args(["--no-default-features", "--features"])
                    .arg(features.join(",")),
            )?;
            let verdict = if status.success() { "ok" } else { "FAILED" };
            println!("{what}: {verdict}");
            if !status.success() {
                failures.push(format!("{what} does not compile"));
            }
        }
    }
    if failures.is_empty() && workspace.packages.is_empty() {
        bail!("the workspace has no packages");
    }
    Ok(failures)
}

/// The sets of features to compile a package with.
fn combinations(package: &Package) -> Vec<Vec<&str>> {
    let features: Vec<&str> = package.features.keys().map(String::as_str).collect();
    let mut sets = vec![Vec::new()];
    sets.extend(features.iter().map(|&feature| vec![feature]));
    if package.name == FACADE {
        let pairable: Vec<&str> = features
            .into_iter()
            .filter(|feature| !SUMS.contains(feature))
            .collect();
        for (index, &one) in pairable.iter().enumerate() {
            sets.extend(pairable[index + 1..].iter().map(|&other| vec![one, other]));
        }
    }
    sets
}

fn needs_system_libpq(package: &Package, features: &[&str]) -> bool {
    let enabled = |wanted| {
        features
            .iter()
            .any(|feature| package.enables(feature, wanted))
    };
    enabled("postgres") && !enabled(libpq::BUNDLED)
}

fn shown(features: &[&str]) -> String {
    let features: Vec<_> = features
        .iter()
        .filter(|feature| !feature.is_empty())
        .collect();
    match features.as_slice() {
        [] => "without features".to_owned(),
        [one] => format!("with {one}"),
        [some @ .., last] => {
            let some: Vec<&str> = some.iter().map(|feature| **feature).collect();
            format!("with {} and {last}", some.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FACADE, RULES, combinations, needs_system_libpq, strangers, violations};
    use crate::workspace::Package;

    fn facade(features: &[(&str, &[&str])]) -> Package {
        let feature = |(name, enables): &(&str, &[&str])| {
            let enables = enables.iter().map(|&other| other.to_owned()).collect();
            ((*name).to_owned(), enables)
        };
        Package {
            name: FACADE.to_owned(),
            features: features.iter().map(feature).collect(),
        }
    }

    #[test]
    fn a_dependency_that_a_feature_must_not_have_is_found() {
        let sqlite = RULES.iter().find(|rule| rule.feature == "sqlite").unwrap();
        let right = "kms-kit v0.1.0 (/w/kms-kit)\ndiesel v2.3.14\nlibsqlite3-sys v0.38.0 (*)\n";
        assert!(violations(sqlite, right).is_empty());
        let wrong = format!("{right}pq-sys v0.7.8\n");
        assert_eq!(
            violations(sqlite, &wrong),
            ["kms-kit with sqlite depends on pq-sys"]
        );
        assert_eq!(violations(sqlite, "diesel v2.3.14").len(), 1);
    }

    #[test]
    fn the_facade_is_compiled_with_each_feature_and_every_pair() {
        let facade = facade(&[("a", &[]), ("b", &[]), ("c", &[]), ("default", &["a"])]);
        let sets: Vec<String> = combinations(&facade)
            .iter()
            .map(|set| set.join("+"))
            .collect();
        assert_eq!(sets, ["", "a", "b", "c", "default", "a+b", "a+c", "b+c"]);
    }

    #[test]
    fn a_feature_without_a_rule_and_a_rule_without_its_feature_are_found() {
        let rules = RULES.iter().filter(|rule| !rule.feature.is_empty());
        let mut all: Vec<(&str, &[&str])> =
            rules.map(|rule| (rule.feature, [].as_slice())).collect();
        assert!(strangers(&facade(&all)).is_empty());
        all.push(("new", &[]));
        assert_eq!(strangers(&facade(&all)).len(), 1);
        assert_eq!(strangers(&facade(&all[1..])).len(), 2);
    }

    #[test]
    fn the_system_libpq_is_wanted_only_where_it_is_not_built() {
        let facade = facade(&[
            ("postgres", &[]),
            ("postgres-bundled", &["postgres"]),
            ("sqlite", &[]),
        ]);
        assert!(needs_system_libpq(&facade, &["postgres", "sqlite"]));
        assert!(!needs_system_libpq(
            &facade,
            &["postgres", "postgres-bundled"]
        ));
        assert!(!needs_system_libpq(&facade, &["sqlite"]));
    }
}
