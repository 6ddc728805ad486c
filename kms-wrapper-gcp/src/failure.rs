//! What the service answered when it refused, and which kind of error that is.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use google_cloudkms1::hyper::StatusCode;
use google_cloudkms1::{Delegate, Error as ClientError, common};
use kms_core::{Error, ErrorKind};
use serde_json::Value;

use crate::credentials::NoToken;
use crate::service::Operation;

/// Longest message of the service that is kept, in characters; its own are a sentence or two.
const MAX_MESSAGE: usize = 400;

/// What Cloud KMS said when it refused: the source of a [`kms_core::Error`].
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceError {
    http_status: u16,
    status: String,
    message: String,
    permission: Option<String>,
}

impl ServiceError {
    /// The status code of HTTP.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        self.http_status
    }

    /// The status in the answer's body, `PERMISSION_DENIED` say; empty if it had none.
    #[must_use]
    pub fn status(&self) -> &str {
        &self.status
    }

    /// The service's message, on one line and cut where it is long; empty if there was none, or where it could
    /// repeat what was sent.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Without a body that can be read.
    fn of_status(http_status: u16) -> Self {
        Self {
            http_status,
            status: String::new(),
            message: String::new(),
            permission: None,
        }
    }

    /// From the body `{"error": {"code", "message", "status", "details"}}`; a body of another shape says nothing.
    fn of_body(http_status: u16, body: &Value) -> Self {
        let error = &body["error"];
        let text = |value: &Value| value.as_str().map(one_line).unwrap_or_default();
        let permission = error["details"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|detail| detail["metadata"]["permission"].as_str())
            .map(one_line);
        Self {
            http_status,
            status: text(&error["status"]),
            message: text(&error["message"]),
            permission,
        }
    }

    /// The kind by the status in the body, or else by that of HTTP.
    fn kind(&self, operation: Operation) -> ErrorKind {
        match (self.status.as_str(), self.http_status) {
            ("UNAUTHENTICATED" | "PERMISSION_DENIED", _) => ErrorKind::Denied,
            ("NOT_FOUND", _) => ErrorKind::UnknownRootKey,
            ("FAILED_PRECONDITION", _) if self.message.contains("incorrect key purpose") => {
                ErrorKind::UnsuitableRootKey
            }
            ("FAILED_PRECONDITION", _) => ErrorKind::RootKeyDisabled,
            ("RESOURCE_EXHAUSTED", _) => ErrorKind::Throttled,
            ("UNAVAILABLE" | "INTERNAL" | "ABORTED", _) => ErrorKind::Unreachable,
            ("DEADLINE_EXCEEDED", _) => ErrorKind::TimedOut,
            ("INVALID_ARGUMENT", _) if self.is_about_a_checksum() => ErrorKind::DamagedResponse,
            ("INVALID_ARGUMENT", _) => match operation {
                Operation::Decrypt => ErrorKind::AuthenticationFailed,
                Operation::Encrypt => ErrorKind::InvalidBlob,
                Operation::TestPermissions => ErrorKind::Internal,
            },
            (_, 401 | 403) => ErrorKind::Denied,
            (_, 408 | 504) => ErrorKind::TimedOut,
            (_, 429) => ErrorKind::Throttled,
            (_, 500..=599) => ErrorKind::Unreachable,
            // Redirects, pages, anything that Cloud KMS doesn't say.
            _ => ErrorKind::InvalidConfiguration,
        }
    }

    /// The request arrived with other bytes than its checksum was made of.
    fn is_about_a_checksum(&self) -> bool {
        self.message.starts_with("The checksum in field ")
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.http_status)?;
        if !self.status.is_empty() {
            write!(f, " {}", self.status)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceError")
            .field("http_status", &self.http_status)
            .field("status", &self.status)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl StdError for ServiceError {}

/// Watches a call for what the client's error leaves out: the status of HTTP.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    status: Option<StatusCode>,
}

impl Delegate for Witness {
    fn http_failure(&mut self, response: &common::Response, _: Option<&Value>) -> common::Retry {
        self.status = Some(response.status());
        common::Retry::Abort
    }
}

