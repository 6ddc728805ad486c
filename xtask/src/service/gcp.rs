//! Google Cloud KMS, as the fake server of `kms-testkit` has it: no package registry has an emulator.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::server::{Lifetime, Plan, Server};
use super::{Running, Service, Source, http};
use crate::cache::Say;
use crate::command;
use crate::workspace::Workspace;

/// The service.
pub(crate) struct Gcp;

/// The URL of the server.
pub(crate) const ENDPOINT: &str = "KMS_TEST_GCP_ENDPOINT";

const PACKAGE: &str = "kms-testkit";

/// The feature and the program.
const FAKE: &str = "fake-cloud-kms";

/// A build from nothing, on two busy cores.
const BUILD: Duration = Duration::from_secs(20 * 60);

const START: Duration = Duration::from_secs(60);

impl Service for Gcp {
    fn name(&self) -> &'static str {
        "gcp"
    }

    fn variables(&self) -> &'static [&'static str] {
        &[ENDPOINT]
    }

    fn address(&self, value: &str) -> Option<String> {
        http::address(value)
    }

    fn sources(&self) -> &'static [Source] {
        &[Source {
            what: "the fake of kms-testkit",
            start,
        }]
    }

    fn advice(&self) -> &'static str {
        "see why kms-testkit doesn't build with the feature fake-cloud-kms, or set \
         KMS_TEST_GCP_ENDPOINT to the URL of one that runs"
    }
}

fn start(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    let program = build(workspace, &|line| eprintln!("gcp: {line}"))?;
    let plan = Plan {
        folder: tempfile::Builder::new().prefix("kms-gcp-").tempdir()?,
        command: vec![program.into(), "--listen".into(), "127.0.0.1:0".into()],
        environment: vec![],
        inherits: true,
        account: None,
        stop: "TERM",
        patience: Duration::from_secs(5),
    };
    let mut server = Server::start(plan, lifetime)?;
    server
        .wait_until_log(START, |log| url(log).is_some())
        .context("the fake did not start")?;
    let url = url(&server.log()?).context("the fake said where it is")?;
    let address = http::address(&url).with_context(|| format!("{url:?} is no URL"))?;
    Ok(Running {
        variables: vec![(ENDPOINT, url)],
        lacks: None,
        how: format!("the fake of kms-testkit, {address}"),
        server: Some(server),
    })
}

/// The URL in the first line that the fake prints.
fn url(log: &str) -> Option<String> {
    let urls = log
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let mut urls = urls.filter(|line| line.starts_with("http://"));
    urls.next().map(|line| line.trim().to_owned())
}

/// Builds the fake, and gives its path.
fn build(workspace: &Workspace, say: Say<'_>) -> Result<PathBuf> {
    say("building the fake Cloud KMS");
    let mut build = workspace.cargo();
    build
        .args([
            "build",
            "--package",
            PACKAGE,
            "--features",
            FAKE,
            "--bin",
            FAKE,
        ])
        .args(["--message-format", "json-render-diagnostics"]);
    let messages = command::within(BUILD, &mut build)?;
    executable(&messages).context("cargo named no program")
}

/// The path of the program in the messages of `cargo build`.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines();
    let mut messages = messages.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.find_map(|message| {
        let is_it = message["target"]["name"] == FAKE;
        let path = message["executable"].as_str().filter(|_| is_it)?;
        Some(path.into())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{executable, url};

    #[test]
    fn the_url_is_the_first_whole_line_that_is_one() {
        assert_eq!(url("http://127.0.0.1:5"), None);
        let log = "a warning\nhttp://127.0.0.1:5000\nhttp://else\n";
        assert_eq!(url(log).unwrap(), "http://127.0.0.1:5000");
    }

    #[test]
    fn the_program_is_found_among_what_cargo_says() {
        let messages = "\
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"kms_core\"},\"executable\":null}
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"fake-cloud-kms\"},\"executable\":\"/t/fake\"}
{\"reason\":\"build-finished\",\"success\":true}
";
        assert_eq!(executable(messages).unwrap(), Path::new("/t/fake"));
        assert_eq!(executable("not JSON\n"), None);
    }
}
