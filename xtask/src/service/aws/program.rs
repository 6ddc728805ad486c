//! LocalStack as a program, from `PyPI`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{is_ready, variables, warm_up};
use crate::python::Packages;
use crate::service::server::{Lifetime, Plan, Server};
use crate::service::{Running, on_a_free_port};
use crate::workspace::Workspace;

pub(super) const PACKAGES: Packages<'static> = Packages {
    name: "localstack",
    lock: include_str!("../../../localstack/requirements.lock"),
};

/// On two cores it takes about two seconds; the tests may be busy on both.
const PATIENCE: Duration = Duration::from_secs(120);

/// The script that keeps it on loopback.
pub(super) fn launch(workspace: &Workspace) -> PathBuf {
    workspace.root.join("xtask/localstack/launch.py")
}

/// Starts it with the interpreter of its environment.
pub(super) fn start(python: &Path, workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    on_a_free_port(|port| start_on(port, python, workspace, lifetime))
}

fn start_on(
    port: u16,
    python: &Path,
    workspace: &Workspace,
    lifetime: Lifetime,
) -> Result<Running> {
    let address = format!("127.0.0.1:{port}");
    let folder = tempfile::Builder::new()
        .prefix("kms-localstack-")
        .tempdir()?;
    let root = folder.path().display().to_string();
    let set = |name, value: &str| (name, value.to_owned());
    let plan = Plan {
        environment: vec![
            set("PATH", "/usr/bin:/bin"),
            set("HOME", &root),
            set("TMPDIR", &root),
            // It writes into folders of the system, were it not for this.
            set("FILESYSTEM_ROOT", &root),
            set("OVERRIDE_IN_DOCKER", "0"),
            set("GATEWAY_LISTEN", &address),
            set("SERVICES", "kms"),
            set("EAGER_SERVICE_LOADING", "1"),
            // Nothing to the outside, and nothing from there.
            set("DNS_ADDRESS", "0"),
            set("SKIP_SSL_CERT_DOWNLOAD", "1"),
            set("DISABLE_EVENTS", "1"),
        ],
        // A developer's settings for AWS and LocalStack stay out.
        inherits: false,
        folder,
        command: vec![python.into(), launch(workspace).into()],
        account: None,
        stop: "TERM",
        // It takes one to four.
        patience: Duration::from_secs(15),
    };
    let mut server = Server::start(plan, lifetime)?;
    server
        // Its own word too: on a port that was taken, somebody else answers.
        .wait(PATIENCE, |_, log| log.contains("Ready.") && is_ready(&address))
        .context("LocalStack did not start")?;
    warm_up(&address)?;
    Ok(Running {
        variables: variables(port),
        lacks: None,
        how: format!("LocalStack from PyPI, {address}"),
        server: Some(server),
    })
}
