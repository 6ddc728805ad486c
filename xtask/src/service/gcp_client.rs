//! Google's own Python client, which says whether the fake Cloud KMS answers as the real one does.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::server::Lifetime;
use super::{Running, Service, Source};
use crate::cache::Say;
use crate::python::Packages;
use crate::workspace::Workspace;

/// The client, in an environment of its own.
pub(crate) struct GcpClient;

/// The interpreter of an environment that has the client.
pub(crate) const PYTHON: &str = "KMS_TEST_GCP_CLIENT";

const LOCK: &str = "kms-testkit/tests/fake_cloud_kms/requirements.lock";

impl Service for GcpClient {
    fn name(&self) -> &'static str {
        "gcp-client"
    }

    fn variables(&self) -> &'static [&'static str] {
        &[PYTHON]
    }

    fn prepare(&self, workspace: &Workspace, say: Say<'_>) -> Result<()> {
        installed(workspace, say).map(drop)
    }

    fn is_server(&self) -> bool {
        false
    }

    fn address(&self, _: &str) -> Option<String> {
        None
    }

    fn sources(&self) -> &'static [Source] {
        &[Source {
            what: "PyPI",
            start: from_pypi,
        }]
    }

    fn advice(&self) -> &'static str {
        "install Python 3.10, 3.11 or 3.12 with venv (Debian: `apt-get install python3-venv`)"
    }
}

fn from_pypi(workspace: &Workspace, _: Lifetime) -> Result<Running> {
    let python = installed(workspace, &|line| eprintln!("gcp-client: {line}"))?;
    Ok(Running {
        variables: vec![(PYTHON, python.display().to_string())],
        lacks: None,
        how: "from PyPI".to_owned(),
        server: None,
    })
}

fn installed(workspace: &Workspace, say: Say<'_>) -> Result<PathBuf> {
    let path = workspace.root.join(LOCK);
    let lock = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let packages = Packages {
        name: "google-cloud-kms",
        lock: &lock,
    };
    packages.kept_or_installed(workspace, say)
}
