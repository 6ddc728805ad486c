//! The way to the service: through which proxy, and whose certificates are trusted.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kms_core::Result;
use kms_core::service::{Endpoint, misconfigured};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Proxy};
use url::Url;

/// How long a connection is kept without use: less than what firewalls and NAT on the way usually allow, since
/// they drop what is older without a word.
const IDLE: Duration = Duration::from_secs(60);

/// Makes HTTP clients, all alike.
#[derive(Clone, Default)]
pub(crate) struct Network {
    proxy: Option<Proxy>,
    trusted: Option<Trusted>,
}

/// Certificates in PEM that are trusted instead of the system's.
#[derive(Clone)]
pub(crate) enum Trusted {
    Bundle(Vec<u8>),
    /// Read in the first call.
    File(PathBuf),
}

impl Network {
    pub(crate) fn new(proxy: Option<&str>, trusted: Option<Trusted>) -> Result<Self> {
        if let Some(Trusted::Bundle(pem)) = &trusted {
            certificates(pem)?;
        }
        Ok(Self {
            proxy: proxy.map(parse_proxy).transpose()?,
            trusted,
        })
    }

    /// Whether a proxy was set, so that it is asked whatever the environment says.
    pub(crate) fn has_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// Reads certificates from the disk, so it blocks.
    pub(crate) fn client(&self, endpoint: &Endpoint, connect_timeout: Duration) -> Result<Client> {
        // HTTP/1.1, where a call that hangs takes its connection with it. In HTTP/2 all calls share one, and those
        // to come would go on waiting for it.
        let mut builder = Client::builder()
            .user_agent(concat!("kms-kit/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE)
            .http1_only()
            .redirect(Policy::none())
            .referer(false)
            .tls_backend_rustls();
        builder = match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            // A proxy is on another machine, where this address is another one.
            None if endpoint.is_loopback() => builder.no_proxy(),
            None => builder,
        };
        builder = match &self.trusted {
            Some(trusted) => builder.tls_certs_only(trusted.read()?),
            None if !endpoint.is_encrypted() && self.proxy.is_none() => builder.tls_certs_only([]),
            None => builder,
        };
        builder.build().map_err(|error| {
            misconfigured("no TLS client can be made of the trusted certificates")
                .with_source(error)
        })
    }
}

impl Trusted {
    fn read(&self) -> Result<Vec<Certificate>> {
        match self {
            Self::Bundle(pem) => certificates(pem),
            Self::File(path) => std::fs::read(path)
                .map_err(|error| misconfigured("can't read the CA bundle").with_source(error))
                .and_then(|pem| certificates(&pem))
                .map_err(|error| error.with_context("file", path.display())),
        }
    }
}

/// Shows no password of the proxy.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("proxy", &self.has_proxy())
            .field("own_trust", &self.trusted.is_some())
            .finish()
    }
}

/// Names the setting and nothing of its value, which may hold a password.
fn parse_proxy(text: &str) -> Result<Proxy> {
    let refuse = || {
        misconfigured("not the URL of a proxy: http://HOST:PORT or https://HOST:PORT")
            .with_context("setting", "proxy")
    };
    let url = Url::parse(text).map_err(|_| refuse())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse());
    }
    Proxy::all(url).map_err(|_| refuse())
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate>> {
    let read = Certificate::from_pem_bundle(pem)
        .map_err(|error| misconfigured("the CA bundle is not PEM").with_source(error))?;
    if read.is_empty() {
        return Err(misconfigured("the CA bundle holds no certificate"));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use kms_core::service::PlainHttp;
    use kms_core::{Error, ErrorKind};

    use super::*;

    fn refusal(proxy: Option<&str>, trusted: Option<Trusted>) -> Error {
        Network::new(proxy, trusted).unwrap_err()
    }

    #[test]
    fn what_is_no_proxy_and_no_certificate_is_refused_without_repeating_it() {
        for proxy in ["", "hunter2", "socks5://hunter2:1", "file:///hunter2"] {
            let error = refusal(Some(proxy), None);
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{proxy}");
            assert_eq!(error.context("setting"), Some("proxy"));
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        for pem in [
            "",
            "hunter2",
            "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
        ] {
            let error = refusal(None, Some(Trusted::Bundle(pem.into())));
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{pem}");
        }
    }

    #[test]
    fn a_password_of_the_proxy_is_not_shown() {
        let network = Network::new(Some("http://user:hunter2@proxy.example.com:3128"), None);
        assert!(!format!("{:?}", network.unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_bundle_that_is_not_there_is_named() {
        let network = Network::new(None, Some(Trusted::File("/nowhere/ca.pem".into()))).unwrap();
        let endpoint = Endpoint::parse(crate::endpoint::DEFAULT, PlainHttp::OnLoopback);
        let error = network
            .client(&endpoint.unwrap(), Duration::from_secs(1))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert_eq!(error.context("file"), Some("/nowhere/ca.pem"));
    }
}
