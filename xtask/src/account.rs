//! The account that servers run under when this program runs as root.
//!
//! Postgres refuses to run as root, and no test server needs to.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::{Uid, User};

use crate::command;

/// An account without rights of its own.
#[derive(Debug)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account for a server, or none when this program isn't root and servers run as its user.
    ///
    /// `preferred` is the name that the server's package makes for it; `nobody` stands in.
    pub(crate) fn for_server(preferred: &str) -> Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        for name in [preferred, "nobody"] {
            if let Some(user) = User::from_name(name).context("cannot read the accounts")? {
                return Ok(Some(Self {
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                }));
            }
        }
        bail!("running as root, and there is no account `{preferred}` or `nobody` for the server");
    }

    /// Makes the command run under this account.
    pub(crate) fn run(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives the account a file or folder.
    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to the server's account", path.display()))
    }

    /// Gives the account a folder and everything in it.
    pub(crate) fn own_all(&self, folder: &Path) -> Result<()> {
        let owner = format!("{}:{}", self.uid, self.gid);
        command::output(Command::new("chown").args(["-R", &owner]).arg(folder))?;
        Ok(())
    }
}

/// Whether this program runs as root.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}
