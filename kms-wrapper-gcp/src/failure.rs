//! Every way that a call fails, as one kind of error.

use std::error::Error as _;

use kms_core::{Error, ErrorKind};

use crate::credentials::NoToken;
use crate::service::Operation;

mod service_error;

pub use service_error::ServiceError;

/// The error of a call that was answered with another status than success.
pub(crate) fn refused(operation: Operation, http_status: u16, body: &[u8]) -> Error {
    let refusal = ServiceError::read(http_status, body);
    let kind = refusal.kind(operation);
    let error = Error::new(kind);
    let detail = match kind {
        // Not even the service's message: it tells a foreign ciphertext from a damaged one.
        ErrorKind::AuthenticationFailed => return error,
        ErrorKind::Denied => {
            let cause = refusal.cause();
            let error = cause.into_iter().fold(error, |error, (name, value)| {
                error.with_context(name, value)
            });
            return error.with_source(refusal);
        }
        ErrorKind::InvalidBlob => {
            "refused as invalid: Cloud KMS takes 64 KiB of plaintext and of aad, a key in an HSM 8 KiB of both"
        }
        ErrorKind::DamagedResponse => "the request arrived damaged",
        ErrorKind::InvalidConfiguration => "the endpoint does not answer as Cloud KMS does",
        _ => return error.with_source(refusal),
    };
    let repeats = refusal.status() == "INVALID_ARGUMENT" && !refusal.is_about_a_checksum();
    error.with_detail(detail).with_source(if repeats {
        refusal.without_message()
    } else {
        refusal
    })
}

/// The error of a request that got no answer, or not the whole of it.
pub(crate) fn unreachable(error: reqwest::Error) -> Error {
    let kind = if error.is_timeout() {
        ErrorKind::TimedOut
    } else {
        ErrorKind::Unreachable
    };
    Error::new(kind).with_source(error.without_url())
}

/// Whether there is no token, or the service does not take it, so that logging in again could help.
pub(crate) fn is_about_credentials(error: &Error) -> bool {
    error.source().is_some_and(|source| {
        source.is::<NoToken>()
            || source
                .downcast_ref::<ServiceError>()
                .is_some_and(|refusal| refusal.http_status() == 401)
    })
}

/// Whether a call was denied, and the service did not say that something else than a permission is the cause.
pub(crate) fn may_lack_permissions(error: &Error) -> bool {
    error.kind() == ErrorKind::Denied
        && !is_about_credentials(error)
        && error.context("reason").is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn error(operation: Operation, http: u16, status: &str, message: &str) -> Error {
        let body = json!({ "error": { "code": http, "status": status, "message": message } });
        of_body(operation, http, &body)
    }

    fn of_body(operation: Operation, http: u16, body: &Value) -> Error {
        refused(operation, http, body.to_string().as_bytes())
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
            let error = of_body(Operation::Encrypt, 503, &body);
            assert_eq!(error.kind(), ErrorKind::Unreachable);
        }
    }

    fn denied(details: &Value) -> Error {
        let body = json!({ "error": { "status": "PERMISSION_DENIED", "details": details } });
        let error = of_body(Operation::Decrypt, 403, &body);
        assert_eq!(error.kind(), ErrorKind::Denied);
        error
    }

    #[test]
    fn a_denial_names_a_permission_only_if_the_service_named_it() {
        let help = json!({ "@type": "type.googleapis.com/google.rpc.Help", "links": [] });
        let info = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "IAM_PERMISSION_DENIED",
            "domain": "cloudkms.googleapis.com",
            "metadata": { "permission": "cloudkms.some.other", "resource": "projects/p" },
        });
        let error = denied(&json!([help, info]));
        assert_eq!(error.context("permission"), Some("cloudkms.some.other"));
        assert_eq!(error.context("reason"), None);
        for unnamed in [json!(null), json!([help])] {
            assert_eq!(denied(&unnamed).context("permission"), None);
        }
    }

    #[test]
    fn a_denial_of_another_cause_names_its_reason_and_project() {
        for reason in [
            "SERVICE_DISABLED",
            "USER_PROJECT_DENIED",
            "BILLING_DISABLED",
            "SECURITY_POLICY_VIOLATED",
        ] {
            let error = denied(&json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "googleapis.com",
                "metadata": { "consumer": "projects/123456789012", "service": "cloudkms.googleapis.com" },
            }]));
            assert_eq!(error.context("permission"), None);
            assert_eq!(error.context("reason"), Some(reason));
            assert_eq!(error.context("project"), Some("projects/123456789012"));
            let told = error.source().unwrap().downcast_ref::<ServiceError>();
            assert_eq!(told.unwrap().reason(), reason);
        }
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
}
