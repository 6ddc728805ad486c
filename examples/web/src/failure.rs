//! What a failure looks like to a client.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kms_kit::{Error, ErrorKind};
use serde_json::json;

/// Why a request was not served.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The keys were not to be had, or refused.
    Keys(Error),
    /// The application's own tables.
    Database(diesel::result::Error),
    /// No connection, or a task that died.
    Internal(anyhow::Error),
    /// No such thing of the client's.
    NotFound(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Keys(error)
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Failure {
    /// The client gets the kind; the details are for the operator.
    fn into_response(self) -> Response {
        let (status, kind) = match self {
            Self::NotFound(what) => (StatusCode::NOT_FOUND, what),
            Self::Keys(error) => {
                let status = status(&error);
                if status.is_server_error() {
                    let cause = std::error::Error::source(&error);
                    tracing::error!(%error, cause, "keys were not to be had");
                }
                (status, error.kind().name())
            }
            Self::Database(error) => internal(&error),
            Self::Internal(error) => internal(&*error),
        };
        (status, Json(json!({ "error": kind }))).into_response()
    }
}

fn internal(error: &(dyn std::error::Error + 'static)) -> (StatusCode, &'static str) {
    tracing::error!(error, "a request failed");
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal")
}

fn status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::InvalidScope => StatusCode::BAD_REQUEST,
        ErrorKind::UnknownScope => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists => StatusCode::CONFLICT,
        // Worth another try later: the root of trust or the database is not to be had.
        _ if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
