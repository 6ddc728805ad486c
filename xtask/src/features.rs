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
    tls: Tls,
}

/// Which TLS may come along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    No,
    /// One rustls, on AWS-LC alone: with two providers compiled in, it panics at run time unless one
    /// is chosen. And one hyper: that of the last generation has a TLS of its own.
    AwsLc,
    /// That of libpq.
    OpenSsl,
}

/// The rules, one per feature of the facade. A feature without a rule is an error.
const RULES: &[Rule] = &[
    Rule {
        feature: "",
        with: &["kms-core"],
        without: &[DIESEL, SQLITE, LIBPQ, RING, AWS_LC, HTTP],
        tls: Tls::No,
    },
    Rule {
        feature: "default",
        with: &["libsqlite3-sys", "ring"],
        without: &[LIBPQ, AWS_LC, HTTP],
        tls: Tls::No,
    },
    Rule {
        feature: "sqlite",
        with: &["diesel", "libsqlite3-sys"],
        without: &[LIBPQ, RING, AWS_LC, HTTP],
        tls: Tls::No,
    },
    Rule {
        feature: "postgres",
        with: &["diesel", "pq-sys"],
        without: &[BUNDLED_LIBPQ, SQLITE, RING, AWS_LC, HTTP],
        tls: Tls::No,
    },
    Rule {
        feature: "postgres-bundled",
        with: &["diesel", "pq-sys", "pq-src"],
        without: &[SQLITE, RING, AWS_LC, HTTP],
        tls: Tls::OpenSsl,
    },
    Rule {
        feature: "diesel-async",
        with: &["diesel", "diesel-async", "tokio-postgres"],
        without: &[SQLITE, LIBPQ, RING, AWS_LC, HTTP],
        tls: Tls::No,
    },
    Rule {
        feature: "ring",
        with: &["ring"],
        without: &[DIESEL, SQLITE, LIBPQ, AWS_LC, HTTP],
        tls: Tls::No,
    },
    Rule {
        feature: "aws-lc-rs",
        with: &["aws-lc-rs"],
        without: &[DIESEL, SQLITE, LIBPQ, RING, HTTP],
        tls: Tls::No,
    },
    Rule {
        feature: "aws",
        with: &["aws-sdk-kms", "aws-config"],
        without: &[DIESEL, SQLITE, LIBPQ, RING],
        tls: Tls::AwsLc,
    },
    Rule {
        feature: "gcp",
        with: &["google-cloudkms1"],
        without: &[DIESEL, SQLITE, LIBPQ, RING],
        tls: Tls::AwsLc,
    },
    Rule {
        feature: "pkcs11",
        with: &["cryptoki"],
        without: &[DIESEL, SQLITE, LIBPQ, RING, AWS_LC, HTTP],
        tls: Tls::No,
    },
    Rule {
        feature: "vault",
        with: &["vaultrs"],
        without: &[DIESEL, SQLITE, LIBPQ, RING],
        tls: Tls::AwsLc,
    },
    Rule {
        feature: "full",
        with: &[
            "libsqlite3-sys",
            "pq-sys",
            "ring",
            "aws-lc-rs",
            "aws-sdk-kms",
            "google-cloudkms1",
            "cryptoki",
            "vaultrs",
        ],
        without: &[BUNDLED_LIBPQ],
        tls: Tls::AwsLc,
    },
];

const DIESEL: &[&str] = &["diesel", "diesel_migrations"];
const SQLITE: &[&str] = &["libsqlite3-sys"];
const LIBPQ: &[&str] = &["pq-sys", "pq-src"];
const BUNDLED_LIBPQ: &[&str] = &["pq-src"];
const RING: &[&str] = &["ring"];
const AWS_LC: &[&str] = &["aws-lc-rs", "aws-lc-sys"];
const HTTP: &[&str] = &["hyper", "ureq", "reqwest"];

