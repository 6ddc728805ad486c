//! Keeping the request's body out of the SDK's traces.

use std::mem;

use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::BoxError;
use aws_smithy_types::body::SdkBody;

/// Replaces the body, once it was signed, by one that shows nothing in `Debug`.
///
/// At level `TRACE` the SDK writes every request whole, and that of `Encrypt` holds the plaintext. (It hides the
/// answer of `Decrypt` and the credentials by itself.)
#[derive(Debug)]
pub(crate) struct HideBody;

impl Intercept for HideBody {
    fn name(&self) -> &'static str {
        "HideBody"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.request_mut().body_mut();
        *body = SdkBody::from_body_1_x(mem::replace(body, SdkBody::taken()));
        Ok(())
    }
}
