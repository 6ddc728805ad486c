//! The HTTP client of all requests, those for credentials too: through which proxy, and trusting whom.

use std::path::PathBuf;
use std::{env, fmt, fs};

use aws_sdk_kms::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use kms_core::Result;
use kms_core::service::{ProxyUrl, misconfigured};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

/// What the builder was told; the environment says the rest when a client is made.
#[derive(Default)]
pub(crate) struct Network {
    /// May hold a password. `Some(None)` for none, whatever the environment says.
    pub(crate) proxy: Option<Option<Zeroizing<String>>>,
    pub(crate) ca: Option<Ca>,
}

/// The certificates to trust instead of the system's.
#[derive(Debug)]
pub(crate) enum Ca {
    Pem(Vec<u8>),
    File(PathBuf),
}

impl Network {
    /// Checks what can be checked without I/O.
    pub(crate) fn check(&self) -> Result<()> {
        self.chosen_proxy()?;
        if let Some(Ca::Pem(pem)) = &self.ca {
            check_certificates(pem).map_err(|error| error.with_context("setting", "ca"))?;
        }
        Ok(())
    }

    /// The proxy that was set.
    pub(crate) fn chosen_proxy(&self) -> Result<Option<ProxyUrl>> {
        let chosen = self.proxy.iter().flatten().next();
        chosen.map(|url| ProxyUrl::parse(url, "proxy")).transpose()
    }

    pub(crate) fn client(&self) -> Result<SharedHttpClient> {
        let proxy = self.proxy()?;
        let tls = TlsContext::builder()
            .with_trust_store(self.trusted()?)
            .build()
            .map_err(|error| misconfigured("no TLS with these certificates").with_source(error))?;
        Ok(
            Builder::new().build_with_connector_fn(move |settings, components| {
                let mut connector = Connector::builder()
                    .proxy_config(proxy.clone())
                    .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                    .tls_context(tls.clone());
                connector.set_connector_settings(settings.cloned());
                connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
                connector.build()
            }),
        )
    }

    /// For `https` alone: plain `http` goes to this machine, or to where a container or an instance gets its
    /// credentials.
    fn proxy(&self) -> Result<ProxyConfig> {
        let of_variable = || {
            ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
                .into_iter()
                .find_map(|name| Some((set(name)?, name)))
        };
        let url = match &self.proxy {
            Some(_) => self.chosen_proxy()?,
            None => of_variable()
                .map(|(url, name)| ProxyUrl::parse(&Zeroizing::new(url), name))
                .transpose()?,
        };
        let Some(url) = url else {
            return Ok(ProxyConfig::disabled());
        };
        // The cause would repeat it.
        let config = ProxyConfig::https(url.url().as_str()).map_err(|_| {
            misconfigured("there is no such proxy").with_context("setting", "proxy")
        })?;
        Ok(match set("NO_PROXY").or_else(|| set("no_proxy")) {
            Some(hosts) => config.no_proxy(hosts),
            None => config,
        })
    }

    fn trusted(&self) -> Result<TrustStore> {
        let (pem, setting) = match &self.ca {
            Some(Ca::Pem(pem)) => (Ok(pem.clone()), "ca"),
            Some(Ca::File(path)) => (fs::read(path), "ca"),
            None => {
                let variables = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"];
                let named = variables
                    .into_iter()
                    .find_map(|name| Some((set(name)?, name)));
                match named {
                    Some((path, name)) => (fs::read(path), name),
                    None => return Ok(TrustStore::default()),
                }
            }
        };
        let pem = pem.map_err(|error| {
            misconfigured("the file of certificates can't be read")
                .with_context("setting", setting)
                .with_source(error)
        })?;
        // What the SDK's client can't read, it panics over.
        check_certificates(&pem).map_err(|error| error.with_context("setting", setting))?;
        Ok(TrustStore::empty().with_pem_certificate(pem))
    }
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn check_certificates(pem: &[u8]) -> Result<()> {
    let wrong = || misconfigured("there is no certificate in PEM, or one that can't be read");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| wrong())?;
        store
            .add(certificate)
            .map_err(|error| wrong().with_source(error))?;
    }
    if store.is_empty() {
        return Err(wrong());
    }
    Ok(())
}

/// Shows no proxy: it may hold a password.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("has_proxy", &self.proxy.is_some())
            .field("has_ca", &self.ca.is_some())
            .finish()
    }
}
