//! The settings of a wrapper, checked before anything is sent.

use std::path::{Path, PathBuf};

use kms_core::service::{PlainHttp, misconfigured};
use kms_core::{CallLimits, Result};
use reqwest::header::HeaderValue;

use crate::auth::Auth;
use crate::builder::address::Address;
use crate::builder::environment::Environment;
use crate::builder::proxy::Ambient;
use crate::credential::Hidden;
use crate::key_path::KeyPath;
use crate::session::Session;
use crate::transport::Transport;
use crate::transport::clients::Clients;
use crate::transport::pem::Pem;
use crate::transport::tls::{Connector, Renamed, Tls};
use crate::wrapper::TransitWrapper;

mod address;
mod environment;
mod proxy;

/// Builds a [`TransitWrapper`].
///
/// Address, key name and [`Auth`] must be given. What is not set has the default that its method names: the
/// environment is read by [`from_env`](Self::from_env) alone, with one exception: the system's certificates are those of
/// `SSL_CERT_FILE` and `SSL_CERT_DIR`, where these are set and the system is not one with a key chain of its own.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is made before `build`"]
pub struct TransitWrapperBuilder {
    address: Option<String>,
    mount_path: Option<String>,
    key_name: Option<String>,
    namespace: Option<String>,
    login_namespace: Option<String>,
    key_id_prefix: Option<String>,
    auth: Option<Auth>,
    trusted: Option<Pem>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
    /// `Some(None)` for none, whatever the environment says.
    proxy: Option<Option<Hidden>>,
    ambient: Ambient,
    limits: CallLimits,
    renewal: Option<bool>,
    accept_invalid: bool,
    plain_http: PlainHttp,
    environment: Option<Environment>,
}

/// Settings that give up a protection. Reached by [`TransitWrapperBuilder::dangerous`].
#[derive(Debug)]
#[must_use = "nothing is set before one of its methods is called"]
pub struct DangerousSettings(TransitWrapperBuilder);

