//! Errors as the service's JSON has them.

use axum::http::StatusCode;
use serde_json::{Value, json};

pub(super) type Answer = Result<Value, Refusal>;

/// An error of the [service's model](https://cloud.google.com/apis/design/errors).
#[derive(Debug)]
pub(super) struct Refusal {
    code: u16,
    status: &'static str,
    message: String,
    details: Option<Value>,
}

impl Refusal {
    pub(super) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_ARGUMENT", message)
    }

    /// `violation` is the type that the details name, `KEY_DISABLED` say.
    pub(super) fn failed_precondition(
        message: impl Into<String>,
        violation: &str,
        subject: &str,
    ) -> Self {
        Self {
            details: Some(json!([{
                "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
                "violations": [{ "type": violation, "subject": subject }],
            }])),
            ..Self::new(400, "FAILED_PRECONDITION", message)
        }
    }

    pub(super) fn unauthenticated() -> Self {
        Self::new(
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
        )
    }

    pub(super) fn permission_denied(permission: &str, resource: &str) -> Self {
        Self {
            details: Some(json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "IAM_PERMISSION_DENIED",
                "domain": "cloudkms.googleapis.com",
                "metadata": { "permission": permission, "resource": resource },
            }])),
            ..Self::new(
                403,
                "PERMISSION_DENIED",
                format!(
                    "Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
                ),
            )
        }
    }

    pub(super) fn not_found(kind: &str, name: &str) -> Self {
        Self::new(404, "NOT_FOUND", format!("{kind} {name} not found."))
    }

    pub(super) fn already_exists(kind: &str, name: &str) -> Self {
        Self::new(
            409,
            "ALREADY_EXISTS",
            format!("{kind} {name} already exists."),
        )
    }

    pub(super) fn resource_exhausted() -> Self {
        Self::new(
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for quota metric 'Cryptographic requests' and limit 'Cryptographic requests per minute'.",
        )
    }

    pub(super) fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(501, "UNIMPLEMENTED", message)
    }

    pub(super) fn unavailable() -> Self {
        Self::new(503, "UNAVAILABLE", "The service is currently unavailable.")
    }

    pub(super) fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap()
    }

    pub(super) fn body(&self) -> Value {
        let mut error = json!({
            "code": self.code,
            "message": self.message,
            "status": self.status,
        });
        if let Some(details) = &self.details {
            error["details"] = details.clone();
        }
        json!({ "error": error })
    }

    fn new(code: u16, status: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            status,
            message: message.into(),
            details: None,
        }
    }
}
