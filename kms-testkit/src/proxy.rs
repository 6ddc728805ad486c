//! A proxy between a client and a real HTTP service, which fails as networks and busy services do.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::gate::Gate;
use crate::proxy::message::Response;
use crate::proxy::script::Script;
use crate::proxy::server::{Command, Server};

mod message;
mod script;
mod server;

/// Forwards HTTP/1.1 without TLS to a service, counts the requests, and fails them where a test says.
///
/// It listens on a free port of the loopback interface, from a thread of its own: tests on any runtime, or on
/// several one after another, may use it. Dropping it closes the port and every connection.
///
/// ```no_run
/// use kms_testkit::{FaultyProxy, NetworkFault};
///
/// let proxy = FaultyProxy::start("127.0.0.1:4566");
/// let endpoint = proxy.url(); // what the client under test is given
/// proxy.fail_next(2, NetworkFault::status(503));
/// // … two requests of the client are answered with 503, all others are forwarded.
/// assert_eq!(proxy.requests(), 2);
/// ```
pub struct FaultyProxy {
    address: SocketAddr,
    script: Arc<Script>,
    server: Server,
}

/// What happens to a request.
#[derive(Clone)]
#[non_exhaustive]
pub enum NetworkFault {
    /// It is read and never answered; the connection stays open.
    Hang,
    /// It is read, not forwarded, and the connection is reset.
    Cut,
    /// The service does what is asked, and the connection is reset before the answer.
    LoseAnswer,
    /// The service does what is asked, and the connection is closed in the middle of the answer's body.
    CutAnswer,
    /// It is not forwarded, and answered with this.
    Answer {
        /// The status code.
        status: u16,
        /// Headers beside `content-length`.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The service does what is asked, and the body of its answer is changed.
    Alter(Change),
    /// It waits at the gate, and is forwarded when that opens.
    Pause(Gate),
}

/// What changes the body of an answer.
type Change = Arc<dyn Fn(&mut Vec<u8>) + Send + Sync>;

impl NetworkFault {
    /// Answers with this status and no body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::answer(status, &[], "")
    }

    /// Answers with this status, these headers and this body.
    #[must_use]
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        Self::Answer {
            status,
            headers: headers
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: body.into(),
        }
    }

    /// Changes the body of the service's answer.
    #[must_use]
    pub fn alter(change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Self {
        Self::Alter(Arc::new(change))
    }
}

impl fmt::Debug for NetworkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hang => f.write_str("Hang"),
            Self::Cut => f.write_str("Cut"),
            Self::LoseAnswer => f.write_str("LoseAnswer"),
            Self::CutAnswer => f.write_str("CutAnswer"),
            Self::Answer { status, .. } => f.debug_tuple("Answer").field(status).finish(),
            Self::Alter(_) => f.write_str("Alter"),
            Self::Pause(gate) => f.debug_tuple("Pause").field(gate).finish(),
        }
    }
}

impl FaultyProxy {
    /// Starts a proxy to the service at `host:port`; an `http://` in front and a `/` behind are allowed.
    ///
    /// # Panics
    ///
    /// If the system gives no port or no thread, or the address has no port.
    #[must_use]
    pub fn start(service: &str) -> Self {
        let upstream = service
            .strip_prefix("http://")
            .unwrap_or(service)
            .trim_end_matches('/');
        assert!(
            upstream
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok()),
            "the address of a service is host:port: {service}"
        );
        let script = Arc::new(Script::default());
        let (server, address) = Server::start(upstream.to_owned(), Arc::clone(&script));
        Self {
            address,
            script,
            server,
        }
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the [address](Self::address), without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets this happen to every request from now on, until [`clear`](Self::clear).
    pub fn fail(&self, fault: NetworkFault) {
        self.script.inject(None, fault);
    }

    /// Lets this happen to the next requests, after those of earlier calls.
    pub fn fail_next(&self, requests: u64, fault: NetworkFault) {
        self.script.inject(Some(requests), fault);
    }

    /// Takes back all faults, and listens again. Requests that hang go on hanging.
    pub fn clear(&self) {
        self.script.clear();
        self.server.command(Command::Listen);
    }

    /// Refuses connections from now on, as a host does where nothing listens, and resets those that are open,
    /// until [`clear`](Self::clear).
    pub fn refuse(&self) {
        self.server.command(Command::Refuse);
    }

    /// Resets the connections that are open now, also idle ones that a client keeps for its next request.
    pub fn reset_connections(&self) {
        self.server.command(Command::Reset);
    }

    /// How many requests have arrived.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.script.requests()
    }

    /// How many requests have been forwarded to the service.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.script.forwarded()
    }

    /// How many connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.script.connections()
    }

    /// Waits until this many requests have arrived since the start.
    pub async fn requests_reach(&self, requests: u64) {
        self.script.requests_reach(requests).await;
    }
}

impl fmt::Debug for FaultyProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyProxy")
            .field("address", &self.address)
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}
