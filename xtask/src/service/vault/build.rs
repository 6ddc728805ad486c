//! Vault from a package registry: built from its Go module, once, and kept.

use std::env::consts::{ARCH, OS};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::program;
use crate::cache::{Entry, Say};
use crate::workspace::Workspace;
use crate::{command, go};

/// Names the version, and the forks of two dependencies that it needs.
const MODULE: &str = include_str!("../../../vault/go.mod");

const PACKAGE: &str = "github.com/hashicorp/vault";

/// Four to five minutes on two idle cores.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

const PROGRAM: &str = "vault";

/// The program, if it was built before.
pub(super) fn kept(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let kept = entry(workspace)?.kept(works);
    Ok(kept.map(|folder| folder.join(PROGRAM)))
}

/// The program, built if there is none.
pub(super) fn kept_or_built(workspace: &Workspace, say: Say<'_>) -> Result<PathBuf> {
    let folder = entry(workspace)?.kept_or_made(say, works, |folder| {
        let module = tempfile::tempdir()?;
        std::fs::write(module.path().join("go.mod"), MODULE)?;
        let go = go::for_module(module.path(), workspace, say)?;
        say("building it from its Go module, once: about five minutes");
        build(&go, module.path(), &folder.join(PROGRAM))
    })?;
    Ok(folder.join(PROGRAM))
}

fn entry(workspace: &Workspace) -> Result<Entry> {
    Entry::new(workspace, "vault", &[MODULE, OS, ARCH])
}

fn works(folder: &Path) -> bool {
    program::works(&folder.join(PROGRAM))
}

fn build(go: &Path, module: &Path, program: &Path) -> Result<()> {
    // Leaves the processors to whoever waits for something.
    let mut build = Command::new("nice");
    build
        .arg(go)
        .args([
            "build",
            "-mod=mod",
            "-tags=minimal",
            "-trimpath",
            "-ldflags=-s -w",
            "-o",
        ])
        .arg(program)
        .arg(PACKAGE)
        .current_dir(module)
        .env("GOWORK", "off")
        // Goes with the module, also when the build is killed.
        .env("GOTMPDIR", module);
    command::within(PATIENCE, &mut build)?;
    Ok(())
}
