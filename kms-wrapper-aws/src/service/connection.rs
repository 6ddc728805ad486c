//! How the service is reached, and as whom.

use std::fmt;
#[cfg(feature = "default-chain")]
use std::num::NonZeroU32;

#[cfg(feature = "default-chain")]
use aws_config::profile::ProfileFileCredentialsProvider;
#[cfg(feature = "default-chain")]
use aws_config::{SdkConfig, provider_config::ProviderConfig};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{
    BehaviorVersion, Builder, Credentials, Region, StalledStreamProtectionConfig,
};
#[cfg(feature = "default-chain")]
use aws_types::service_config::ServiceConfigKey;
use kms_core::service::Endpoint;
#[cfg(feature = "default-chain")]
use kms_core::service::misconfigured;
use kms_core::{CallLimits, Result};

use crate::service::network::Network;

/// A client that the caller made, or what to make one of.
pub(crate) enum Connection {
    Given(Client),
    Own(Box<Settings>),
}

/// What a client is made of.
#[derive(Debug)]
pub(crate) struct Settings {
    /// There unless the default chain finds one.
    pub(crate) region: Option<Region>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) identity: Identity,
    pub(crate) network: Network,
}

/// Where the credentials come from.
pub(crate) enum Identity {
    Static(Credentials),
    #[cfg(feature = "default-chain")]
    Chain,
    #[cfg(feature = "default-chain")]
    Profile(String),
}

/// A client, and how often the SDK would ask, as far as the environment or the profile says it.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) attempts: Option<u32>,
}

impl Settings {
    /// Makes a client. Reads files; the default chain may ask services of the network.
    pub(crate) async fn connect(&self, limits: &CallLimits) -> Result<Connected> {
        let (mut config, attempts) = self.resolved(limits).await?;
        if let Some(endpoint) = &self.endpoint {
            config = config.endpoint_url(endpoint.base());
        }
        // How long and how often is for the limits to say: the SDK's own retries would multiply with them.
        let config = config
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(limits.connect_timeout())
                    .build(),
            );
        Ok(Connected {
            client: Client::from_conf(config.build()),
            attempts,
        })
    }

    /// All that the SDK's own chain finds, with the explicit settings on top, however the builder came by them.
    #[cfg(feature = "default-chain")]
    async fn resolved(&self, limits: &CallLimits) -> Result<(Builder, Option<u32>)> {
        let http = self.network.client()?;
        // Of requests for credentials. Without one, the SDK reads it from the environment, and panics where it can't.
        let retries = RetryConfig::standard().with_max_attempts(limits.attempts());
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .retry_config(retries.clone());
        if let Some(region) = &self.region {
            loader = loader.region(region.clone());
        }
        match &self.identity {
            Identity::Static(credentials) => {
                loader = loader.credentials_provider(credentials.clone());
            }
            Identity::Chain => {}
            Identity::Profile(name) => loader = loader.profile_name(name),
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(misconfigured(
                "no Region: set it, AWS_REGION, or one in the profile, or name the key by its ARN",
            ));
        }
        let attempts = attempts(&config)?;
        let mut builder = Builder::from(&config);
        if let Identity::Profile(name) = &self.identity {
            // The chain would take the environment's keys first.
            let settings = ProviderConfig::default()
                .with_http_client(http)
                .with_retry_config(retries)
                .with_region(config.region().cloned());
            let profile = ProfileFileCredentialsProvider::builder()
                .configure(&settings)
                .profile_name(name);
            builder = builder.credentials_provider(profile.build());
        }
        Ok((builder, attempts))
    }

    #[cfg(not(feature = "default-chain"))]
    #[expect(clippy::unused_async, reason = "the default chain waits")]
    async fn resolved(&self, _: &CallLimits) -> Result<(Builder, Option<u32>)> {
        let Identity::Static(credentials) = &self.identity;
        let builder = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.network.client()?)
            .region(self.region.clone())
            .credentials_provider(credentials.clone());
        Ok((builder, None))
    }
}

/// `AWS_MAX_ATTEMPTS`, or `max_attempts` of the profile.
#[cfg(feature = "default-chain")]
fn attempts(config: &SdkConfig) -> Result<Option<u32>> {
    let key = ServiceConfigKey::builder()
        .service_id("kms")
        .env("AWS_MAX_ATTEMPTS")
        .profile("max_attempts")
        .build();
    let found = key.ok().zip(config.service_config());
    let text = found.and_then(|(key, settings)| settings.load_config(key));
    let number = text.map(|text| text.trim().parse::<NonZeroU32>());
    let number = number.transpose().map_err(|_| {
        misconfigured("not a number of attempts").with_context("setting", "max_attempts")
    })?;
    Ok(number.map(NonZeroU32::get))
}

/// Shows no client: the SDK's `Debug` repeats the access key's id.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(client)"),
            Self::Own(settings) => fmt::Debug::fmt(settings, f),
        }
    }
}

/// Shows no credentials.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(_) => f.write_str("Static(hidden)"),
            #[cfg(feature = "default-chain")]
            Self::Chain => f.write_str("Chain"),
            #[cfg(feature = "default-chain")]
            Self::Profile(name) => f.debug_tuple("Profile").field(name).finish(),
        }
    }
}