/// The error of a call. Nothing of the answer's body stays in it but what [`ServiceError`] keeps.
pub(crate) fn of_call(operation: Operation, witness: &Witness, error: ClientError) -> Error {
    let status = witness.status.map_or(0, |status| status.as_u16());
    match error {
        ClientError::BadRequest(body) => refused(operation, ServiceError::of_body(status, &body)),
        ClientError::Failure(_) => refused(operation, ServiceError::of_status(status)),
        ClientError::MissingToken(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(_) => Error::new(ErrorKind::Denied).with_detail("no token"),
        },
        ClientError::HttpError(error) => unreachable(error),
        // Its text is the whole answer, the plaintext with it.
        ClientError::JsonDecodeError(_, error) if error.is_eof() => {
            Error::new(ErrorKind::Unreachable)
                .with_detail("the connection ended in the middle of the answer")
        }
        ClientError::JsonDecodeError(..) => {
            Error::new(ErrorKind::DamagedResponse).with_detail("not an answer of Cloud KMS")
        }
        ClientError::Io(error) => unreachable(error),
        ClientError::UploadSizeLimitExceeded(..)
        | ClientError::MissingAPIKey
        | ClientError::Cancelled
        | ClientError::FieldClash(_) => {
            Error::new(ErrorKind::Internal).with_detail("the client refused the request")
        }
    }
}

/// Whether there is no token, or the service does not take it, so that logging in again could help.
pub(crate) fn is_about_credentials(error: &Error) -> bool {
    error.source().is_some_and(|source| {
        source.is::<NoToken>()
            || source
                .downcast_ref::<ServiceError>()
                .is_some_and(|refusal| refusal.http_status == 401)
    })
}

/// The error of a request that got no answer.
fn unreachable(error: impl StdError + Send + Sync + 'static) -> Error {
    let kind = if timed_out(&error) {
        ErrorKind::TimedOut
    } else {
        ErrorKind::Unreachable
    };
    Error::new(kind).with_source(error)
}

fn refused(operation: Operation, mut refusal: ServiceError) -> Error {
    let kind = refusal.kind(operation);
    let error = Error::new(kind);
    match kind {
        // Not even the service's message: it tells a foreign ciphertext from a damaged one.
        ErrorKind::AuthenticationFailed => return error,
        ErrorKind::Denied if refusal.http_status != 401 => {
            let permission = refusal.permission.take();
            let error = match permission.as_deref().or(operation.permission()) {
                Some(permission) => error.with_context("permission", permission),
                None => error,
            };
            return error.with_source(refusal);
        }
        _ => {}
    }
    let detail = match kind {
        ErrorKind::InvalidBlob => {
            "refused as invalid: Cloud KMS takes 64 KiB of plaintext and of aad, a key in an HSM 8 KiB of both"
        }
        ErrorKind::DamagedResponse => "the request arrived damaged",
        ErrorKind::InvalidConfiguration => "the endpoint does not answer as Cloud KMS does",
        _ => "",
    };
    // The service repeats values that it could not read, the plaintext among them.
    if refusal.status == "INVALID_ARGUMENT" && !refusal.is_about_a_checksum() {
        refusal.message.clear();
    }
    let error = if detail.is_empty() {
        error
    } else {
        error.with_detail(detail)
    };
    error.with_source(refusal)
}

