//! AWS KMS, as LocalStack has it.

mod container;
mod program;

use std::time::Duration;

use anyhow::{Context, Result};

use super::http::{self, Request};
use super::server::Lifetime;
use super::{Running, Service, Source};
use crate::cache::Say;
use crate::workspace::Workspace;

/// The service.
pub(crate) struct Aws;

const ENDPOINT: &str = "KMS_TEST_AWS_ENDPOINT";

/// The interpreter of an environment that has LocalStack, and the script to start it with.
const PYTHON: &str = "KMS_TEST_AWS_LOCALSTACK";
const LAUNCH: &str = "KMS_TEST_AWS_LAUNCH";

/// The version of the container; that of the program is in its lock file.
const VERSION: &str = "4.9.2";

impl Service for Aws {
    fn name(&self) -> &'static str {
        "aws"
    }

    fn variables(&self) -> &'static [&'static str] {
        &[ENDPOINT]
    }

    fn own_variables(&self) -> &'static [&'static str] {
        &[PYTHON, LAUNCH]
    }

    fn own(&self, workspace: &Workspace, say: Say<'_>) -> Result<Vec<(&'static str, String)>> {
        let python = program::PACKAGES.kept_or_installed(workspace, say)?;
        Ok(vec![
            (PYTHON, python.display().to_string()),
            (LAUNCH, program::launch(workspace).display().to_string()),
        ])
    }

    fn prepare(&self, workspace: &Workspace, say: Say<'_>) -> Result<()> {
        self.own(workspace, say).map(drop)
    }

    fn address(&self, value: &str) -> Option<String> {
        http::address(value)
    }

    fn sources(&self) -> &'static [Source] {
        &[
            Source {
                what: "PyPI's package, installed before",
                start: from_kept,
            },
            Source {
                what: "docker",
                start: container::start,
            },
            Source {
                what: "PyPI",
                start: from_pypi,
            },
        ]
    }

    fn advice(&self) -> &'static str {
        "install Python 3.10, 3.11 or 3.12 with venv (Debian: `apt-get install python3-venv`), or \
         set KMS_TEST_AWS_ENDPOINT to the URL of a LocalStack with KMS"
    }
}

fn from_kept(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    program::start(&program::PACKAGES.kept(workspace)?, workspace, lifetime)
}

fn from_pypi(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    let say = |line: &str| eprintln!("aws: {line}");
    let python = program::PACKAGES.kept_or_installed(workspace, &say)?;
    program::start(&python, workspace, lifetime)
}

/// What tells tests where the server on this port of loopback is.
fn variables(port: u16) -> Vec<(&'static str, String)> {
    vec![(ENDPOINT, format!("http://127.0.0.1:{port}"))]
}

/// Whether LocalStack on `address` has its KMS running.
fn is_ready(address: &str) -> bool {
    Request::get("/_localstack/health")
        .send(address, Duration::from_secs(5))
        .is_ok_and(|health| kms_runs(&health))
}

fn kms_runs(health: &str) -> bool {
    let health: serde_json::Value = serde_json::from_str(health).unwrap_or_default();
    health["services"]["kms"] == "running"
}

/// Makes the first call, which takes seconds more than all others: no test shall wait for it.
fn warm_up(address: &str) -> Result<()> {
    // Not signed: LocalStack takes any credentials, and reads the region from them.
    let credential = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/kms/aws4_request, \
                      SignedHeaders=host, Signature=0";
    let list_keys = Request {
        method: "POST",
        path: "/",
        headers: &[
            ("Content-Type", "application/x-amz-json-1.1"),
            ("X-Amz-Target", "TrentService.ListKeys"),
            ("Authorization", credential),
        ],
        body: "{}",
    };
    list_keys
        .send(address, Duration::from_secs(120))
        .context("its first call failed")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::kms_runs;

    #[test]
    fn it_is_ready_when_its_kms_runs() {
        assert!(kms_runs(
            r#"{"services": {"s3": "disabled", "kms": "running"}}"#
        ));
        assert!(!kms_runs(
            r#"{"services": {"s3": "running", "kms": "starting"}}"#
        ));
        assert!(!kms_runs("{}"));
        assert!(!kms_runs("not found"));
    }
}
