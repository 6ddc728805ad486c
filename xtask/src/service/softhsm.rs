//! `SoftHSM`: PKCS#11 tokens in files. It is a library of the test's own process; what is started is the folder that
//! the tokens are in.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::server::{Lifetime, Plan, Server};
use super::{Running, Service, Source, random_secret};
use crate::workspace::Workspace;

/// The library.
pub(crate) struct SoftHsm;

const MODULE: &str = "KMS_TEST_PKCS11_MODULE";
const PIN: &str = "KMS_TEST_PKCS11_PIN";
/// The one that `SoftHSM` itself reads.
const CONFIGURATION: &str = "SOFTHSM2_CONF";

/// Where packages put it.
const PLACES: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

impl Service for SoftHsm {
    fn name(&self) -> &'static str {
        "softhsm"
    }

    fn variables(&self) -> &'static [&'static str] {
        &[MODULE, PIN, CONFIGURATION]
    }

    fn address(&self, _: &str) -> Option<String> {
        None
    }

    fn sources(&self) -> &'static [Source] {
        &[
            Source {
                what: "binaries",
                start: from_binaries,
            },
            Source {
                what: "apt",
                start: from_apt,
            },
        ]
    }

    fn advice(&self) -> &'static str {
        "install SoftHSM 2 (Debian: `apt-get install softhsm2`), or set KMS_TEST_PKCS11_MODULE to its library"
    }
}

fn from_binaries(_: &Workspace, lifetime: Lifetime) -> Result<Running> {
    let module = PLACES.into_iter().find(|place| Path::new(place).exists());
    let module = module.context("no `libsofthsm2.so` in the usual folders")?;
    let folder = tempfile::tempdir()?;
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens)?;
    let configuration = folder.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&configuration, text)?;
    let variables = vec![
        (MODULE, module.to_owned()),
        (PIN, random_secret()?),
        (CONFIGURATION, configuration.display().to_string()),
    ];
    let server = Server::start(
        Plan {
            folder,
            // Nothing runs: it keeps the folder as long as the others keep theirs.
            command: ["tail", "-f", "/dev/null"].map(Into::into).to_vec(),
            environment: Vec::new(),
            inherits: true,
            account: None,
            stop: "TERM",
            patience: Duration::from_secs(2),
        },
        lifetime,
    )?;
    Ok(Running {
        variables,
        lacks: None,
        how: module.to_owned(),
        server: Some(server),
    })
}

fn from_apt(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    crate::apt::install(&["softhsm2"])?;
    from_binaries(workspace, lifetime)
}
