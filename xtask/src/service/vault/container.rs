//! Vault in a container.

use std::time::Duration;

use anyhow::Result;

use super::{is_ready, variables};
use crate::service::server::{Lifetime, Plan, Server};
use crate::service::{Running, docker, free_port, random_secret};
use crate::workspace::Workspace;

const IMAGE: &str = "docker.io/hashicorp/vault:1.21.0";

/// The image may have to be fetched.
const PATIENCE: Duration = Duration::from_secs(300);

/// Starts a container, if docker answers.
pub(super) fn start(_: &Workspace, lifetime: Lifetime) -> Result<Running> {
    docker::ensure_it_answers()?;
    let port = free_port()?;
    let token = random_secret()?;
    let options: Vec<String> = [
        "--publish",
        &format!("127.0.0.1:{port}:8200"),
        // Without a value docker takes the variable's: arguments are open to everyone on the machine.
        "--env",
        "VAULT_DEV_ROOT_TOKEN_ID",
        // No right to lock memory: there is nothing to keep from the disk.
        "--env",
        "SKIP_SETCAP=true",
    ]
    .map(ToOwned::to_owned)
    .into();
    let server = [
        "server",
        "-dev",
        "-dev-listen-address=0.0.0.0:8200",
        "-dev-no-store-token",
    ];
    let server = server.map(ToOwned::to_owned);
    let plan = Plan {
        folder: tempfile::Builder::new().prefix("kms-vault-").tempdir()?,
        command: docker::container(&format!("kms-vault-{port}"), &options, IMAGE, &server),
        environment: vec![("VAULT_DEV_ROOT_TOKEN_ID", token.clone())],
        inherits: true,
        account: None,
        stop: "TERM",
        patience: Duration::from_secs(15),
    };
    let address = format!("127.0.0.1:{port}");
    let mut server = Server::start(plan, lifetime)?;
    server.wait_until(PATIENCE, |_| is_ready(&address))?;
    Ok(Running {
        variables: variables(port, token),
        lacks: None,
        how: format!("docker {IMAGE}, {address}"),
        server: Some(server),
    })
}
