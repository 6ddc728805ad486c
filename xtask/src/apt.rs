//! Debian's packages, for machines that are made for one run: only as root.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{account, command};

/// A mirror may be slow, and another apt-get hold the lock.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Installs packages, if this is Debian (or made from it) and this program is root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !Path::new("/etc/debian_version").exists() {
        bail!("not a Debian system");
    }
    if !account::is_root() {
        bail!("`sudo apt-get install {}` would do it", packages.join(" "));
    }
    eprintln!("installing with apt-get: {}", packages.join(" "));
    command::within(PATIENCE, apt_get().args(["-qq", "update"]))?;
    command::within(
        PATIENCE,
        apt_get()
            .args(["-qq", "install", "--yes", "--no-install-recommends"])
            .args(packages),
    )?;
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Keeps the package from starting a server of its own.
        .env("RUNLEVEL", "1");
    command
}
