//! What a Cloud KMS wrapper is made of.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use google_cloud_auth::credentials::AccessTokenCredentials;
use kms_core::service::{Mode, Sealing, misconfigured};
use kms_core::{Aead, CallLimits, Result};
use zeroize::Zeroizing;

use crate::builder::environment::Environment;
use crate::credentials::Credentials;
use crate::endpoint::{self, Endpoint, PlainHttp};
use crate::key_name::KeyName;
use crate::login::Logins;
use crate::network::{Network, Trusted};
use crate::service::Service;
use crate::wrapper::CloudKmsWrapper;

mod environment;

/// Makes a [`CloudKmsWrapper`]. Nothing is asked, read or checked before [`build`](Self::build), and nothing
/// outside of the process before the wrapper's first call.
///
/// # Credentials
///
/// One of [`anonymous`](Self::anonymous), [`credentials_file`](Self::credentials_file) and
/// [`credentials`](Self::credentials). Without any of them, the
/// [application default credentials](https://cloud.google.com/docs/authentication/application-default-credentials):
/// the file that `GOOGLE_APPLICATION_CREDENTIALS` names, that of `gcloud auth application-default login`, the
/// metadata server.
///
/// Files of service accounts, users, federated and impersonated identities can be used. They are read in the first
/// call, within its deadline, by Google's library `google-cloud-auth`, which also keeps the token fresh: on a thread
/// of the wrapper's own, for all runtimes that use it. When the service no longer takes the token, or the login
/// hangs, they are read once more.
///
/// # Environment variables
///
/// Those of Go's wrapper, where [`from_env`](CloudKmsWrapper::from_env) reads them:
///
/// | variable | is |
/// |---|---|
/// | `GOOGLE_PROJECT`, `GOOGLE_REGION` | project and location of the key |
/// | `GCPCKMS_WRAPPER_KEY_RING`, else `VAULT_GCPCKMS_SEAL_KEY_RING` | its key ring |
/// | `GCPCKMS_WRAPPER_CRYPTO_KEY`, else `VAULT_GCPCKMS_SEAL_CRYPTO_KEY` | its id |
/// | `GOOGLE_CREDENTIALS` | [`credentials_file`](Self::credentials_file) |
///
/// Those of Google's tools are read on every path: `GOOGLE_APPLICATION_CREDENTIALS`,
/// [`GOOGLE_CLOUD_QUOTA_PROJECT`](Self::quota_project), [`HTTPS_PROXY`, `NO_PROXY`](Self::proxy),
/// [`SSL_CERT_FILE`](Self::ca_bundle).
///
/// A variable that is set but empty counts as not set. Explicit settings win.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use kms_core::Wrapper as _;
/// use kms_wrapper_gcp::CloudKmsWrapper;
///
/// let key = "projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/root";
/// let wrapper = CloudKmsWrapper::builder(key)
///     .aead(Arc::new(kms_wrapper_aead::AesGcm))
///     .build()?;
/// assert_eq!(wrapper.key_id(), None); // only the service knows the version
/// # Ok::<(), kms_core::Error>(())
/// ```
#[must_use]
pub struct CloudKmsWrapperBuilder {
    key_name: Option<String>,
    endpoint: Option<String>,
    plain_http: PlainHttp,
    credentials: Vec<Credentials>,
    quota_project: Option<String>,
    /// `Some(None)` for none, whatever the environment says.
    proxy: Option<Option<Zeroizing<String>>>,
    trusted: Option<Trusted>,
    environment: Environment,
    mode: Mode,
    limits: CallLimits,
    aead: Option<Arc<dyn Aead>>,
}

impl CloudKmsWrapperBuilder {
    pub(crate) fn new() -> Self {
        Self {
            key_name: None,
            endpoint: None,
            plain_http: PlainHttp::OnLoopback,
            credentials: Vec::new(),
            quota_project: None,
            proxy: None,
            trusted: None,
            environment: Environment::default(),
            mode: Mode::default(),
            limits: CallLimits::default(),
            aead: None,
        }
    }

    pub(crate) fn from_env() -> Self {
        Self {
            environment: Environment::read(|name| env::var(name).ok()),
            ..Self::new()
        }
    }

    /// The key: `projects/…/locations/…/keyRings/…/cryptoKeys/…`, without a version.
    pub fn key_name(mut self, name: impl Into<String>) -> Self {
        self.key_name = Some(name.into());
        self
    }

    /// Another URL of the service: a private endpoint, an emulator. Plain `http` for loopback addresses only.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// No credentials: for an emulator, whose [`endpoint`](Self::endpoint) has to be named.
    pub fn anonymous(self) -> Self {
        self.identity(Credentials::Anonymous)
    }

