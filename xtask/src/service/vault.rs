//! Vault or `OpenBao` as a dev server: unsealed, in memory, with a root token made for the run.

mod build;
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
pub(crate) struct Vault;

const ADDR: &str = "KMS_TEST_VAULT_ADDR";
const TOKEN: &str = "KMS_TEST_VAULT_TOKEN";

/// A program that starts one.
const BINARY: &str = "KMS_TEST_VAULT_BINARY";

impl Service for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn variables(&self) -> &'static [&'static str] {
        &[ADDR, TOKEN]
    }

    fn own_variables(&self) -> &'static [&'static str] {
        &[BINARY]
    }

    fn own(&self, workspace: &Workspace, say: Say<'_>) -> Result<Vec<(&'static str, String)>> {
        let binary = match program::on_path() {
            Ok(found) => found,
            Err(_) => build::kept_or_built(workspace, say)?,
        };
        Ok(vec![(BINARY, binary.display().to_string())])
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
                what: "binaries",
                start: from_path,
            },
            Source {
                what: "built before",
                start: from_kept,
            },
            Source {
                what: "docker",
                start: container::start,
            },
            Source {
                what: "built from its Go module",
                start: from_module,
            },
        ]
    }

    fn advice(&self) -> &'static str {
        "install Vault or OpenBao, or Go 1.25 or newer to build it, or set KMS_TEST_VAULT_ADDR to \
         the URL of one and KMS_TEST_VAULT_TOKEN to a token that may do everything there"
    }
}

fn from_path(_: &Workspace, lifetime: Lifetime) -> Result<Running> {
    program::start(&program::on_path()?, lifetime)
}

fn from_kept(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    let kept = build::kept(workspace)?.context("there is none")?;
    program::start(&kept, lifetime)
}

fn from_module(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    let built = build::kept_or_built(workspace, &|line| eprintln!("vault: {line}"))?;
    program::start(&built, lifetime)
}

/// What tells tests where the server on this port of loopback is.
fn variables(port: u16, token: String) -> Vec<(&'static str, String)> {
    vec![(ADDR, format!("http://127.0.0.1:{port}")), (TOKEN, token)]
}

/// Whether Vault on `address` is unsealed and active.
fn is_ready(address: &str) -> bool {
    Request::get("/v1/sys/health")
        .send(address, Duration::from_secs(5))
        .is_ok()
}