impl TransitWrapperBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes what is not set explicitly from the variables that Go's transit wrapper and Vault's own tools read.
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `VAULT_ADDR` | [`address`](Self::address) |
    /// | `VAULT_TOKEN` | [`auth`](Self::auth), as a token |
    /// | `VAULT_NAMESPACE` | [`namespace`](Self::namespace) |
    /// | `TRANSIT_WRAPPER_MOUNT_PATH`, else `VAULT_TRANSIT_SEAL_MOUNT_PATH` | [`mount_path`](Self::mount_path) |
    /// | `TRANSIT_WRAPPER_KEY_NAME`, else `VAULT_TRANSIT_SEAL_KEY_NAME` | [`key_name`](Self::key_name) |
    /// | `TRANSIT_WRAPPER_DISABLE_RENEWAL`, else `VAULT_TRANSIT_SEAL_DISABLE_RENEWAL` | [`disable_renewal`](Self::disable_renewal) |
    /// | `VAULT_CACERT_BYTES`, else `VAULT_CACERT` (a file), else `VAULT_CAPATH` (a folder) | [`ca_bundle`](Self::ca_bundle) |
    /// | `VAULT_CLIENT_CERT`, `VAULT_CLIENT_KEY` (files) | [`client_certificate`](Self::client_certificate) |
    /// | `VAULT_TLS_SERVER_NAME` | [`server_name`](Self::server_name) |
    /// | `VAULT_PROXY_ADDR`, else `VAULT_HTTP_PROXY` | [`proxy`](Self::proxy) |
    /// | `HTTPS_PROXY`, else `ALL_PROXY` (`http_proxy` for a plain `http` address), also in lower case | [`proxy`](Self::proxy), except for this machine and for what `NO_PROXY` lists |
    /// | `VAULT_SKIP_VERIFY` | none: [`build`](Self::build) refuses it, unless [`dangerous`](Self::dangerous) was asked for the same |
    ///
    /// An empty variable counts as not set. Go lets the environment win over explicit settings; here it is the
    /// other way round. A variable that would send the token elsewhere (`VAULT_AGENT_ADDR`) is refused rather than
    /// ignored.
    pub fn from_env() -> Self {
        Self {
            environment: Some(Environment::read(std::env::var_os)),
            ..Self::default()
        }
    }

    /// Where the service is: `https://vault.example.com:8200`, with a path if a proxy serves it under one.
    /// `http` only for loopback addresses. `unix:///run/vault.sock` is a Unix socket, of an agent say.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Where the transit engine is mounted; `transit` if not set.
    pub fn mount_path(mut self, path: impl Into<String>) -> Self {
        self.mount_path = Some(path.into());
        self
    }

    /// The key's name in the engine.
    pub fn key_name(mut self, name: impl Into<String>) -> Self {
        self.key_name = Some(name.into());
        self
    }

    /// The namespace (Vault Enterprise, OpenBao) of the engine, and of the login where
    /// [`login_namespace`](Self::login_namespace) names no other.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The namespace of the login, where it is not the engine's; empty for the root one. Tokens are looked up and
    /// renewed there too.
    pub fn login_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.login_namespace = Some(namespace.into());
        self
    }

    /// What stands before the version in the ids of blobs, so that they can be told from those of other keys.
    /// Choose one before the first blob, and keep it: blobs under another prefix, or without one, are not this
    /// wrapper's. Go's option of the same name does the same.
    pub fn key_id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_id_prefix = Some(prefix.into());
        self
    }

    /// How the wrapper comes by its token.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// The certificates (PEM) to trust instead of the system's.
    pub fn ca_bundle(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.trusted = Some(Pem::bytes(pem));
        self
    }

    /// As [`ca_bundle`](Self::ca_bundle), from a file that [`build`](Self::build) reads, and later calls again when it
    /// has changed or a handshake fails.
    pub fn ca_bundle_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.trusted = Some(Pem::File(path.into()));
        self
    }

    /// The client's own certificate, with those that lead from it to its CA, and its key (PEM).
    pub fn client_certificate(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((Pem::bytes(certificate), Pem::bytes(key)));
        self
    }

    /// As [`client_certificate`](Self::client_certificate), from files that [`build`](Self::build) reads, and later
    /// calls again when one has changed or a handshake fails: a renewed certificate needs no restart.
    pub fn client_certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(key.into())));
        self
    }

    /// The name that the server's certificate is for and that TLS asks for (SNI), where it is not the host of the
    /// address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The HTTP proxy that all requests go through: `http://proxy.example.com:3128`, or `https`, with user and password
    /// if it wants them. It opens tunnels (`CONNECT`), so that it sees neither token nor keys.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(Some(Hidden::new(url)));
        self
    }

    /// Goes through no proxy, whatever the environment says.
    pub fn no_proxy(mut self) -> Self {
        self.proxy = Some(None);
        self
    }

    /// How long and how often the service is asked; getting a token counts too.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Renews no token in the background. A login is then repeated when its token is over.
    pub fn disable_renewal(mut self) -> Self {
        self.renewal = Some(false);
        self
    }

    /// Settings that give up a protection.
    pub fn dangerous(self) -> DangerousSettings {
        DangerousSettings(self)
    }

    /// Checks the settings and makes the wrapper. Files of certificates are read here; nothing is sent.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](kms_core::ErrorKind::InvalidConfiguration), naming the setting.
    pub fn build(self) -> Result<TransitWrapper> {
        self.try_build()
            .map_err(|error| error.with_operation("build transit wrapper"))
    }

    fn try_build(mut self) -> Result<TransitWrapper> {
        if let Some(environment) = self.environment.take() {
            self = environment.fill_in(self)?;
        }
        self.limits.check()?;
        let address = Address::parse(&needed(self.address, "address")?, self.plain_http)?;
        let key = KeyPath::new(
            self.mount_path.as_deref().unwrap_or("transit"),
            &needed(self.key_name, "key_name")?,
        )?;
        let auth = self
            .auth
            .ok_or_else(|| misconfigured("it is not set").with_context("setting", "auth"))?;
        auth.check()?;
        if auth.needs_certificate() && self.identity.is_none() {
            return Err(misconfigured(
                "a login by certificate needs one: set client_certificate too",
            )
            .with_context("setting", "auth"));
        }
        let prefix = checked(self.key_id_prefix, "key_id_prefix")?;
        let namespace = named_namespace(self.namespace, "namespace")?;
        // As it is sent, so that two spellings of one namespace are one.
        let sent = namespace.as_ref().and_then(|sent| sent.to_str().ok());
        let engine = sent.map(str::to_owned);
        let login_namespace = match self.login_namespace {
            None => namespace.clone(),
            named => named_namespace(named, "login_namespace")?,
        };

        let uses_tls = self.trusted.is_some()
            || self.identity.is_some()
            || self.server_name.is_some()
            || self.accept_invalid;
        if !address.is_https() && uses_tls {
            return Err(misconfigured(
                "settings of TLS mean nothing for an http address; use https",
            ));
        }
        let name = checked(self.server_name, "server_name")?;
        let (base, host, renamed) = address.under(name.as_deref())?;
        let proxy = proxy::find(self.proxy, &self.ambient, &address, self.plain_http)?;
        if proxy.is_some() && renamed.is_some() {
            return Err(misconfigured(
                "a proxy looks up the host of the address by itself, so server_name can't be another; give the certificate's name in the address, or no proxy",
            )
            .with_context("setting", "server_name"));
        }
        let tls = Tls {
            trusted: self.trusted,
            identity: self.identity,
            renamed: renamed.map(|host| Renamed { host }),
            accept_invalid: self.accept_invalid,
        };
        let clients = Clients::new(Connector {
            connect_timeout: self.limits.connect_timeout(),
            tls: address.is_https().then_some(tls),
            proxy,
            socket: address.socket().map(Path::to_owned),
        })?;
        let transport = Transport::new(&base, host, namespace, login_namespace, clients);
        let renews = self.renewal.unwrap_or(true) && !auth.is_kept_by_others();
        let session = Session::new(transport, auth, self.limits, renews);
        Ok(TransitWrapper::new(
            key,
            prefix,
            session,
            address.to_string(),
            engine,
        ))
    }
}

