//! Which libpq the Postgres backend is linked with here.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::command;
use crate::workspace::Package;

/// The feature that builds libpq from source.
pub(crate) const BUNDLED: &str = "postgres-bundled";

/// The feature that links with libpq, wherever that is.
const POSTGRES: &str = "postgres";

/// How our packages' names begin: diesel has a feature of that name too.
const OURS: &str = "kms-";

/// Where libpq comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Libpq {
    /// The system's, with the feature `postgres`.
    System,
    /// Built from source, with the feature `postgres-bundled`.
    Bundled,
}

impl Libpq {
    /// Finds out by linking an empty program, and says so in one line if it has to be built.
    pub(crate) fn detect() -> Result<Self> {
        if links()? {
            return Ok(Self::System);
        }
        eprintln!(
            "libpq: none to link with on this machine, so it is built from source \
             (feature `{BUNDLED}`); installing libpq-dev saves that"
        );
        Ok(Self::Bundled)
    }

    /// The features of a package to test: all of them, without building libpq for nothing. As cargo
    /// takes them for several packages at once.
    pub(crate) fn features(self, package: &Package) -> Vec<String> {
        let own = package.features.keys();
        let own = own.filter(|feature| self == Self::Bundled || !package.enables(feature, BUNDLED));
        let mut features: Vec<String> = own
            .map(|feature| format!("{}/{feature}", package.name))
            .collect();
        if self == Self::Bundled && !package.features.contains_key(BUNDLED) {
            // A package that can't be told so itself: what it depends on can.
            let on_postgres = package.dependencies.iter();
            let on_postgres = on_postgres.filter(|(_, asked)| asked.iter().any(|f| f == POSTGRES));
            features.extend(
                on_postgres
                    .filter(|(name, _)| name.starts_with(OURS))
                    .map(|(name, _)| format!("{name}/{BUNDLED}")),
            );
        }
        features
    }
}

/// Whether `-lpq` links.
fn links() -> Result<bool> {
    let folder = std::env::var("PQ_LIB_DIR").ok().or_else(|| {
        let found = command::output(Command::new("pg_config").arg("--libdir"));
        found.ok().map(|folder| folder.trim().to_owned())
    });
    let scratch = tempfile::tempdir()?;
    let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compiler.args(["-x", "c", "-", "-o"]);
    compiler.arg(scratch.path().join("linked"));
    compiler.args(folder.map(|folder| format!("-L{folder}")));
    compiler.arg("-lpq");
    let child = compiler
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    // Without a compiler nothing here builds, and cargo says that better.
    let Ok(mut child) = child else {
        return Ok(true);
    };
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"int main(void) { return 0; }\n")?;
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::Libpq;
    use crate::workspace::Package;

    fn package() -> Package {
        let feature = |name: &str, enables: &[&str]| {
            let enables = enables.iter().map(|&other| other.to_owned()).collect();
            (name.to_owned(), enables)
        };
        Package {
            name: "store".to_owned(),
            features: [
                feature("postgres", &[]),
                feature("postgres-bundled", &["postgres"]),
                feature("sqlite", &[]),
                feature("full", &["sqlite", "postgres-bundled"]),
            ]
            .into(),
            ..Package::default()
        }
    }

    #[test]
    fn with_a_system_libpq_nothing_that_builds_one_is_enabled() {
        assert_eq!(
            Libpq::System.features(&package()),
            ["store/postgres", "store/sqlite"]
        );
    }

    #[test]
    fn without_one_it_is_built() {
        let features = Libpq::Bundled.features(&package());
        assert!(features.iter().any(|name| name == "store/postgres-bundled"));
    }

    #[test]
    fn it_is_built_for_what_a_package_depends_on_too() {
        let asks_for = |name: &str, feature: &str| (name.to_owned(), vec![feature.to_owned()]);
        let tests = Package {
            name: "tests".to_owned(),
            dependencies: vec![
                asks_for("kms-kit", "postgres"),
                asks_for("kms-core", "sqlite"),
                asks_for("diesel", "postgres"),
            ],
            ..Package::default()
        };
        assert_eq!(
            Libpq::Bundled.features(&tests),
            ["kms-kit/postgres-bundled"]
        );
        assert!(Libpq::System.features(&tests).is_empty());
    }
}
