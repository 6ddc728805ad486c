//! The settings of a wrapper, checked before anything is sent.

use std::path::PathBuf;

use kms_core::{CallLimits, Error, ErrorKind, Result};
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use crate::auth::Auth;
use crate::builder::address::Address;
use crate::builder::environment::Environment;
use crate::key_path::KeyPath;
use crate::session::Session;
use crate::transport::Transport;
use crate::transport::clients::Clients;
use crate::transport::tls::{self, Connector, Pem, Renamed, Tls};
use crate::wrapper::TransitWrapper;

mod address;
mod environment;

/// Builds a [`TransitWrapper`].
///
/// Address, key name and [`Auth`] must be given. What is not set has the default that its method names: the
/// environment is read by [`from_env`](Self::from_env) alone. (The proxy variables are not read by either.)
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is made before `build`"]
pub struct TransitWrapperBuilder {
    address: Option<String>,
    mount_path: Option<String>,
    key_name: Option<String>,
    namespace: Option<String>,
    key_id_prefix: Option<String>,
    auth: Option<Auth>,
    trusted: Option<Pem>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
    limits: CallLimits,
    renewal: Option<bool>,
    accept_invalid: bool,
    plain_http: bool,
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
    /// | `VAULT_SKIP_VERIFY` | none: [`build`](Self::build) refuses it, unless [`dangerous`](Self::dangerous) was asked for the same |
    ///
    /// An empty variable counts as not set. Go lets the environment win over explicit settings; here it is the
    /// other way round. A variable that would send the token elsewhere (`VAULT_AGENT_ADDR`, `VAULT_PROXY_ADDR`,
    /// `VAULT_HTTP_PROXY`) is refused rather than ignored.
    pub fn from_env() -> Self {
        Self {
            environment: Some(Environment::read(std::env::var_os)),
            ..Self::default()
        }
    }

    /// Where the service is: `https://vault.example.com:8200`, with a path if a proxy serves it under one.
    /// `http` only for loopback addresses.
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

    /// The namespace (Vault Enterprise, OpenBao) of both the engine and the login.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
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
        self.trusted = Some(Pem::Bytes(Zeroizing::new(pem.into())));
        self
    }

    /// As [`ca_bundle`](Self::ca_bundle), from a file that [`build`](Self::build) reads.
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
        let pem = |bytes| Pem::Bytes(Zeroizing::new(bytes));
        self.identity = Some((pem(certificate.into()), pem(key.into())));
        self
    }

    /// As [`client_certificate`](Self::client_certificate), from files that [`build`](Self::build) reads, once.
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
    /// [`ErrorKind::InvalidConfiguration`], naming the setting.
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
        let prefix = checked(self.key_id_prefix, "key_id_prefix")?;
        let namespace = checked(self.namespace, "namespace")?;
        let engine = namespace.clone();
        let namespace = namespace
            .map(|namespace| HeaderValue::from_str(namespace.trim_matches('/')))
            .transpose()
            .map_err(|_| misconfigured("not a namespace"))?;

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
        let tls = Tls {
            trusted: self
                .trusted
                .map(|pem| tls::certificates(&pem.read()?))
                .transpose()?,
            identity: self
                .identity
                .map(|(certificate, key)| tls::identity(&certificate.read()?, &key.read()?))
                .transpose()?,
            renamed: renamed.map(|host| Renamed { host }),
            accept_invalid: self.accept_invalid,
        };
        let clients = Clients::new(Connector {
            connect_timeout: self.limits.connect_timeout(),
            tls: address.is_https().then_some(tls),
        })?;
        let transport = Transport::new(&base, host, namespace, clients);
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
            plain_http: true,
            ..self.0
        }
    }
}

fn needed(value: Option<String>, setting: &'static str) -> Result<String> {
    checked(value, setting)?
        .ok_or_else(|| misconfigured("it is not set").with_context("setting", setting))
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

fn misconfigured(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}
