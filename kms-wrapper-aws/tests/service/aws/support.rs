//! Keys in the service, and wrappers of them.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kms::operation::create_key::builders::CreateKeyFluentBuilder;
use kms_core::CallLimits;
use kms_testkit::service::variable;
use kms_wrapper_aws::{AwsKmsWrapper, AwsKmsWrapperBuilder};

pub(super) const REGION: &str = "us-east-1";
pub(super) const ACCESS_KEY: &str = "AKIDTESTTESTTESTTEST";
pub(super) const SECRET_KEY: &str = "a secret access key of these tests";

/// The service, as its administrator sees it.
pub(super) struct Service {
    pub(super) endpoint: String,
    pub(super) client: Client,
}

impl Service {
    /// The one that is shared by all tests; `None` where there is none.
    pub(super) fn shared() -> Option<Self> {
        variable("aws", "KMS_TEST_AWS_ENDPOINT").map(|endpoint| Self::at(&endpoint, REGION))
    }

    pub(super) fn at(endpoint: &str, region: &str) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let client = Client::from_conf(config(&endpoint, region).build());
        Self { endpoint, client }
    }

    /// The ARN of a new key.
    pub(super) async fn key(&self) -> String {
        self.key_with(|order| order).await
    }

    pub(super) async fn key_with(
        &self,
        change: impl FnOnce(CreateKeyFluentBuilder) -> CreateKeyFluentBuilder,
    ) -> String {
        let made = change(self.client.create_key()).send().await.unwrap();
        made.key_metadata.unwrap().arn.unwrap()
    }

    /// Points a new alias at the key.
    pub(super) async fn alias(&self, name: &str, key: &str) {
        let order = self.client.create_alias();
        let order = order.alias_name(name).target_key_id(key);
        order.send().await.unwrap();
    }

    pub(super) fn builder(&self, key: &str) -> AwsKmsWrapperBuilder {
        builder(&self.endpoint, key)
    }

    pub(super) fn wrapper(&self, key: &str) -> AwsKmsWrapper {
        self.builder(key).build().unwrap()
    }
}

/// Of a key in the service at this endpoint, patient enough for a busy machine.
pub(super) fn builder(endpoint: &str, key: &str) -> AwsKmsWrapperBuilder {
    let builder = AwsKmsWrapper::builder(key)
        .endpoint(endpoint)
        .credentials(ACCESS_KEY, SECRET_KEY)
        .limits(patient())
        .aead(Arc::new(kms_wrapper_aead::AesGcm));
    if key.starts_with("arn:") {
        builder
    } else {
        builder.region(REGION)
    }
}

pub(super) fn patient() -> CallLimits {
    CallLimits::default()
        .with_connect_timeout(Duration::from_secs(20))
        .with_attempt_timeout(Duration::from_secs(40))
        .with_deadline(Duration::from_secs(90))
        .with_pauses(Duration::from_millis(1), Duration::from_millis(10))
}

/// Of a client that bypasses the wrapper.
pub(super) fn config(endpoint: &str, region: &str) -> aws_sdk_kms::config::Builder {
    aws_sdk_kms::config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .endpoint_url(endpoint)
        .credentials_provider(
            Credentials::builder()
                .provider_name("test")
                .access_key_id(ACCESS_KEY)
                .secret_access_key(SECRET_KEY)
                .build(),
        )
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
}

/// A name that no other test uses, nor another run.
pub(super) fn unique(prefix: &str) -> String {
    let random = kms_core::KeyBytes::generate().unwrap();
    let digits: String = random.expose()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{prefix}-{digits}")
}
