//! The real services that tests talk to, and the order in which each is looked for.
//!
//! A service is had from the first of: its variables; then its [`Source`]s in their order, which by
//! custom is a binary on this machine, docker if it answers, a package registry. A new service is a
//! module that implements [`Service`] and a line in [`ALL`]; a suite names what it [needs].
//!
//! [needs]: crate::suite::Suite::needs

pub(crate) mod aws;
pub(crate) mod docker;
pub(crate) mod gcp;
pub(crate) mod gcp_client;
mod http;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod server;
pub(crate) mod softhsm;
pub(crate) mod vault;

use std::fmt;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::Say;
use crate::interrupt;
use crate::workspace::Workspace;
use server::{Lifetime, Server};

/// Every service there is.
pub(crate) const ALL: &[&dyn Service] = &[
    &postgres::Postgres,
    &aws::Aws,
    &gcp::Gcp,
    &vault::Vault,
    &softhsm::SoftHsm,
    &gcp_client::GcpClient,
    &pgbouncer::PgBouncer,
];

/// Something real that tests talk to.
pub(crate) trait Service: Sync {
    /// Its name in `KMS_TEST_REQUIRE`, and the word in the path of every test that needs it.
    fn name(&self) -> &'static str;

    /// The variables that tell tests where it is. With the first of them set, it is not started, and
    /// the others have to be set too.
    fn variables(&self) -> &'static [&'static str];

    /// The variables that tell tests how to start one of their own, to stop it, say. Where they can't
    /// be had, only those tests are skipped.
    fn own_variables(&self) -> &'static [&'static str] {
        &[]
    }

    /// Gets what [`own_variables`](Self::own_variables) point to, and gives their values.
    fn own(&self, _: &Workspace, _: Say<'_>) -> Result<Vec<(&'static str, String)>> {
        Ok(Vec::new())
    }

    /// Makes what takes minutes to make and starting it will need, if anything.
    fn prepare(&self, _: &Workspace, _: Say<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether it runs. The others are programs that tests run.
    fn is_server(&self) -> bool {
        true
    }

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
    /// The variables that tell tests where it is, and how to start one of their own.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// Why tests can't start one of their own, if they can't.
    pub(crate) lacks: Option<String>,
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
    if let Some(mut running) = given(service, &variable)? {
        eprintln!("{name}: {}", running.how);
        // Whoever gives one gets none built: that may take minutes.
        complete(service, &variable, &mut running, || {
            bail!("{} is not set", service.own_variables().join(" or "))
        });
        return Ok(Obtained::Running(running));
    }
    let say = |line: &str| eprintln!("{name}: {line}");
    let mut reasons = vec![format!("{} is not set", service.variables()[0])];
    for source in service.sources() {
        interrupt::check()?;
        match (source.start)(workspace, lifetime) {
            Ok(mut running) => {
                eprintln!("{name}: {}", running.how);
                complete(service, &variable, &mut running, || {
                    service.own(workspace, &say)
                });
                return Ok(Obtained::Running(running));
            }
            Err(error) => reasons.push(format!("{}: {error:#}", source.what)),
        }
    }
    interrupt::check()?;
    Ok(Obtained::Missing(Missing(reasons)))
}

/// Makes what the service will need and takes minutes to make, unless its variable is set.
pub(crate) fn prepare(service: &dyn Service, workspace: &Workspace, say: Say<'_>) -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    if value_of(service.variables()[0], &variable).is_some() {
        return Ok(());
    }
    service.prepare(workspace, say)
}

