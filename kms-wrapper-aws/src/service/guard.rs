//! Keeping requests off the open network.

use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::BoxError;
use kms_core::service::{Endpoint, PlainHttp};

/// Refuses to send to a URL that the policy does not allow, wherever it comes from: the environment, a profile, or
/// the caller's own client.
#[derive(Debug)]
pub(crate) struct Guard(pub(crate) PlainHttp);

impl Intercept for Guard {
    fn name(&self) -> &'static str {
        "Guard"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        Endpoint::parse(context.request().uri(), self.0)?;
        Ok(())
    }
}
