//! LocalStack in a container.

use std::time::Duration;

use anyhow::Result;

use super::{VERSION, is_ready, variables, warm_up};
use crate::service::server::{Lifetime, Plan, Server};
use crate::service::{Running, docker, free_port};
use crate::workspace::Workspace;

/// The image may have to be fetched, and is large.
const PATIENCE: Duration = Duration::from_secs(600);

/// Starts a container, if docker answers.
pub(super) fn start(_: &Workspace, lifetime: Lifetime) -> Result<Running> {
    docker::ensure_it_answers()?;
    let port = free_port()?;
    let image = format!("docker.io/localstack/localstack:{VERSION}");
    let options: Vec<String> = [
        "--publish",
        &format!("127.0.0.1:{port}:4566"),
        "--env",
        "SERVICES=kms",
        "--env",
        "EAGER_SERVICE_LOADING=1",
        "--env",
        "DISABLE_EVENTS=1",
    ]
    .map(ToOwned::to_owned)
    .into();
    let plan = Plan {
        folder: tempfile::Builder::new()
            .prefix("kms-localstack-")
            .tempdir()?,
        command: docker::container(&format!("kms-localstack-{port}"), &options, &image, &[]),
        environment: vec![],
        inherits: true,
        account: None,
        stop: "TERM",
        patience: Duration::from_secs(20),
    };
    let address = format!("127.0.0.1:{port}");
    let mut server = Server::start(plan, lifetime)?;
    server.wait_until(PATIENCE, |_| is_ready(&address))?;
    warm_up(&address)?;
    Ok(Running {
        variables: variables(port),
        lacks: None,
        how: format!("docker {image}, {address}"),
        server: Some(server),
    })
}
