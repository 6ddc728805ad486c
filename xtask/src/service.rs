//! The real services that tests talk to, and the order in which each is looked for.
//!
//! A service is had from the first of: its variables; then its [`Source`]s in their order, which by
//! custom is a binary on this machine, docker if it answers, a package registry. A new service is a
//! module that implements [`Service`] and a line in [`ALL`]; a suite names what it [needs].
//!
//! [needs]: crate::suite::Suite::needs

pub(crate) mod docker;
pub(crate) mod postgres;
pub(crate) mod server;

use std::fmt;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::interrupt;
use crate::workspace::Workspace;
use server::{Lifetime, Server};

/// Every service there is.
pub(crate) const ALL: &[&dyn Service] = &[&postgres::Postgres];

/// Something real that tests talk to.
pub(crate) trait Service: Sync {
    /// Its name in `KMS_TEST_REQUIRE`, and the word in the path of every test that needs it.
    fn name(&self) -> &'static str;

    /// The variables that tell tests where it is. With the first of them set, it is not started.
    fn variables(&self) -> &'static [&'static str];

    /// The host and port in the value of the first variable, if it has them.
    fn address(&self, value: &str) -> Option<String>;

    /// The ways to get it, best first.
    fn sources(&self) -> &'static [Source];

    /// What a person does to have it next time.
    fn advice(&self) -> &'static str;
}

/// A way to get a service.
pub(crate) struct Source {
    /// What it is, for the message when it did not work.
    pub(crate) what: &'static str,
    /// Starts the service, ready for use; an error says why it can't be had this way.
    pub(crate) start: fn(&Workspace, Lifetime) -> Result<Running>,
}

/// A service that answers. It is stopped when this goes out of scope, if it was started here.
#[derive(Debug)]
pub(crate) struct Running {
    /// The variables that tell tests where it is.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// How it was obtained, and where it listens: one line, without secrets.
    pub(crate) how: String,
    /// The server, if it was started here.
    pub(crate) server: Option<Server>,
}

/// What came of looking for a service.
#[derive(Debug)]
pub(crate) enum Obtained {
    Running(Running),
    Missing(Missing),
}

