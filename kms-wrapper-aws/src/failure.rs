//! What a failure of the SDK means.

use std::error::Error as StdError;
use std::fmt;
use std::iter::successors;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId as _;
use kms_core::service::{one_line, without_secrets};
use kms_core::{Error, ErrorKind};

/// The service's own account of a failure: the [`source`](StdError::source) of errors whose cause it told.
///
/// The message is one line, and without anything that could be key material or a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

impl ServiceError {
    /// The status of the HTTP response.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The service's code, `AccessDeniedException` say.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The service's message.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The id of the request, which AWS' support and CloudTrail know it by.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    pub(crate) fn of(error: &Error) -> Option<&Self> {
        error.source()?.downcast_ref()
    }

    /// Whether the service said that another key than the one of the request encrypted this.
    pub(crate) fn is_of_another_key(&self) -> bool {
        self.code() == Some("IncorrectKeyException")
    }

    /// Whether the service refused the signature only because the clocks differ. The SDK then takes its
    /// clock's error from the answer, and signs the next request right.
    pub(crate) fn is_of_clock(&self) -> bool {
        let message = self.message().unwrap_or_default();
        match self.code() {
            Some("RequestTimeTooSkewed" | "RequestExpired") => true,
            Some("InvalidSignatureException" | "SignatureDoesNotMatch") => {
                message.starts_with("Signature expired")
                    || message.starts_with("Signature not yet current")
            }
            _ => false,
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => f.write_str(code)?,
            None => write!(f, "status {}", self.status)?,
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl StdError for ServiceError {}

/// Why there is no answer, told by the SDK or the network.
#[derive(Debug)]
struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for NoAnswer {}

/// Turns the SDK's error into ours. Nothing of it is kept but text, since its `Debug` shows whole responses.
pub(crate) fn explain<E>(error: &SdkError<E>, permission: &'static str) -> Error
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
{
    // What our own interceptor refused to send.
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<Error>()) {
        return refused.clone();
    }
    match error {
        SdkError::ServiceError(failure) => {
            let status = failure.raw().status();
            let told = told(error, failure.err(), status.as_u16());
            if status.is_success() {
                return Error::new(ErrorKind::DamagedResponse)
                    .with_detail("it can't be read")
                    .with_source(told);
            }
            let kind = kind(told.code(), told.status());
            let error = Error::new(kind).with_source(told);
            if kind == ErrorKind::Denied {
                error.with_context("permission", permission)
            } else {
                error
            }
        }
        // The answer broke off. Asking again is safe: neither call changes anything.
        SdkError::ResponseError(_) => no_answer(ErrorKind::Unreachable, error),
        SdkError::TimeoutError(_) => no_answer(ErrorKind::TimedOut, error),
        SdkError::DispatchFailure(failure) => {
            no_answer(dispatch_kind(failure.as_connector_error(), error), error)
        }
        // Everything that a request is made of was checked when the wrapper was built.
        _ => no_answer(ErrorKind::InvalidConfiguration, error),
    }
}

fn told<E>(error: &SdkError<E>, cause: &E, status: u16) -> ServiceError
where
    E: ProvideErrorMetadata,
{
    let meta = cause.meta();
    ServiceError {
        status,
        code: meta.code().map(clean),
        message: meta.message().map(clean),
        request_id: error.request_id().map(clean),
    }
}

/// The first line, with nothing that could be a secret. AWS' message about a wrong signature repeats the request's
/// headers in its later lines, the session token among them.
fn clean(text: &str) -> String {
    let first = text.trim_start().lines().next().unwrap_or_default();
    one_line(&without_secrets(first))
}

fn no_answer(kind: ErrorKind, error: &(dyn StdError + 'static)) -> Error {
    let chain: Vec<String> = causes(error).map(ToString::to_string).collect();
    Error::new(kind).with_source(NoAnswer(clean(&chain.join(": "))))
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// Of a request that was not sent, or not answered.
fn dispatch_kind(
    connector: Option<&ConnectorError>,
    error: &(dyn StdError + 'static),
) -> ErrorKind {
    let credentials = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>());
    if let Some(credentials) = credentials {
        return credentials_kind(credentials);
    }
    match connector {
        Some(connector) if connector.is_timeout() => ErrorKind::TimedOut,
        // Also what the SDK calls the user's error: requests are made of checked parts only, and it counts
        // among these a connection whose runtime has ended.
        _ => ErrorKind::Unreachable,
    }
}

/// Of credentials that could not be had.
fn credentials_kind(error: &CredentialsError) -> ErrorKind {
    match error {
        CredentialsError::ProviderTimedOut(_) => ErrorKind::TimedOut,
        CredentialsError::InvalidConfiguration(_) => ErrorKind::InvalidConfiguration,
        CredentialsError::ProviderError(_) if !is_refusal(error) => ErrorKind::Unreachable,
        _ => ErrorKind::Denied,
    }
}

/// Whether the service that gives out credentials answered, and gives none to this caller. Which service that is
/// is not known here, and so not the type of its error either, but its code is in its text.
fn is_refusal(error: &CredentialsError) -> bool {
    const CODES: [&str; 6] = [
        "AccessDenied",
        "ExpiredToken",
        "IDPRejectedClaim",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "SignatureDoesNotMatch",
    ];
    causes(error)
        .map(ToString::to_string)
        .any(|text| CODES.iter().any(|code| text.contains(code)))
}

/// Of the service's codes ([errors of KMS](https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html)
/// and of its operations), and of the status where there is no code that is known.
fn kind(code: Option<&str>, status: u16) -> ErrorKind {
    match code.unwrap_or_default() {
        "InvalidCiphertextException" | "IncorrectKeyException" => ErrorKind::AuthenticationFailed,
        "NotFoundException" => ErrorKind::UnknownRootKey,
        "DisabledException" | "KMSInvalidStateException" => ErrorKind::RootKeyDisabled,
        "InvalidKeyUsageException" => ErrorKind::UnsuitableRootKey,
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException" => ErrorKind::Throttled,
        "KMSInternalException"
        | "KeyUnavailableException"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => ErrorKind::Unreachable,
        "DependencyTimeoutException" | "RequestTimeout" | "RequestTimeoutException" => {
            ErrorKind::TimedOut
        }
        "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidGrantTokenException"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => ErrorKind::Denied,
        "InvalidArnException" | "ValidationError" | "ValidationException" => {
            ErrorKind::InvalidConfiguration
        }
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        408 | 504 => ErrorKind::TimedOut,
        429 => ErrorKind::Throttled,
        500..=599 => ErrorKind::Unreachable,
        // No service of AWS answers so: the endpoint is another one's.
        300..=399 | 404 | 405 => ErrorKind::InvalidConfiguration,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_that_a_message_about_a_signature_repeats_are_left_out() {
        let signature = "The signature does not match.\n\nThe Canonical String should have been\nx-amz-security-token:abc";
        assert_eq!(clean(signature), "The signature does not match.");
    }

    #[test]
    fn the_code_decides_and_without_a_known_one_the_status() {
        for (code, status, expected) in [
            ("NotFoundException", 400, ErrorKind::UnknownRootKey),
            ("DisabledException", 400, ErrorKind::RootKeyDisabled),
            ("KMSInvalidStateException", 400, ErrorKind::RootKeyDisabled),
            (
                "InvalidKeyUsageException",
                400,
                ErrorKind::UnsuitableRootKey,
            ),
            (
                "InvalidCiphertextException",
                400,
                ErrorKind::AuthenticationFailed,
            ),
            (
                "IncorrectKeyException",
                400,
                ErrorKind::AuthenticationFailed,
            ),
            ("ThrottlingException", 400, ErrorKind::Throttled),
            ("LimitExceededException", 400, ErrorKind::Throttled),
            ("KMSInternalException", 500, ErrorKind::Unreachable),
            ("KeyUnavailableException", 500, ErrorKind::Unreachable),
            ("DependencyTimeoutException", 500, ErrorKind::TimedOut),
            ("AccessDeniedException", 400, ErrorKind::Denied),
            ("ExpiredTokenException", 400, ErrorKind::Denied),
            ("UnrecognizedClientException", 400, ErrorKind::Denied),
            ("InvalidSignatureException", 400, ErrorKind::Denied),
            ("NewerThanThisCode", 503, ErrorKind::Unreachable),
            ("NewerThanThisCode", 400, ErrorKind::Internal),
        ] {
            assert_eq!(kind(Some(code), status), expected, "{code}");
        }
        for (status, expected) in [
            (403, ErrorKind::Denied),
            (404, ErrorKind::InvalidConfiguration),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unreachable),
            (503, ErrorKind::Unreachable),
            (504, ErrorKind::TimedOut),
        ] {
            assert_eq!(kind(None, status), expected, "{status}");
        }
    }
}
