//! How the service is reached, and as whom.

use std::fmt;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{
    BehaviorVersion, Builder, Credentials, Region, StalledStreamProtectionConfig,
};
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
    Chain {
        profile: Option<String>,
    },
}

impl Settings {
    /// Makes a client. Reads files; the default chain may ask services of the network.
    pub(crate) async fn client(&self, limits: &CallLimits) -> Result<Client> {
        let mut config = self.resolved().await?;
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
        Ok(Client::from_conf(config.build()))
    }

    /// All that the SDK's own chain finds, with the explicit settings on top, however the builder came by them.
    #[cfg(feature = "default-chain")]
    async fn resolved(&self) -> Result<Builder> {
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).http_client(self.network.client()?);
        if let Some(region) = &self.region {
            loader = loader.region(region.clone());
        }
        match &self.identity {
            Identity::Static(credentials) => {
                loader = loader.credentials_provider(credentials.clone());
            }
            Identity::Chain { profile } => {
                if let Some(profile) = profile {
                    loader = loader.profile_name(profile);
                }
            }
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(misconfigured(
                "no Region: set it, AWS_REGION, or one in the profile, or name the key by its ARN",
            ));
        }
        Ok(Builder::from(&config))
    }

    #[cfg(not(feature = "default-chain"))]
    #[expect(clippy::unused_async, reason = "the default chain waits")]
    async fn resolved(&self) -> Result<Builder> {
        let Identity::Static(credentials) = &self.identity;
        Ok(Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.network.client()?)
            .region(self.region.clone())
            .credentials_provider(credentials.clone()))
    }
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
            Self::Chain { profile } => f.debug_struct("Chain").field("profile", profile).finish(),
        }
    }
}
