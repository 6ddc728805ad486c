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

    /// A request that is malformed in each of these ways.
    pub(super) fn bad_request(violations: &[String]) -> Self {
        let descriptions: Vec<_> = violations
            .iter()
            .map(|description| json!({ "description": description }))
            .collect();
        Self {
            details: Some(json!([{
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": descriptions,
            }])),
            ..Self::invalid_argument(violations.join("\n"))
        }
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

    /// What Google's front answers before Cloud KMS is asked: `reason` is `SERVICE_DISABLED`, say.
    pub(super) fn denied_for(reason: &str) -> Self {
        const PROJECT: &str = "projects/kms-testkit";
        let message = match reason {
            "SERVICE_DISABLED" => {
                format!(
                    "Cloud Key Management Service (KMS) API has not been used in {PROJECT} before or it is disabled."
                )
            }
            "USER_PROJECT_DENIED" => format!(
                "Caller does not have required permission to use {PROJECT}. Grant the caller the roles/serviceusage.serviceUsageConsumer role."
            ),
            "BILLING_DISABLED" => {
                format!(
                    "This API method requires billing to be enabled. Please enable billing on {PROJECT}."
                )
            }
            "SECURITY_POLICY_VIOLATED" => {
                "Request is prohibited by organization's policy.".to_owned()
            }
            _ => "The request is denied.".to_owned(),
        };
        Self {
            details: Some(json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "googleapis.com",
                "metadata": { "consumer": PROJECT, "service": "cloudkms.googleapis.com" },
            }])),
            ..Self::new(403, "PERMISSION_DENIED", message)
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
