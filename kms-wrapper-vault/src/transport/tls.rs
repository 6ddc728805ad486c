//! How connections are opened: whom to trust, who we are, which name to ask for.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_core::{Error, ErrorKind, Result};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, Proxy};
use zeroize::Zeroizing;

use crate::transport::pem::{Pem, Stamp};

/// Makes HTTP clients, all alike.
pub(crate) struct Connector {
    pub(crate) connect_timeout: Duration,
    pub(crate) tls: Option<Tls>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) socket: Option<PathBuf>,
}

/// TLS settings, for `https` only.
#[derive(Clone)]
pub(crate) struct Tls {
    /// Trusted instead of the system's; `None` for the system's.
    pub(crate) trusted: Option<Pem>,
    /// Certificate and key of the client.
    pub(crate) identity: Option<(Pem, Pem)>,
    pub(crate) renamed: Option<Renamed>,
    pub(crate) accept_invalid: bool,
}

/// What the settings of TLS hold now, parsed.
#[derive(Clone, Default)]
pub(crate) struct Material {
    trusted: Option<Vec<Certificate>>,
    identity: Option<Identity>,
}

impl Connector {
    /// What tells that one of the files has changed. Where there are files, it may block.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::of(self.tls.iter().flat_map(Tls::pems))
    }

    /// Whether what TLS needs can change: in files, or in the system's certificates.
    pub(crate) fn is_renewable(&self) -> bool {
        self.has_files() || self.tls.as_ref().is_some_and(|tls| tls.trusted.is_none())
    }

    pub(crate) fn has_files(&self) -> bool {
        let mut pems = self.tls.iter().flat_map(Tls::pems);
        pems.any(|pem| !matches!(pem, Pem::Bytes(_)))
    }

    /// The file of the client's certificate.
    pub(crate) fn client_certificate(&self) -> Option<&Path> {
        self.tls.as_ref()?.identity.as_ref()?.0.file()
    }

    /// Reads certificates and key.
    ///
    /// # Errors
    ///
    /// `InvalidConfiguration` for files that can't be read, and for what is not a certificate or a key.
    pub(crate) fn read(&self) -> Result<Material> {
        let Some(tls) = &self.tls else {
            return Ok(Material::default());
        };
        Ok(Material {
            trusted: tls
                .trusted
                .as_ref()
                .map(|pem| certificates(&pem.read()?))
                .transpose()?,
            identity: tls
                .identity
                .as_ref()
                .map(|(certificate, key)| identity(&certificate.read()?, &key.read()?))
                .transpose()?,
        })
    }

    /// # Errors
    ///
    /// `InvalidConfiguration` for certificates that are none, or no trusted ones on this system.
    pub(crate) fn client(&self, material: &Material) -> Result<reqwest::Client> {
        // The environment is read by `from_env` alone, so never by the client.
        let mut builder = reqwest::Client::builder()
            .connect_timeout(self.connect_timeout)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .tls_backend_rustls();
        builder = match &self.tls {
            None => builder.tls_certs_only([]),
            Some(tls) => {
                let mut builder = builder
                    .https_only(true)
                    .tls_danger_accept_invalid_certs(tls.accept_invalid);
                if let Some(trusted) = &material.trusted {
                    builder = builder.tls_certs_only(trusted.iter().cloned());
                }
                if let Some(identity) = &material.identity {
                    builder = builder.identity(identity.clone());
                }
                match &tls.renamed {
                    Some(renamed) => builder.dns_resolver(renamed.clone()),
                    None => builder,
                }
            }
        };
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        #[cfg(unix)]
        if let Some(socket) = &self.socket {
            builder = builder.unix_socket(socket.as_path());
        }
        builder.build().map_err(|cause| {
            refused("no TLS client can be made of the certificates").with_source(cause)
        })
    }
}

impl Tls {
    fn pems(&self) -> impl Iterator<Item = &Pem> {
        let identity = self.identity.iter();
        let identity = identity.flat_map(|(certificate, key)| [certificate, key]);
        self.trusted.iter().chain(identity)
    }
}

/// A proxy's URL may have a password in it.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("tls", &self.tls)
            .field("proxy", &self.proxy.is_some())
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("own_trust", &self.trusted.is_some())
            .field("client_certificate", &self.identity.is_some())
            .field("renamed", &self.renamed)
            .field("accept_invalid", &self.accept_invalid)
            .finish()
    }
}

/// Finds the host of the address under another name: the one that the server's certificate has, which is then
/// the name in the URL.
#[derive(Clone, Debug)]
pub(crate) struct Renamed {
    pub(crate) host: String,
}

impl Resolve for Renamed {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            if let Ok(address) = host.parse::<IpAddr>() {
                return Ok(addresses(vec![SocketAddr::new(address, 0)]));
            }
            let found = tokio::task::spawn_blocking(move || {
                (host.as_str(), 0)
                    .to_socket_addrs()
                    .map(Iterator::collect::<Vec<_>>)
            });
            Ok(addresses(found.await??))
        })
    }
}

fn addresses(found: Vec<SocketAddr>) -> Addrs {
    Box::new(found.into_iter())
}

/// Reads the certificates of a bundle, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate>> {
    let read = Certificate::from_pem_bundle(pem)
        .map_err(|cause| refused("the CA bundle is not PEM").with_source(cause))?;
    if read.is_empty() {
        return Err(refused("the CA bundle holds no certificate"));
    }
    Ok(read)
}

/// Reads a client's certificate chain and key.
fn identity(certificate: &[u8], key: &[u8]) -> Result<Identity> {
    let both = Zeroizing::new([certificate, b"\n", key].concat());
    // The cause may quote the key.
    Identity::from_pem(&both)
        .map_err(|_| refused("the client certificate and key are not PEM, or one is missing"))
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}
