//! Settings that give up protection.

use kms_core::service::PlainHttp;

use crate::builder::AwsKmsWrapperBuilder;

/// Settings of an [`AwsKmsWrapperBuilder`] that give up protection.
#[derive(Debug)]
#[must_use]
pub struct DangerousSettings(pub(super) AwsKmsWrapperBuilder);

impl DangerousSettings {
    /// Lets the endpoint be plain `http` on another machine: keys and credentials are there for the network to read.
    pub fn allow_plain_http(mut self) -> AwsKmsWrapperBuilder {
        self.0.plain_http = PlainHttp::Anywhere;
        self.0
    }
}
