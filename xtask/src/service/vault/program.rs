//! Vault as a program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{is_ready, variables};
use crate::command;
use crate::service::server::{Lifetime, Plan, Server};
use crate::service::{Running, on_a_free_port, random_secret};

/// On two cores it takes less than a second; the tests may be busy on both.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program in PATH.
pub(super) fn on_path() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for name in ["vault", "bao"] {
        for folder in std::env::split_paths(&path) {
            let program = folder.join(name);
            if folder.is_absolute() && works(&program) {
                return Ok(program);
            }
        }
    }
    bail!("no `vault` or `bao` in PATH");
}

/// Whether this is one of the two, and runs here.
pub(super) fn works(program: &Path) -> bool {
    command::output(Command::new(program).arg("version"))
        .is_ok_and(|said| said.starts_with("Vault v") || said.starts_with("OpenBao v"))
}

/// Starts it.
pub(super) fn start(program: &Path, lifetime: Lifetime) -> Result<Running> {
    on_a_free_port(|port| start_on(port, program, lifetime))
}

fn start_on(port: u16, program: &Path, lifetime: Lifetime) -> Result<Running> {
    let address = format!("127.0.0.1:{port}");
    let token = random_secret()?;
    let folder = tempfile::Builder::new().prefix("kms-vault-").tempdir()?;
    let home = folder.path().display().to_string();
    let mut command = vec![program.into()];
    let listen = format!("-dev-listen-address={address}");
    command.extend(["server", "-dev", &listen, "-dev-no-store-token"].map(Into::into));
    let plan = Plan {
        folder,
        command,
        // The token comes this way: arguments are open to everyone on the machine.
        environment: vec![
            ("PATH", "/usr/bin:/bin".to_owned()),
            ("HOME", home.clone()),
            ("TMPDIR", home),
            ("VAULT_DEV_ROOT_TOKEN_ID", token.clone()),
            ("BAO_DEV_ROOT_TOKEN_ID", token.clone()),
        ],
        // A developer's settings for a real Vault stay out.
        inherits: false,
        account: None,
        stop: "TERM",
        patience: Duration::from_secs(10),
    };
    let mut server = Server::start(plan, lifetime)?;
    server
        // Its own word too: on a port that was taken, somebody else answers.
        .wait(PATIENCE, |_, log| {
            log.contains("Development mode should NOT be used") && is_ready(&address)
        })
        .with_context(|| format!("{} did not start", program.display()))?;
    Ok(Running {
        variables: variables(port, token),
        lacks: None,
        how: format!("{}, {address}", program.display()),
        server: Some(server),
    })
}
