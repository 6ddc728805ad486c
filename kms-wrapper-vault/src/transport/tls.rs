//! How connections are opened: whom to trust, who we are, which name to ask for.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_core::{Error, ErrorKind, Result};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity};
use zeroize::Zeroizing;

/// Certificates or a key in PEM.
#[derive(Clone)]
pub(crate) enum Pem {
    Bytes(Zeroizing<Vec<u8>>),
    File(PathBuf),
    /// All files of a folder.
    Folder(PathBuf),
}

impl Pem {
    pub(crate) fn read(&self) -> Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => read_file(path),
            Self::Folder(path) => {
                let mut all = Zeroizing::new(Vec::new());
                let unreadable = |cause| {
                    refused("can't read the folder")
                        .with_context("folder", path.display())
                        .with_source(cause)
                };
                for entry in std::fs::read_dir(path).map_err(unreadable)? {
                    let path = entry.map_err(unreadable)?.path();
                    if path.is_file() {
                        all.extend_from_slice(&read_file(&path)?);
                        all.push(b'\n');
                    }
                }
                Ok(all)
            }
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(_) => f.write_str("Bytes(hidden)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
        }
    }
}

/// Makes HTTP clients, all alike.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) connect_timeout: Duration,
    pub(crate) tls: Option<Tls>,
}

/// TLS settings, for `https` only.
#[derive(Clone)]
pub(crate) struct Tls {
    /// Trusted instead of the system's; `None` for the system's.
    pub(crate) trusted: Option<Vec<Certificate>>,
    pub(crate) identity: Option<Identity>,
    pub(crate) renamed: Option<Renamed>,
    pub(crate) accept_invalid: bool,
}

impl Connector {
    /// # Errors
    ///
    /// `InvalidConfiguration` for certificates that are none, or no trusted ones on this system.
    pub(crate) fn client(&self) -> Result<reqwest::Client> {
        // What the environment says about proxies is not a setting of this wrapper.
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
                if let Some(trusted) = &tls.trusted {
                    builder = builder.tls_certs_only(trusted.iter().cloned());
                }
                if let Some(identity) = &tls.identity {
                    builder = builder.identity(identity.clone());
                }
                match &tls.renamed {
                    Some(renamed) => builder.dns_resolver(renamed.clone()),
                    None => builder,
                }
            }
        };
        builder.build().map_err(|cause| {
            refused("no TLS client can be made of the certificates").with_source(cause)
        })
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
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<Certificate>> {
    let read = Certificate::from_pem_bundle(pem)
        .map_err(|cause| refused("the CA bundle is not PEM").with_source(cause))?;
    if read.is_empty() {
        return Err(refused("the CA bundle holds no certificate"));
    }
    Ok(read)
}

/// Reads a client's certificate chain and key.
pub(crate) fn identity(certificate: &[u8], key: &[u8]) -> Result<Identity> {
    let both = Zeroizing::new([certificate, b"\n", key].concat());
    // The cause may quote the key.
    Identity::from_pem(&both)
        .map_err(|_| refused("the client certificate and key are not PEM, or one is missing"))
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    std::fs::read(path).map(Zeroizing::new).map_err(|cause| {
        refused("can't read the file")
            .with_context("file", path.display())
            .with_source(cause)
    })
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}
