//! What Cloud KMS said when it refused.

use std::error::Error as StdError;
use std::fmt;

use kms_core::ErrorKind;
use kms_core::service::one_line;
use serde_json::Value;

use crate::service::Operation;

/// The detail of an error that names its cause for programs
/// ([google.rpc.ErrorInfo](https://cloud.google.com/apis/design/errors#error_info)).
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// What Cloud KMS said when it refused: the source of a [`kms_core::Error`].
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceError {
    http_status: u16,
    status: String,
    message: String,
    reason: Option<String>,
    permission: Option<String>,
    project: Option<String>,
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

    /// The reason in the answer's details, `SERVICE_DISABLED` say; empty if it had none.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }

    /// The service's message, on one line and cut where it is long; empty if there was none, or where it could
    /// repeat what was sent.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// From the body `{"error": {"code", "message", "status", "details"}}`; a body of another shape says nothing.
    pub(super) fn read(http_status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &body["error"];
        let text = |value: &Value| value.as_str().map(one_line);
        let details = error["details"].as_array();
        let info = details
            .into_iter()
            .flatten()
            .find(|detail| detail["@type"] == ERROR_INFO)
            .unwrap_or(&Value::Null);
        Self {
            http_status,
            status: text(&error["status"]).unwrap_or_default(),
            message: text(&error["message"]).unwrap_or_default(),
            reason: text(&info["reason"]),
            permission: text(&info["metadata"]["permission"]),
            project: text(&info["metadata"]["consumer"]),
        }
    }

    /// The kind by the status in the body, or else by that of HTTP.
    pub(super) fn kind(&self, operation: Operation) -> ErrorKind {
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

    /// What is missing, as far as the service told: a permission on the key, or else why it lets nobody of a
    /// project in (its API is disabled, say, or a perimeter is around it).
    pub(super) fn cause(&self) -> Vec<(&'static str, &str)> {
        let otherwise = [("reason", &self.reason), ("project", &self.project)];
        match &self.permission {
            Some(permission) => vec![("permission", permission)],
            None => otherwise
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.as_deref()?)))
                .collect(),
        }
    }

    /// Whether the request arrived with other bytes than its checksum was made of.
    pub(super) fn is_about_a_checksum(&self) -> bool {
        self.message.starts_with("The checksum in field ")
    }

    /// Leaves the message out: the service repeats values that it could not read, the plaintext among them.
    pub(super) fn without_message(mut self) -> Self {
        self.message.clear();
        self
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
            .field("reason", &self.reason)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl StdError for ServiceError {}
