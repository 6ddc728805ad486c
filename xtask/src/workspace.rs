//! The workspace as cargo sees it: folders, packages and their features.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// The folders and the packages of this workspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// How cargo names it in its messages.
    pub(crate) id: String,
    pub(crate) folder: PathBuf,
    /// Whether it is for others, who choose among its features.
    pub(crate) is_published: bool,
    /// Each feature and what it enables, as in the manifest.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// What it depends on, and the features that it asks for there.
    pub(crate) dependencies: Vec<(String, Vec<String>)>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn read() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let metadata = command::output(
            cargo()
                .args(["metadata", "--no-deps", "--format-version=1"])
                .arg("--manifest-path")
                .arg(manifest),
        )?;
        Self::parse(&metadata).context("cannot make sense of `cargo metadata`")
    }

    pub(crate) fn parse(metadata: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata)?;
        let path = |key: &str| {
            let value = metadata[key].as_str();
            value
                .map(PathBuf::from)
                .with_context(|| format!("no {key}"))
        };
        let packages = metadata["packages"].as_array().context("no packages")?;
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            packages: packages.iter().map(Package::parse).collect::<Result<_>>()?,
        })
    }

    /// One without packages whose target folder is `target`.
    #[cfg(test)]
    pub(crate) fn at(target: &Path) -> Self {
        Self {
            target: target.to_owned(),
            ..Self::default()
        }
    }

    /// Cargo, run at the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// The member named `name`.
    pub(crate) fn package(&self, name: &str) -> Result<&Package> {
        let found = self.packages.iter().find(|package| package.name == name);
        found.with_context(|| format!("the workspace has no package `{name}`"))
    }

    /// The member that cargo's messages name so.
    pub(crate) fn package_by_id(&self, id: &str) -> Result<&Package> {
        let found = self.packages.iter().find(|package| package.id == id);
        found.with_context(|| format!("the workspace has no package with the id {id}"))
    }

    /// A folder for what this program keeps between runs, made if it isn't there.
    pub(crate) fn kept(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join("xtask").join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

impl Package {
    fn parse(package: &Value) -> Result<Self> {
        let string = |key: &str| {
            let value = package[key].as_str().map(str::to_owned);
            value.with_context(|| format!("a package has no {key}"))
        };
        let manifest = PathBuf::from(string("manifest_path")?);
        let features = package["features"].as_object().context("no features")?;
        let items = |list: &'_ Value| list.as_array().cloned().unwrap_or_default();
        let strings = |list: &Value| {
            let list = items(list).into_iter();
            list.filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        };
        let dependency = |dependency: &Value| {
            let name = dependency["name"].as_str()?.to_owned();
            Some((name, strings(&dependency["features"])))
        };
        Ok(Self {
            name: string("name")?,
            id: string("id")?,
            folder: manifest
                .parent()
                .context("a manifest has no folder")?
                .to_owned(),
            // Null allows every registry, an empty list none.
            is_published: package["publish"].is_null(),
            dependencies: items(&package["dependencies"])
                .iter()
                .filter_map(dependency)
                .collect(),
            features: features
                .iter()
                .map(|(feature, enables)| (feature.clone(), strings(enables)))
                .collect(),
        })
    }

    /// Whether `feature` turns on `other` of this package, directly or through others.
    pub(crate) fn enables(&self, feature: &str, other: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut left = vec![feature];
        while let Some(next) = left.pop() {
            if next == other {
                return true;
            }
            if seen.insert(next) {
                left.extend(
                    self.features
                        .get(next)
                        .into_iter()
                        .flatten()
                        .map(String::as_str),
                );
            }
        }
        false
    }
}

/// The cargo that runs this program.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Workspace;

    const METADATA: &str = r#"{
        "workspace_root": "/w", "target_directory": "/w/target",
        "packages": [{"name": "kit", "id": "kit#0.1.0", "manifest_path": "/w/kit/Cargo.toml",
            "publish": null, "dependencies": [{"name": "store", "features": ["postgres"]}], "features": {
            "default": ["sqlite"], "sqlite": ["dep:store"],
            "postgres": [], "postgres-bundled": ["postgres"],
            "full": ["sqlite", "postgres-bundled"]
        }}]
    }"#;

    #[test]
    fn packages_and_their_features_are_read() {
        let workspace = Workspace::parse(METADATA).unwrap();
        let kit = workspace.package("kit").unwrap();
        assert_eq!(kit.features.len(), 5);
        assert_eq!(kit.features["default"], ["sqlite"]);
        assert!(workspace.package("kat").is_err());
        let store = ("store".to_owned(), vec!["postgres".to_owned()]);
        assert_eq!(kit.dependencies, [store]);
        assert!(kit.is_published && kit.folder == Path::new("/w/kit"));
        assert_eq!(workspace.package_by_id("kit#0.1.0").unwrap().name, "kit");
    }

    #[test]
    fn a_feature_enables_itself_and_what_it_names_at_any_depth() {
        let workspace = Workspace::parse(METADATA).unwrap();
        let kit = workspace.package("kit").unwrap();
        assert!(kit.enables("postgres", "postgres"));
        assert!(kit.enables("full", "postgres"));
        assert!(!kit.enables("postgres", "postgres-bundled"));
        assert!(!kit.enables("default", "postgres"));
    }
}