    /// A file with credentials: the key of a service account, say. It is read in the first call.
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        self.identity(Credentials::File(path.into()))
    }

    /// Credentials that the caller made with Google's library, for all that this builder has no setting for.
    ///
    /// They renew their token in a task of the runtime that they were made in: it has to live as long as the
    /// wrapper is used.
    pub fn credentials(self, credentials: AccessTokenCredentials) -> Self {
        self.identity(Credentials::Caller(credentials))
    }

    /// The id of the project that calls are counted against and paid by, whatever the credentials say: without it,
    /// that of the variable `GOOGLE_CLOUD_QUOTA_PROJECT` (but for credentials that the caller made), then that of the
    /// credentials file, then the key's own. The caller needs `serviceusage.services.use` in it.
    pub fn quota_project(mut self, project: impl Into<String>) -> Self {
        self.quota_project = Some(project.into());
        self
    }

    /// The proxy for calls to the service, `http://proxy.example.com:3128`, whatever the environment says: without
    /// it, the one that `HTTPS_PROXY` or `ALL_PROXY` names, unless `NO_PROXY` names the service's host. A loopback
    /// address is asked without the environment's proxy.
    ///
    /// Google's library asks for tokens by the environment alone. With credentials that ask for some (users, federated
    /// and impersonated identities), the first call is
    /// [`InvalidConfiguration`](kms_core::ErrorKind::InvalidConfiguration) unless the environment names the same proxy.
    /// A service account's key signs its tokens itself; what the caller's own [`credentials`](Self::credentials) do is
    /// not known.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(Some(Zeroizing::new(url.into())));
        self
    }

    /// Goes through no proxy, whatever the environment says. What [`proxy`](Self::proxy) says of tokens holds here too.
    pub fn no_proxy(mut self) -> Self {
        self.proxy = Some(None);
        self
    }

    /// Certificates of CAs in PEM that are trusted for calls to the service, instead of the system's, in which
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` count (not on Windows and macOS). Requests for tokens trust the system's
    /// alone: with credentials that ask for some, as [`proxy`](Self::proxy) says, the file of `SSL_CERT_FILE` has to
    /// hold the same.
    pub fn ca_bundle(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.trusted = Some(Trusted::Bundle(pem.into()));
        self
    }

    /// The same from a file, which is read in the first call.
    pub fn ca_bundle_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.trusted = Some(Trusted::File(path.into()));
        self
    }

    /// How it encrypts; by default in envelopes.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How long and how often the service is asked.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The provider of AES-256-GCM for envelopes. Required in [`Mode::Envelope`]; in direct mode, only
    /// blobs made in envelope mode need it.
    pub fn aead(mut self, aead: Arc<dyn Aead>) -> Self {
        self.aead = Some(aead);
        self
    }

    /// Settings that give up protection.
    pub fn dangerous(self) -> DangerousSettings {
        DangerousSettings(self)
    }

    /// Checks the settings, without any I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](kms_core::ErrorKind::InvalidConfiguration): no key, or a name that no key can have; an endpoint that isn't the URL
    /// of a host, or is plain `http` to another machine; more than one kind of credentials; no credentials
    /// without an endpoint; no `aead` for envelopes; limits of zero; a proxy or a CA bundle that is none; a proxy for
    /// plain `http`.
    pub fn build(self) -> Result<CloudKmsWrapper> {
        self.try_build()
            .map_err(|error| error.with_operation("build gcp wrapper"))
    }

    fn try_build(mut self) -> Result<CloudKmsWrapper> {
        self.limits.check()?;
        let key = match self.key_name {
            Some(name) => name,
            None => self.environment.key_name()?,
        };
        let key = KeyName::parse(&key)?;
        let endpoint = self.endpoint.as_deref().unwrap_or(endpoint::DEFAULT);
        let endpoint = Endpoint::parse(endpoint, self.plain_http)?;
        let credentials = match (self.credentials.pop(), self.credentials.is_empty()) {
            (Some(Credentials::File(path)), true) if path.as_os_str().is_empty() => {
                return Err(misconfigured("no path of the credentials file"));
            }
            (Some(credentials), true) => credentials,
            (Some(_), false) => {
                return Err(misconfigured("more than one kind of credentials; give one"));
            }
            (None, _) => match self.environment.credentials_file()? {
                Some(file) => Credentials::File(file),
                None => Credentials::Default,
            },
        };
        if matches!(credentials, Credentials::Anonymous) && self.endpoint.is_none() {
            return Err(misconfigured(
                "anonymous, and no endpoint: Google lets nobody in without credentials; name the emulator",
            ));
        }
        let sealing = Sealing::new(self.mode, self.aead)?;
        let proxy = self.proxy.as_ref();
        let proxy = proxy.map(|proxy| proxy.as_ref().map(|url| url.as_str()));
        let network = Network::new(proxy, self.trusted)?;
        if let Some(proxy) = network.proxy() {
            proxy.check_for(&endpoint, self.plain_http)?;
        }
        let patience = self.limits.attempt_timeout();
        let logins = Logins::new(credentials, self.quota_project, patience, network.clone())?;
        let service = Service::new(key, endpoint, network, logins, self.limits);
        Ok(CloudKmsWrapper::new(service, self.mode, sealing))
    }

    fn identity(mut self, credentials: Credentials) -> Self {
        self.credentials.push(credentials);
        self
    }
}

/// Shows no credentials.
impl fmt::Debug for CloudKmsWrapperBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudKmsWrapperBuilder")
            .field("key_name", &self.key_name)
            .field("credentials", &self.credentials)
            .field("mode", &self.mode)
            .field("limits", &self.limits)
            .field("aead", &self.aead)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`CloudKmsWrapperBuilder`] that give up protection.
#[derive(Debug)]
#[must_use]
pub struct DangerousSettings(CloudKmsWrapperBuilder);

impl DangerousSettings {
    /// Lets the endpoint be plain `http` on another machine: keys and tokens are there for the network to read.
    pub fn allow_plain_http(mut self) -> CloudKmsWrapperBuilder {
        self.0.plain_http = PlainHttp::Anywhere;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kms_core::ErrorKind;

    use super::*;

    const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

    fn of(variables: &'static [(&str, &str)]) -> CloudKmsWrapperBuilder {
        let lookup = move |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        CloudKmsWrapperBuilder {
            environment: Environment::read(lookup),
            ..CloudKmsWrapperBuilder::new()
        }
    }

    #[test]
    fn explicit_settings_win_over_the_environment() {
        let variables = &[
            ("GOOGLE_PROJECT", "p"),
            ("GOOGLE_REGION", "l"),
            ("GCPCKMS_WRAPPER_KEY_RING", "r"),
            ("GCPCKMS_WRAPPER_CRYPTO_KEY", "k"),
            ("GOOGLE_CREDENTIALS", "/run/key.json"),
        ];
        let shown = |builder: CloudKmsWrapperBuilder| {
            format!("{:?}", builder.mode(Mode::Direct).build().unwrap())
        };
        let environment = shown(of(variables));
        assert!(environment.contains(KEY), "{environment}");
        assert!(environment.contains("/run/key.json"), "{environment}");
        let other = "projects/p/locations/l/keyRings/r/cryptoKeys/other";
        let anonymous = of(variables).anonymous().endpoint("http://localhost:1");
        let explicit = shown(anonymous.key_name(other));
        assert!(explicit.contains(other), "{explicit}");
        assert!(explicit.contains("Anonymous"), "{explicit}");
    }

    #[test]
    fn what_can_not_work_is_refused_before_anything_is_asked() {
        let good = || CloudKmsWrapper::builder(KEY).mode(Mode::Direct);
        good().build().unwrap();
        let limits = CallLimits::default();
        for (builder, about) in [
            (of(&[]), "no key"),
            (CloudKmsWrapper::builder(""), "no key"),
            (of(&[("GOOGLE_PROJECT", "p")]), "GOOGLE_REGION"),
            (CloudKmsWrapper::builder(KEY), "no aead"),
            (good().key_name("alias/app"), "not the name of a key"),
            (good().endpoint("kms"), "not a URL"),
            (good().endpoint("http://kms.example.com"), "plain http"),
            (good().anonymous(), "anonymous"),
            (
                good().anonymous().credentials_file("x"),
                "more than one kind",
            ),
            (good().credentials_file(""), "no path"),
            (good().quota_project("a\nb"), "no project"),
            (good().proxy("socks5://p"), "not the URL of a proxy"),
            (good().ca_bundle("x"), "no certificate"),
            (
                good().endpoint("http://localhost:1").proxy("http://p:1"),
                "a proxy and plain http",
            ),
            (good().limits(limits.with_attempts(0)), "no attempts"),
            (good().limits(limits.with_deadline(Duration::ZERO)), "zero"),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
            assert_eq!(error.operation(), Some("build gcp wrapper"));
            assert!(error.to_string().contains(about), "{about}: {error}");
        }
        let dangerous = good().endpoint("http://kms.example.com").dangerous();
        dangerous.allow_plain_http().build().unwrap();
    }

    #[test]
    fn debug_shows_no_credentials() {
        let builder = of(&[("GOOGLE_CREDENTIALS", "{\"private_key\":\"hunter2\"}")])
            .key_name(KEY)
            .endpoint("https://hunter2@example.com")
            .proxy("http://user:hunter2@example.com");
        assert!(!format!("{builder:?}").contains("hunter2"));
    }
}