/// Adds the variables for tests that start one of their own: those that are set, else from `own`.
fn complete(
    service: &dyn Service,
    variable: &impl Fn(&str) -> Option<String>,
    running: &mut Running,
    own: impl FnOnce() -> Result<Vec<(&'static str, String)>>,
) {
    let names = service.own_variables();
    let set = names
        .iter()
        .map(|name| Some((*name, value_of(name, variable)?)));
    match set.collect::<Option<Vec<_>>>().map_or_else(own, Ok) {
        Ok(variables) => running.variables.extend(variables),
        Err(error) => running.lacks = Some(format!("{error:#}")),
    }
}

fn value_of(name: &str, variable: &impl Fn(&str) -> Option<String>) -> Option<String> {
    variable(name).filter(|value| !value.trim().is_empty())
}

/// The service that the variables point to, if they are set.
fn given(
    service: &dyn Service,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Running>> {
    let [first, others @ ..] = service.variables() else {
        return Ok(None);
    };
    let Some(value) = value_of(first, variable) else {
        return Ok(None);
    };
    let how = match service.address(&value) {
        Some(address) => {
            ensure!(
                listens(&address),
                "{first} is set, but nothing listens on {address}: start it, or unset the variable"
            );
            format!("{first}, {address}")
        }
        None => (*first).to_owned(),
    };
    let mut variables = vec![(*first, value)];
    for name in others {
        let value = value_of(name, variable);
        variables.push((
            name,
            value.with_context(|| format!("{first} is set, but not {name}"))?,
        ));
    }
    Ok(Some(Running {
        variables,
        lacks: None,
        how,
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

/// Starts a server on a free port of loopback; on another one if somebody took it in the meantime.
pub(crate) fn on_a_free_port(start: impl Fn(u16) -> Result<Running>) -> Result<Running> {
    const ATTEMPTS: u32 = 5;
    let mut attempt = 1;
    loop {
        match start(free_port()?) {
            Err(error) if attempt < ATTEMPTS && is_taken(&format!("{error:#}")) => attempt += 1,
            outcome => return outcome,
        }
    }
}

/// Whether a server that ended said that its port is somebody else's.
fn is_taken(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    said.contains("could not bind") || said.contains("address already in use")
}

/// A secret for one run: on a shared machine, loopback is open to all its users.
fn random_secret() -> Result<String> {
    use std::fmt::Write as _;
    use std::io::Read as _;

    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    let mut secret = String::new();
    for byte in bytes {
        write!(secret, "{byte:02x}")?;
    }
    Ok(secret)
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
    use super::{Obtained, Running, Say, Service, Source, free_port, obtain, random_secret};
    use crate::workspace::Workspace;

    struct Fake(&'static [Source]);

    impl Service for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }
        fn variables(&self) -> &'static [&'static str] {
            &["FAKE_ADDRESS", "FAKE_TOKEN"]
        }
        fn own_variables(&self) -> &'static [&'static str] {
            &["FAKE_BINARY"]
        }
        fn own(&self, _: &Workspace, _: Say<'_>) -> Result<Vec<(&'static str, String)>> {
            Ok(vec![("FAKE_BINARY", "/built".to_owned())])
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
            lacks: None,
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

    fn running(obtained: Obtained) -> Running {
        match obtained {
            Obtained::Running(running) => running,
            Obtained::Missing(missing) => panic!("missing: {missing}"),
        }
    }

    fn how(obtained: Obtained) -> String {
        running(obtained).how
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
        let running = running(obtained(&[DOCKER], &variables).unwrap());
        assert_eq!(running.how, format!("FAKE_ADDRESS, {address}"));
        assert_eq!(running.variables[1], ("FAKE_TOKEN", "t".to_owned()));

        let error = obtained(&[DOCKER], &variables[..1]).unwrap_err();
        assert!(error.to_string().contains("not FAKE_TOKEN"), "{error}");
    }

    #[test]
    fn who_gives_a_service_gives_what_tests_start_too_or_does_without() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut variables = vec![("FAKE_ADDRESS", address.as_str()), ("FAKE_TOKEN", "t")];
        let found = running(obtained(&[DOCKER], &variables).unwrap());
        assert_eq!(found.lacks.as_deref(), Some("FAKE_BINARY is not set"));
        variables.push(("FAKE_BINARY", "/mine"));
        let found = running(obtained(&[DOCKER], &variables).unwrap());
        assert_eq!(found.lacks, None);
        assert_eq!(found.variables[2], ("FAKE_BINARY", "/mine".to_owned()));
    }

    #[test]
    fn a_service_that_was_started_comes_with_what_tests_start() {
        let found = running(obtained(&[DOCKER], &[]).unwrap());
        assert_eq!(found.variables[1], ("FAKE_BINARY", "/built".to_owned()));
        let found = running(obtained(&[DOCKER], &[("FAKE_BINARY", "/mine")]).unwrap());
        assert_eq!(found.variables[1], ("FAKE_BINARY", "/mine".to_owned()));
    }

    #[test]
    fn each_run_has_a_secret_of_its_own() {
        let (one, other) = (random_secret().unwrap(), random_secret().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
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
