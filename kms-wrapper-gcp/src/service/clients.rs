//! The client of the runtime that is asking.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use google_cloudkms1::CloudKMS;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kms_core::{CallLimits, Error, ErrorKind, Result};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::runtime::{Handle, Id};
use tokio::sync::OnceCell;

use crate::endpoint::Endpoint;
use crate::login::{Logins, Tokens};

/// Runtimes whose clients are kept. More may use the wrapper; those that have not for longest start anew.
const MAX_RUNTIMES: usize = 8;

/// How long a connection is kept without use: less than what firewalls and NAT on the way usually allow, since
/// they drop what is older without a word.
const IDLE: Duration = Duration::from_secs(60);

/// A client of the service, with the connections that it keeps.
pub(crate) struct Client {
    pub(super) hub: CloudKMS<HttpsConnector<HttpConnector>>,
}

/// A client for each runtime: its idle connections are driven by the runtime that made them, and are dead on
/// another one.
pub(crate) struct Clients {
    endpoint: Endpoint,
    logins: Arc<Logins>,
    /// In the order of their last use.
    made: Mutex<Vec<(Id, Slot)>>,
}

/// Filled by the first call, which reads the certificates.
type Slot = Arc<OnceCell<Arc<Client>>>;

impl Clients {
    pub(crate) fn new(endpoint: Endpoint, logins: Arc<Logins>) -> Self {
        Self {
            endpoint,
            logins,
            made: Mutex::default(),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The one of this runtime.
    pub(crate) async fn current(&self, limits: &CallLimits) -> Result<Arc<Client>> {
        self.slot(Handle::current().id())
            .get_or_try_init(|| self.make(limits))
            .await
            .cloned()
    }

    fn slot(&self, runtime: Id) -> Slot {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().position(|(id, _)| *id == runtime);
        let entry = match known {
            Some(position) => made.remove(position),
            None => (runtime, Slot::default()),
        };
        let slot = Arc::clone(&entry.1);
        made.push(entry);
        if made.len() > MAX_RUNTIMES {
            made.remove(0);
        }
        slot
    }

    async fn make(&self, limits: &CallLimits) -> Result<Arc<Client>> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(limits.connect_timeout()));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        // HTTP/1.1, where a call that hangs takes its connection with it. In HTTP/2 all calls share one, and those
        // to come would go on waiting for it.
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls().await?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        let mut hub = CloudKMS::new(client, Tokens(Arc::clone(&self.logins)));
        // The client joins paths to it, and panics without the slash.
        hub.base_url(format!("{}/", self.endpoint.base()));
        hub.user_agent(concat!("kms-kit/", env!("CARGO_PKG_VERSION")).to_owned());
        Ok(Arc::new(Client { hub }))
    }

    /// The provider is named, so that nothing depends on the process's default one.
    async fn tls(&self) -> Result<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))?;
        if !self.endpoint.is_encrypted() {
            return Ok(config
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth());
        }
        // Reads the system's certificates from the disk.
        let roots = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
            .await
            .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))?;
        let mut store = rustls::RootCertStore::empty();
        let (taken, _) = store.add_parsable_certificates(roots.certs);
        if taken == 0 {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_detail("the system has no root certificates to trust; install them"));
        }
        Ok(config.with_root_certificates(store).with_no_client_auth())
    }
}
