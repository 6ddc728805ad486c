//! What an AWS KMS wrapper is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fmt, mem};

use aws_sdk_kms::Client;
use aws_sdk_kms::config::Region;
use kms_core::service::{Endpoint, Mode, PlainHttp, Sealing, misconfigured};
use kms_core::{Aead, CallLimits, Result};
use zeroize::Zeroizing;

use crate::builder::environment::Environment;
use crate::builder::keys::Keys;
use crate::key_name::KeyName;
use crate::service::connection::{Connection, Identity, Settings};
use crate::service::network::{Ca, Network};
use crate::service::{Limits, Service};
use crate::wrapper::AwsKmsWrapper;

mod dangerous;
mod environment;
mod keys;

pub use dangerous::DangerousSettings;

/// Makes an [`AwsKmsWrapper`]. Nothing is asked, read or checked before [`build`](Self::build), and nothing
/// outside of the process before the wrapper's first call.
///
/// # Credentials
///
/// From the first of these that is there:
///
/// 1. a [`client`](Self::client) that the caller made, which says all about how the service is reached,
/// 2. [`credentials`](Self::credentials),
/// 3. with the feature `default-chain`: a `profile`,
/// 4. the variables, where [`from_env`](AwsKmsWrapper::from_env) read them,
/// 5. with the feature `default-chain`: what the SDK's own chain finds (environment, profiles, web identity,
///    container and instance metadata). SSO and external processes need the features `sso` and
///    `credentials-process` of `aws-config`, which an application can turn on.
///
/// The chain is asked in the first call, within its deadline.
///
/// # Region
///
/// That of the key's ARN; else [`region`](Self::region), the variables, or what the chain finds. There is none
/// by default. (Go's wrapper takes `us-east-1` then.)
///
/// # Everything else
///
/// With the feature `default-chain`, all that the SDK takes from the environment and from profiles counts, whatever
/// the credentials: `AWS_ENDPOINT_URL_KMS`, `AWS_ENDPOINT_URL`, `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT`,
/// `AWS_PROFILE`, `AWS_SDK_UA_APP_ID`, and so on. Explicit settings win. `AWS_MAX_ATTEMPTS`, or else `max_attempts` of
/// the profile, counts where no [`limits`](Self::limits) are given; pauses and timeouts are always those of the limits,
/// and so `AWS_RETRY_MODE` means nothing. Requests, those for
/// credentials too, go through the proxy of `HTTPS_PROXY`, but for the hosts of `NO_PROXY`, and trust the
/// certificates in the file of `AWS_CA_BUNDLE`, or of `SSL_CERT_FILE`.
///
/// # Environment variables
///
/// Those that [`from_env`](AwsKmsWrapper::from_env) reads beside:
///
/// | variable | is |
/// |---|---|
/// | `AWSKMS_WRAPPER_KEY_ID`, else `VAULT_AWSKMS_SEAL_KEY_ID` | the key |
/// | `AWS_REGION`, else `AWS_DEFAULT_REGION` | the Region |
/// | `AWS_KMS_ENDPOINT` | the endpoint; `https://` if it has no scheme |
/// | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | the credentials |
///
/// A variable that is set but empty counts as not set. Explicit settings win. (In Go's wrapper the key's
/// variable wins over the configuration.)
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use kms_core::Wrapper as _;
/// use kms_wrapper_aws::AwsKmsWrapper;
///
/// let wrapper = AwsKmsWrapper::builder("alias/app")
///     .region("eu-central-1")
///     .credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
///     .aead(Arc::new(kms_wrapper_aead::AesGcm))
///     .build()?;
/// assert_eq!(wrapper.key_id(), None); // only the service knows what the alias stands for
/// # Ok::<(), kms_core::Error>(())
/// ```
#[must_use]
pub struct AwsKmsWrapperBuilder {
    key_id: Option<String>,
    environment: Environment,
    region: Option<String>,
    endpoint: Option<String>,
    plain_http: PlainHttp,
    keys: Option<Keys>,
    session_token: Option<Zeroizing<String>>,
    profile: Option<String>,
    client: Option<Client>,
    mode: Mode,
    limits: Option<CallLimits>,
    network: Network,
    aead: Option<Arc<dyn Aead>>,
}

