//! Postgres in a container.

use std::time::Duration;

use anyhow::Result;

use super::{settings, variables};
use crate::service::server::{Lifetime, Plan, Server};
use crate::service::{Running, docker, free_port, random_secret};
use crate::workspace::Workspace;

const IMAGE: &str = "docker.io/library/postgres:17-alpine";

/// The image may have to be fetched.
const PATIENCE: Duration = Duration::from_secs(300);

/// Starts a container, if docker answers.
pub(super) fn start(_: &Workspace, lifetime: Lifetime) -> Result<Running> {
    docker::ensure_it_answers()?;
    let port = free_port()?;
    let password = random_secret()?;
    let options = [
        "--publish".to_owned(),
        format!("127.0.0.1:{port}:5432"),
        // Without a value docker takes the variable's: arguments are open to everyone on the machine.
        "--env".to_owned(),
        "POSTGRES_PASSWORD".to_owned(),
    ];
    let name = format!("kms-postgres-{port}");
    let plan = Plan {
        folder: tempfile::Builder::new().prefix("kms-postgres-").tempdir()?,
        command: docker::container(&name, &options, IMAGE, &settings()),
        environment: vec![("POSTGRES_PASSWORD", password.clone())],
        inherits: true,
        account: None,
        // Fast shutdown: the client passes it on to the server.
        stop: "INT",
        patience: Duration::from_secs(15),
    };
    let mut server = Server::start(plan, lifetime)?;
    server.wait_until_log(PATIENCE, is_ready)?;
    Ok(Running {
        variables: variables(&password, port),
        lacks: None,
        how: format!("docker {IMAGE}, 127.0.0.1:{port}"),
        server: Some(server),
    })
}

/// Whether the log says that connections are taken. The image first starts a server that only it
/// can reach, to set up the cluster, and that one says the same words.
fn is_ready(log: &str) -> bool {
    log.split_once("PostgreSQL init process complete")
        .is_some_and(|(_, after)| after.contains("ready to accept connections"))
}

#[cfg(test)]
mod tests {
    use super::is_ready;

    #[test]
    fn the_server_that_sets_up_the_cluster_is_not_the_one_that_is_ready() {
        let setting_up = "LOG:  database system is ready to accept connections\n";
        assert!(!is_ready(setting_up));
        let set_up = format!("{setting_up}PostgreSQL init process complete; ready for start up.\n");
        assert!(!is_ready(&set_up));
        assert!(is_ready(&format!("{set_up}{setting_up}")));
    }
}