/// What belongs to the root wrapper of each feature, and may come along with that feature and with `full` alone.
const ROOTS: &[(&str, &[&str])] = &[
    ("aws", &["aws-sdk-kms", "aws-config", "aws-smithy-runtime"]),
    (
        "gcp",
        &[
            "google-cloudkms1",
            "google-apis-common",
            "google-cloud-auth",
        ],
    ),
    ("pkcs11", &["cryptoki"]),
    ("vault", &["vaultrs", "rustify"]),
];

const RUSTLS: &[&str] = &["rustls", "rustls-webpki", "tokio-rustls"];
const OTHER_TLS: &[&str] = &["native-tls", "openssl", "openssl-sys"];

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
                .args([
                    "--edges", "no-dev", "--prefix", "none", "--format", "{p}|{f}",
                ]),
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
    let tree = Tree::parse(tree);
    let alone = shown(&[rule.feature]);
    let missing = rule.with.iter().filter(|name| !tree.has(name));
    let without = rule.without.iter().copied().flatten();
    let without = without.chain(rule.other_roots());
    let without = without.chain(rule.tls.without());
    let extra: BTreeSet<&&str> = without.filter(|name| tree.has(name)).collect();
    let missing = missing.map(|name| format!("{FACADE} {alone} does not depend on {name}"));
    let extra = extra.into_iter();
    let extra = extra.map(|name| format!("{FACADE} {alone} depends on {name}"));
    let mut found: Vec<String> = missing.chain(extra).collect();
    if rule.tls == Tls::AwsLc {
        let wrong = tree.not_one_tls_on_aws_lc();
        found.extend(
            wrong
                .into_iter()
                .map(|what| format!("{FACADE} {alone}: {what}")),
        );
    }
    found
}

impl Rule {
    /// What belongs to the root wrappers of other features.
    fn other_roots(&self) -> impl Iterator<Item = &'static &'static str> {
        let feature = self.feature;
        let others = ROOTS
            .iter()
            .filter(move |(root, _)| feature != *root && feature != "full");
        others.flat_map(|(_, packages)| *packages)
    }
}

impl Tls {
    /// What must not come along.
    fn without(self) -> impl Iterator<Item = &'static &'static str> {
        let (rustls, others): (&[_], &[_]) = match self {
            Self::No => (RUSTLS, OTHER_TLS),
            Self::AwsLc => (&[], OTHER_TLS),
            Self::OpenSsl => (RUSTLS, &[]),
        };
        rustls.iter().chain(others)
    }
}

/// The output of `cargo tree`: name, version and features of each package.
struct Tree<'a>(BTreeSet<(&'a str, &'a str, &'a str)>);

impl<'a> Tree<'a> {
    fn parse(tree: &'a str) -> Self {
        let package = |line: &'a str| {
            let (package, features) = line.split_once('|').unwrap_or((line, ""));
            let mut words = package.split_whitespace();
            let (name, version) = (words.next()?, words.next().unwrap_or_default());
            // The mark of a package whose own dependencies were shown before.
            Some((name, version, features.trim_end_matches("(*)").trim_end()))
        };
        Self(tree.lines().filter_map(package).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(package, ..)| *package == name)
    }

    fn versions(&self, name: &str) -> BTreeSet<&str> {
        let found = self.0.iter().filter(|(package, ..)| *package == name);
        found.map(|(_, version, _)| *version).collect()
    }

    fn enables(&self, name: &str, wanted: &str) -> bool {
        let mut found = self.0.iter().filter(|(package, ..)| *package == name);
        found.any(|(.., features)| features.split(',').any(|feature| feature == wanted))
    }

    /// What keeps it from being one rustls on AWS-LC under one hyper.
    fn not_one_tls_on_aws_lc(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for name in ["rustls", "hyper"] {
            let versions = self.versions(name);
            if versions.len() != 1 {
                let versions: Vec<_> = versions.into_iter().collect();
                let listed = versions.join(", ");
                wrong.push(format!("one version of {name} is wanted, not [{listed}]"));
            }
        }
        if self
            .versions("hyper")
            .iter()
            .any(|version| version.starts_with("v0."))
        {
            wrong.push("hyper is of the last generation".to_owned());
        }
        if !self.enables("rustls", "aws_lc_rs") {
            wrong.push("rustls is not on AWS-LC".to_owned());
        }
        for name in RUSTLS {
            if self.enables(name, "ring") {
                wrong.push(format!("{name} has ring enabled too"));
            }
        }
        wrong
    }
}

