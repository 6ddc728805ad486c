//! Servers in containers, where docker answers.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command;

/// Fails unless the docker daemon answers: a client alone is of no use.
pub(crate) fn ensure_it_answers() -> Result<()> {
    let answers = command::answers(Command::new("docker").arg("info"), Duration::from_secs(10));
    ensure!(answers, "`docker info` does not answer");
    Ok(())
}

/// The command of a container that lives as long as the command, whatever becomes of its client.
///
/// `options` are those of `docker run`, `arguments` those of the server in the image.
pub(crate) fn container(
    name: &str,
    options: &[String],
    image: &str,
    arguments: &[String],
) -> Vec<OsString> {
    // The client passes signals on, but one that was killed leaves its container behind.
    const SCRIPT: &str =
        r#"name=$1; shift; docker "$@"; docker rm --force "$name" >/dev/null 2>&1"#;
    let mut command: Vec<String> = ["sh", "-c", SCRIPT, "container", name]
        .map(Into::into)
        .into();
    command.extend(["run", "--rm", "--name", name].map(Into::into));
    command.extend_from_slice(options);
    command.push(image.to_owned());
    command.extend_from_slice(arguments);
    command.into_iter().map(Into::into).collect()
}