impl AwsKmsWrapperBuilder {
    pub(crate) fn new(key_id: Option<String>) -> Self {
        Self {
            key_id,
            environment: Environment::default(),
            region: None,
            endpoint: None,
            plain_http: PlainHttp::OnLoopback,
            keys: None,
            session_token: None,
            profile: None,
            client: None,
            mode: Mode::default(),
            limits: None,
            network: Network::default(),
            aead: None,
        }
    }

    pub(crate) fn from_env() -> Self {
        Self {
            environment: Environment::read(|name| env::var(name).ok()),
            ..Self::new(None)
        }
    }

    /// The key: its ARN, its id, `alias/NAME`, or the alias' ARN.
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// The Region of the key, `eu-central-1` say. A key that is named by its ARN says it already.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Another URL of the service than the Region's own: a VPC endpoint, an emulator. Plain `http` for loopback
    /// addresses only.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// An access key and its secret. The copies in this crate and in the SDK are wiped; the caller's is the
    /// caller's part.
    pub fn credentials(
        mut self,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
    ) -> Self {
        self.keys = Some(Keys::new(
            access_key_id.into(),
            Zeroizing::new(secret_access_key.into()),
        ));
        self
    }

    /// The session token that belongs to temporary [`credentials`](Self::credentials). They are not renewed:
    /// prefer the default chain, or a [`client`](Self::client) whose credentials are.
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(Zeroizing::new(token.into()));
        self
    }

    /// The profile of the AWS tools' files that has the credentials, whatever keys the environment has; it is an error if
    /// the profile has none. All else that it says counts as with `AWS_PROFILE`: the Region, the endpoint and the
    /// attempts, each where no variable says it.
    #[cfg(feature = "default-chain")]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// A client of the SDK, for all that this builder has no setting for: FIPS endpoints, proxies, credential
    /// providers.
    ///
    /// It says alone how the service is reached: Region, endpoint and credentials can't be given too. It keeps
    /// its own retries and timeouts, inside each attempt of the [`limits`](Self::limits): turn its retries off
    /// (`RetryConfig::disabled()`), or allow one attempt here.
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The proxy for requests to the service and for credentials, `http://proxy.example.com:3128` say, where it is
    /// not that of `HTTPS_PROXY`. The hosts of `NO_PROXY` are reached without it.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.network.proxy = Some(Some(Zeroizing::new(url.into())));
        self
    }

    /// Goes through no proxy, whatever the environment says.
    pub fn no_proxy(mut self) -> Self {
        self.network.proxy = Some(None);
        self
    }

    /// The certificates (PEM) to trust instead of the system's, and of those that `AWS_CA_BUNDLE` and
    /// `SSL_CERT_FILE` name.
    pub fn ca_bundle(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.network.ca = Some(Ca::Pem(pem.into()));
        self
    }

    /// As [`ca_bundle`](Self::ca_bundle), from a file that the first call reads.
    pub fn ca_bundle_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.network.ca = Some(Ca::File(path.into()));
        self
    }

    /// How it encrypts; by default in envelopes.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How long and how often the service is asked.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = Some(limits);
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
    /// [`InvalidConfiguration`](kms_core::ErrorKind::InvalidConfiguration): no key, or a name that no key can have; no Region, a malformed one,
    /// or another one than the key's ARN says; an endpoint that isn't the URL of a host, or is plain `http` to
    /// another machine; an empty or half a pair of credentials, none at all without the feature `default-chain`; a
    /// proxy that isn't a URL; PEM without a certificate; settings that contradict each other; no `aead` for
    /// envelopes; limits of zero.
    pub fn build(self) -> Result<AwsKmsWrapper> {
        self.try_build()
            .map_err(|error| error.with_operation("build aws wrapper"))
    }

    fn try_build(mut self) -> Result<AwsKmsWrapper> {
        let limits = self.checked_limits()?;
        self.network.check()?;
        let key_id = self.key_id.take().or(self.environment.key_id.take());
        let name = KeyName::parse(
            &key_id
                .ok_or_else(|| misconfigured("no key; name it, or set AWSKMS_WRAPPER_KEY_ID"))?,
        )?;
        let sealing = Sealing::new(self.mode, self.aead.take())?;
        let plain_http = self.plain_http;
        let connection = match self.client.take() {
            Some(client) => {
                self.check_nothing_beside_client()?;
                Connection::Given(client)
            }
            None => Connection::Own(Box::new(self.settings(&name)?)),
        };
        Ok(AwsKmsWrapper::new(
            Service::new(name, connection, plain_http, limits),
            sealing,
        ))
    }

    fn checked_limits(&self) -> Result<Limits> {
        let limits = match self.limits {
            Some(limits) => limits,
            None => match environment::attempts(|name| env::var(name).ok())? {
                Some(attempts) => CallLimits::default().with_attempts(attempts),
                None => return Ok(Limits::ByProfile),
            },
        };
        limits.check()?;
        Ok(Limits::Set(limits))
    }

    fn check_nothing_beside_client(&self) -> Result<()> {
        let beside = self.region.is_some()
            || self.endpoint.is_some()
            || self.keys.is_some()
            || self.session_token.is_some()
            || self.profile.is_some()
            || self.network.proxy.is_some()
            || self.network.ca.is_some();
        if beside {
            return Err(misconfigured(
                "a client beside settings of how to reach the service; give one or the other",
            ));
        }
        Ok(())
    }

    fn settings(mut self, name: &KeyName) -> Result<Settings> {
        let endpoint = match self.endpoint.take() {
            Some(url) => Some(url),
            None => self.environment.endpoint.take(),
        };
        let endpoint = endpoint
            .map(|url| Endpoint::parse(&url, self.plain_http))
            .transpose()?;
        if let (Some(endpoint), Some(proxy)) = (&endpoint, self.network.chosen_proxy()?) {
            proxy.check_for(endpoint, self.plain_http)?;
        }
        let region = self.region_of(name)?;
        let network = mem::take(&mut self.network);
        let identity = self.identity()?;
        // The default chain may find one.
        #[cfg(not(feature = "default-chain"))]
        if region.is_none() {
            return Err(misconfigured(
                "no Region; set it, AWS_REGION, or name the key by its ARN",
            ));
        }
        Ok(Settings {
            region,
            endpoint,
            identity,
            network,
        })
    }

    fn region_of(&mut self, name: &KeyName) -> Result<Option<Region>> {
        let region = match (name.region(), self.region.take()) {
            (Some(of_key), Some(given)) if of_key != given => {
                return Err(misconfigured(
                    "the Region is not that of the key's ARN; of a multi-Region key, name the copy of this Region",
                )
                .with_context("region", given)
                .with_context("root_key_id", name.as_str()));
            }
            // The variable is about the process, and the ARN about the key.
            (Some(of_key), _) => Some(of_key.to_owned()),
            (None, Some(given)) => Some(given),
            (None, None) => self.environment.region.take(),
        };
        region
            .map(|region| {
                if is_region(&region) {
                    Ok(Region::new(region))
                } else {
                    Err(misconfigured("not the name of a Region").with_context("region", region))
                }
            })
            .transpose()
    }

    fn identity(self) -> Result<Identity> {
        if self.keys.is_some() && self.profile.is_some() {
            return Err(misconfigured("credentials and a profile; give one of them"));
        }
        if let Some(keys) = self.keys {
            return keys.with_token(self.session_token).map(Identity::Static);
        }
        if self.session_token.is_some() {
            return Err(misconfigured("a session token without credentials"));
        }
        #[cfg(feature = "default-chain")]
        if let Some(profile) = self.profile {
            return Ok(Identity::Profile(profile));
        }
        if let Some((keys, token)) = self.environment.credentials()? {
            return keys.with_token(token).map(Identity::Static);
        }
        #[cfg(feature = "default-chain")]
        return Ok(Identity::Chain);
        #[cfg(not(feature = "default-chain"))]
        Err(misconfigured(
            "no credentials; give them or a client, or turn on the feature `default-chain` of kms-wrapper-aws",
        ))
    }
}

fn is_region(region: &str) -> bool {
    !region.is_empty()
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Shows no credentials.
impl fmt::Debug for AwsKmsWrapperBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsKmsWrapperBuilder")
            .field("key_id", &self.key_id)
            .field("region", &self.region)
            .field("has_endpoint", &self.endpoint.is_some())
            .field("has_credentials", &self.keys.is_some())
            .field("profile", &self.profile)
            .field("has_client", &self.client.is_some())
            .field("mode", &self.mode)
            .field("limits", &self.limits)
            .field("network", &self.network)
            .field("aead", &self.aead)
            .finish_non_exhaustive()
    }
}