/// Whether a connection, and not the whole attempt, took too long.
fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Without control characters, and not too long.
pub(crate) fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(MAX_MESSAGE)
        .collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(operation: Operation, http: u16, status: &str, message: &str) -> Error {
        let body = json!({ "error": { "code": http, "status": status, "message": message } });
        of_body(operation, http, body)
    }

    fn of_body(operation: Operation, http: u16, body: Value) -> Error {
        let witness = Witness {
            status: StatusCode::from_u16(http).ok(),
        };
        of_call(operation, &witness, ClientError::BadRequest(body))
    }

    #[test]
    fn each_status_has_its_kind() {
        use Operation::{Decrypt, Encrypt};
        for (operation, http, status, message, kind) in [
            (Encrypt, 401, "UNAUTHENTICATED", "", ErrorKind::Denied),
            (Encrypt, 403, "PERMISSION_DENIED", "", ErrorKind::Denied),
            (Encrypt, 404, "NOT_FOUND", "", ErrorKind::UnknownRootKey),
            (
                Decrypt,
                400,
                "FAILED_PRECONDITION",
                "… is not enabled, current state is: DESTROYED.",
                ErrorKind::RootKeyDisabled,
            ),
            (
                Encrypt,
                400,
                "FAILED_PRECONDITION",
                "Operation requested for Key … has incorrect key purpose: MAC",
                ErrorKind::UnsuitableRootKey,
            ),
            (
                Decrypt,
                400,
                "INVALID_ARGUMENT",
                "",
                ErrorKind::AuthenticationFailed,
            ),
            (Encrypt, 400, "INVALID_ARGUMENT", "", ErrorKind::InvalidBlob),
            (
                Decrypt,
                400,
                "INVALID_ARGUMENT",
                "The checksum in field ciphertext_crc32c did not match the data in field ciphertext.",
                ErrorKind::DamagedResponse,
            ),
            (Encrypt, 429, "RESOURCE_EXHAUSTED", "", ErrorKind::Throttled),
            (Encrypt, 500, "INTERNAL", "", ErrorKind::Unreachable),
            (Encrypt, 503, "UNAVAILABLE", "", ErrorKind::Unreachable),
            (Encrypt, 504, "DEADLINE_EXCEEDED", "", ErrorKind::TimedOut),
            // Of a proxy, with a body of its own.
            (Encrypt, 403, "", "", ErrorKind::Denied),
            (Encrypt, 429, "", "", ErrorKind::Throttled),
            (Encrypt, 502, "", "", ErrorKind::Unreachable),
            (Encrypt, 504, "", "", ErrorKind::TimedOut),
            (Encrypt, 302, "", "", ErrorKind::InvalidConfiguration),
            (Encrypt, 404, "", "", ErrorKind::InvalidConfiguration),
            (Decrypt, 400, "", "", ErrorKind::InvalidConfiguration),
        ] {
            let error = error(operation, http, status, message);
            assert_eq!(error.kind(), kind, "{http} {status} {message}");
        }
    }

    #[test]
    fn a_body_of_any_shape_is_read() {
        for body in [
            json!(null),
            json!([]),
            json!("text"),
            json!({ "error": "invalid_grant" }),
            json!({ "error": { "code": "x", "status": 7, "details": [1, {}] } }),
        ] {
            let error = of_body(Operation::Encrypt, 503, body);
            assert_eq!(error.kind(), ErrorKind::Unreachable);
        }
    }

    #[test]
    fn a_denial_names_the_permission() {
        let named = json!({ "error": {
            "status": "PERMISSION_DENIED",
            "details": [{ "metadata": { "permission": "cloudkms.some.other" } }],
        }});
        let error = of_body(Operation::Encrypt, 403, named);
        assert_eq!(error.context("permission"), Some("cloudkms.some.other"));
        let unnamed = json!({ "error": { "status": "PERMISSION_DENIED" } });
        let error = of_body(Operation::Decrypt, 403, unnamed);
        let permission = "cloudkms.cryptoKeyVersions.useToDecrypt";
        assert_eq!(error.context("permission"), Some(permission));
    }

    #[test]
    fn the_services_message_is_the_source_except_where_it_could_repeat_the_request() {
        let shown = |error: &Error| error.source().map(ToString::to_string);
        let quota = error(
            Operation::Encrypt,
            429,
            "RESOURCE_EXHAUSTED",
            "Quota\nexceeded",
        );
        assert_eq!(
            shown(&quota).as_deref(),
            Some("429 RESOURCE_EXHAUSTED: Quota exceeded")
        );
        let echo = error(
            Operation::Encrypt,
            400,
            "INVALID_ARGUMENT",
            "Invalid value at 'plaintext' (TYPE_BYTES), Base64 decoding failed for \"aHVudGVyMg\"",
        );
        assert_eq!(shown(&echo).as_deref(), Some("400 INVALID_ARGUMENT"));
        let failed = error(
            Operation::Decrypt,
            400,
            "INVALID_ARGUMENT",
            "Decryption failed",
        );
        assert_eq!(shown(&failed), None);
        assert_eq!(failed.to_string(), "authentication failed");
    }

    #[test]
    fn an_answer_that_can_not_be_read_leaves_nothing_of_its_text() {
        let text = r#"{"plaintext":"aHVudGVyMg==","plaintextCrc32c":[]}"#;
        let parsed = serde_json::from_str::<google_cloudkms1::api::DecryptResponse>(text);
        let error = ClientError::JsonDecodeError(text.to_owned(), parsed.unwrap_err());
        let error = of_call(Operation::Decrypt, &Witness::default(), error);
        assert_eq!(error.kind(), ErrorKind::DamagedResponse);
        assert!(!format!("{error:?}").contains("aHVudGVyMg"));
        let cut = serde_json::from_str::<Value>("{\"plain").unwrap_err();
        let error = ClientError::JsonDecodeError(String::new(), cut);
        let error = of_call(Operation::Decrypt, &Witness::default(), error);
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
}