/// Why a service could not be had, source by source.
#[derive(Debug)]
pub(crate) struct Missing(Vec<String>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// Gets a service from the first source that has it, and says so in one line.
///
/// # Errors
///
/// When its variable is set and it doesn't answer there: whoever set it wants that one, no other.
pub(crate) fn obtain(
    service: &dyn Service,
    variable: impl Fn(&str) -> Option<String>,
    workspace: &Workspace,
    lifetime: Lifetime,
) -> Result<Obtained> {
    let name = service.name();
    if let Some(running) = given(service, variable)? {
        eprintln!("{name}: {}", running.how);
        return Ok(Obtained::Running(running));
    }
    let mut reasons = vec![format!("{} is not set", service.variables()[0])];
    for source in service.sources() {
        interrupt::check()?;
        match (source.start)(workspace, lifetime) {
            Ok(running) => {
                eprintln!("{name}: {}", running.how);
                return Ok(Obtained::Running(running));
            }
            Err(error) => reasons.push(format!("{}: {error:#}", source.what)),
        }
    }
    interrupt::check()?;
    Ok(Obtained::Missing(Missing(reasons)))
}

/// The service that the variables point to, if they are set.
fn given(
    service: &dyn Service,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Running>> {
    let set = |name: &&'static str| {
        let value = variable(name).filter(|value| !value.trim().is_empty());
        value.map(|value| (*name, value))
    };
    let variables: Vec<_> = service.variables().iter().filter_map(set).collect();
    let Some((first, value)) = variables
        .first()
        .filter(|(name, _)| *name == service.variables()[0])
    else {
        return Ok(None);
    };
    let how = match service.address(value) {
        Some(address) => {
            ensure!(
                listens(&address),
                "{first} is set, but nothing listens on {address}: start it, or unset the variable"
            );
            format!("{first}, {address}")
        }
        None => (*first).to_owned(),
    };
    Ok(Some(Running {
        how,
        variables,
        server: None,
    }))
}

/// Whether something accepts connections on `host:port`.
pub(crate) fn listens(address: &str) -> bool {
    let Ok(addresses) = address.to_socket_addrs() else {
        return false;
    };
    let patience = Duration::from_secs(5);
    addresses
        .into_iter()
        .any(|address| TcpStream::connect_timeout(&address, patience).is_ok())
}

/// A port of the loopback interface that nothing listens on right now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use anyhow::{Result, bail};

    use super::server::Lifetime;
    use super::{Obtained, Running, Service, Source, free_port, obtain};
    use crate::workspace::Workspace;

    struct Fake(&'static [Source]);

    impl Service for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }
        fn variables(&self) -> &'static [&'static str] {
            &["FAKE_ADDRESS", "FAKE_TOKEN"]
        }
        fn address(&self, value: &str) -> Option<String> {
            Some(value.to_owned())
        }
        fn sources(&self) -> &'static [Source] {
            self.0
        }
        fn advice(&self) -> &'static str {
            "make one"
        }
    }

    const NOT_THERE: Source = Source {
        what: "binaries",
        start: |_, _| bail!("no fake on PATH"),
    };
    const DOCKER: Source = Source {
        what: "docker",
        start: |_, _| started("from docker"),
    };
    const REGISTRY: Source = Source {
        what: "registry",
        start: |_, _| started("from the registry"),
    };

    #[allow(clippy::unnecessary_wraps, reason = "a source may fail")]
    fn started(how: &str) -> Result<Running> {
        Ok(Running {
            variables: vec![("FAKE_ADDRESS", "127.0.0.1:1".to_owned())],
            how: how.to_owned(),
            server: None,
        })
    }

    fn obtained(sources: &'static [Source], variables: &[(&str, &str)]) -> Result<Obtained> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let workspace = Workspace::default();
        obtain(
            &Fake(sources),
            variable,
            &workspace,
            Lifetime::OfThisProgram,
        )
    }

    fn how(obtained: Obtained) -> String {
        match obtained {
            Obtained::Running(running) => running.how,
            Obtained::Missing(missing) => panic!("missing: {missing}"),
        }
    }

    #[test]
    fn the_first_source_that_has_it_wins() {
        let found = obtained(&[NOT_THERE, DOCKER, REGISTRY], &[]).unwrap();
        assert_eq!(how(found), "from docker");
    }

    #[test]
    fn the_variable_comes_before_every_source() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let variables = [("FAKE_ADDRESS", address.as_str()), ("FAKE_TOKEN", "t")];
        let Obtained::Running(running) = obtained(&[DOCKER], &variables).unwrap() else {
            panic!("it is there");
        };
        assert_eq!(running.how, format!("FAKE_ADDRESS, {address}"));
        assert_eq!(running.variables[1], ("FAKE_TOKEN", "t".to_owned()));
    }

    #[test]
    fn a_variable_that_points_nowhere_is_an_error_and_no_other_source_is_tried() {
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let error = obtained(&[DOCKER], &[("FAKE_ADDRESS", &address)]).unwrap_err();
        assert!(error.to_string().contains("FAKE_ADDRESS"), "{error}");
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let found = obtained(&[DOCKER], &[("FAKE_ADDRESS", "")]).unwrap();
        assert_eq!(how(found), "from docker");
    }

    #[test]
    fn what_is_missing_says_why_for_each_source() {
        let Obtained::Missing(missing) = obtained(&[NOT_THERE], &[]).unwrap() else {
            panic!("there is no source that has it");
        };
        assert_eq!(
            missing.to_string(),
            "FAKE_ADDRESS is not set; binaries: no fake on PATH"
        );
    }
}
