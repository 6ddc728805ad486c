//! Keeping the request's body out of the SDK's traces.

use std::mem;

use aws_sdk_kms::config::http::HttpRequest;
use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::BoxError;
use aws_smithy_types::body::SdkBody;

/// Replaces the body, once it was signed, by one that shows nothing in `Debug`.
///
/// At level `TRACE` the SDK writes every request, and the body of `Encrypt` holds the plaintext. Today the SDK
/// happens to wrap bodies, for its metrics, into such as show nothing; this does not rely on that. (The answer of
/// `Decrypt` and the credentials it hides on purpose.)
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
        hide(context.request_mut());
        Ok(())
    }
}

fn hide(request: &mut HttpRequest) {
    let body = request.body_mut();
    *body = SdkBody::from_body_1_x(mem::replace(body, SdkBody::taken()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_request_does_not_show_its_body() {
        let mut request = HttpRequest::new(SdkBody::from("hunter22"));
        assert!(format!("{request:?}").contains("hunter22"));
        hide(&mut request);
        assert!(!format!("{request:?}").contains("hunter22"));
        assert_eq!(request.body().content_length(), Some(8));
    }
}