/// Checks that the code compiles: every package that others use with no feature and with each alone,
/// the facade with every pair too. With all features, clippy compiles everything.
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
    if !package.is_published {
        return Vec::new();
    }
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
            is_published: true,
            features: features.iter().map(feature).collect(),
            ..Package::default()
        }
    }

    #[test]
    fn a_dependency_that_a_feature_must_not_have_is_found() {
        let sqlite = RULES.iter().find(|rule| rule.feature == "sqlite").unwrap();
        let right = "kms-kit v0.1.0 (/w/kms-kit)|\ndiesel v2.3.14|r2d2\nlibsqlite3-sys v0.38.0|bundled (*)\n";
        assert!(violations(sqlite, right).is_empty());
        let wrong = format!("{right}pq-sys v0.7.8|\n");
        assert_eq!(
            violations(sqlite, &wrong),
            ["kms-kit with sqlite depends on pq-sys"]
        );
        assert_eq!(violations(sqlite, "diesel v2.3.14|").len(), 1);
        let tls = format!("{right}openssl-sys v0.9.1|\n");
        assert_eq!(violations(sqlite, &tls).len(), 1);
    }

    #[test]
    fn a_cloud_wrapper_has_one_tls_stack_on_aws_lc() {
        const RIGHT: &str = "\
vaultrs v0.8.0|rustls
reqwest v0.13.5|rustls (*)
hyper v1.12.0|client,http1
hyper v1.12.0|client,http1 (*)
rustls v0.23.46|aws-lc-rs,aws_lc_rs,std (*)
rustls-webpki v0.103.17|alloc,aws-lc-rs,std
";
        let vault = RULES.iter().find(|rule| rule.feature == "vault").unwrap();
        let found = |tree: &str| violations(vault, tree).join("\n");
        assert_eq!(found(RIGHT), "");
        let with = |line: &str| found(&format!("{RIGHT}{line}\n"));
        assert!(with("rustls v0.21.12|").contains("rustls is wanted, not [v0.21.12, v0.23.46]"));
        assert!(with("hyper v0.14.32|client").contains("of the last generation"));
        assert!(with("native-tls v0.2.14|").contains("depends on native-tls"));
        assert!(with("aws-config v1.13.0|").contains("depends on aws-config"));
        assert!(with("tokio-rustls v0.26.6|ring,tls12").contains("tokio-rustls has ring"));
        let ring = RIGHT.replace("aws-lc-rs,aws_lc_rs,std", "ring,std");
        assert!(found(&ring).contains("rustls is not on AWS-LC"));
        assert!(found(&ring).contains("rustls has ring enabled"));
        assert!(found(&RIGHT.replace("hyper", "hype")).contains("hyper is wanted, not []"));
    }

    #[test]
    fn no_feature_brings_the_root_wrapper_of_another_but_the_sum_of_all() {
        let found = |feature: &str, tree: &str| {
            let rule = RULES.iter().find(|rule| rule.feature == feature).unwrap();
            violations(rule, tree).join("\n")
        };
        assert_eq!(found("pkcs11", "cryptoki v0.12.1|"), "");
        let with_aws = found("pkcs11", "cryptoki v0.12.1|\naws-config v1.13.0|");
        assert!(with_aws.contains("depends on aws-config"), "{with_aws}");
        for feature in ["", "default", "postgres", "aws", "vault"] {
            let found = found(feature, "cryptoki v0.12.1|");
            assert!(found.contains("depends on cryptoki"), "{feature}: {found}");
        }
        assert!(!found("full", "cryptoki v0.12.1|").contains("cryptoki"));
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
    fn a_package_that_is_not_published_is_left_to_clippy() {
        let mut example = facade(&[("a", &[]), ("b", &[])]);
        example.is_published = false;
        assert!(combinations(&example).is_empty());
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
