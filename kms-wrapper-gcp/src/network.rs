//! The way to the service: through which proxy, and whose certificates are trusted.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fmt};

use kms_core::Result;
use kms_core::service::{Endpoint, ProxyUrl, misconfigured};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Proxy};

/// How long a connection is kept without use: less than what firewalls and NAT on the way usually allow, since
/// they drop what is older without a word.
const IDLE: Duration = Duration::from_secs(60);

/// Makes HTTP clients, all alike.
#[derive(Clone, Default)]
pub(crate) struct Network {
    /// `Some(None)` for none, whatever the environment says.
    proxy: Option<Option<ProxyUrl>>,
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
    pub(crate) fn new(proxy: Option<Option<&str>>, trusted: Option<Trusted>) -> Result<Self> {
        if let Some(Trusted::Bundle(pem)) = &trusted {
            certificates(pem)?;
        }
        let parse = |text: Option<&str>| text.map(|text| ProxyUrl::parse(text, "proxy"));
        Ok(Self {
            proxy: proxy.map(|proxy| parse(proxy).transpose()).transpose()?,
            trusted,
        })
    }

    /// The proxy that was set, and is asked whatever the environment says.
    pub(crate) fn proxy(&self) -> Option<&ProxyUrl> {
        self.proxy.as_ref()?.as_ref()
    }

    /// Refuses settings that the environment does not give too, for credentials that ask for tokens: Google's library
    /// does that, by the environment alone.
    pub(crate) fn check_for_tokens(&self) -> Result<()> {
        let refuse = |setting, variable| {
            misconfigured("these credentials ask for tokens, which Google's library does by the environment alone, and that says otherwise; set the variable instead, or to the same")
                .with_context("setting", setting)
                .with_context("variable", variable)
        };
        if let Some(proxy) = &self.proxy {
            let named = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
            let text = named.into_iter().find_map(variable);
            let ambient = text.map(|text| ProxyUrl::parse(&text, "HTTPS_PROXY"));
            if *proxy != ambient.transpose()? {
                return Err(refuse("proxy", "HTTPS_PROXY"));
            }
        }
        if let Some(trusted) = &self.trusted {
            let ambient = variable("SSL_CERT_FILE").map(std::fs::read);
            if ambient.transpose().ok().flatten().as_deref() != Some(&*trusted.bytes()?) {
                return Err(refuse("ca", "SSL_CERT_FILE"));
            }
        }
        Ok(())
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
            Some(Some(proxy)) => {
                let proxy = Proxy::all(proxy.url().clone());
                let refused = misconfigured("there is no such proxy");
                builder.proxy(proxy.map_err(|_| refused.with_context("setting", "proxy"))?)
            }
            Some(None) => builder.no_proxy(),
            // A proxy is on another machine, where this address is another one.
            None if endpoint.is_loopback() => builder.no_proxy(),
            None => builder,
        };
        builder = match &self.trusted {
            Some(trusted) => builder.tls_certs_only(trusted.read()?),
            None if !endpoint.is_encrypted() && self.proxy().is_none() => {
                builder.tls_certs_only([])
            }
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
        let read = certificates(&self.bytes()?);
        read.map_err(|error| match self {
            Self::Bundle(_) => error,
            Self::File(path) => error.with_context("file", path.display()),
        })
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Bundle(pem) => Ok(pem.into()),
            Self::File(path) => match std::fs::read(path) {
                Ok(pem) => Ok(pem.into()),
                Err(error) => Err(misconfigured("can't read the CA bundle")
                    .with_context("file", path.display())
                    .with_source(error)),
            },
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Shows no password of the proxy.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("proxy", &self.proxy().is_some())
            .field("own_trust", &self.trusted.is_some())
            .finish()
    }
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
        Network::new(proxy.map(Some), trusted).unwrap_err()
    }

    #[test]
    fn what_is_no_proxy_and_no_certificate_is_refused_without_repeating_it() {
        for proxy in ["", "a b hunter2", "socks5://hunter2:1", "file:///hunter2"] {
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
        let proxy = "http://user:hunter2@proxy.example.com:3128";
        let network = Network::new(Some(Some(proxy)), None);
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