impl DangerousSettings {
    /// Takes any certificate for the server's own: whoever is in between reads token, plaintext and keys.
    pub fn accept_invalid_certificates(self) -> TransitWrapperBuilder {
        TransitWrapperBuilder {
            accept_invalid: true,
            ..self.0
        }
    }

    /// Takes an `http` address that is not a loopback one: whoever is in between reads token, plaintext and keys.
    pub fn allow_plain_http(self) -> TransitWrapperBuilder {
        TransitWrapperBuilder {
            plain_http: PlainHttp::Anywhere,
            ..self.0
        }
    }
}

fn needed(value: Option<String>, setting: &'static str) -> Result<String> {
    checked(value, setting)?
        .ok_or_else(|| misconfigured("it is not set").with_context("setting", setting))
}

/// The header that names a namespace; none for the root one.
fn named_namespace(value: Option<String>, setting: &'static str) -> Result<Option<HeaderValue>> {
    let refused = |_| misconfigured("not a namespace").with_context("setting", setting);
    let text = checked(value, setting)?;
    let header = text.map(|text| HeaderValue::from_str(text.trim_matches('/')));
    header.transpose().map_err(refused)
}

/// Refuses text that is not one printable line; an empty one counts as not set.
fn checked(value: Option<String>, setting: &'static str) -> Result<Option<String>> {
    let Some(text) = value.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(
            misconfigured("it has white space around it or control characters in it")
                .with_context("setting", setting),
        );
    }
    Ok(Some(text))
}
