//! What the service refused, as errors of the system.

use std::fmt;

use kms_core::{Error, ErrorKind};

const NO_KEY: &str = "encryption key not found";

/// The service's own account of a failure: the [`source`](std::error::Error::source) of errors whose cause it told.
///
/// The messages are cut to a sane length, and are without anything secret that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    status: u16,
    messages: Vec<String>,
}

impl ServiceError {
    /// The status of the HTTP response.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The service's messages, each on one line.
    #[must_use]
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// Reads the body of an error. `secrets` are what the request held: a message that repeats one is dropped.
    pub(crate) fn read(status: u16, body: &[u8], secrets: &[&str]) -> Self {
        #[derive(serde::Deserialize)]
        struct Body {
            errors: Vec<String>,
        }
        let messages = serde_json::from_slice::<Body>(body)
            .map(|body| body.errors)
            .unwrap_or_default();
        Self {
            status,
            messages: messages
                .into_iter()
                .take(8)
                .map(|message| sanitized(&message, secrets))
                .collect(),
        }
    }

    pub(crate) fn says(&self, part: &str) -> bool {
        self.messages
            .iter()
            .any(|message| message.to_ascii_lowercase().contains(part))
    }

    /// Whether the service said that it knows no such token (newer releases do, beside "permission denied").
    pub(crate) fn is_about_the_token(&self) -> bool {
        self.says("invalid token") || self.says("bad token") || self.says("missing client token")
    }

    /// Whether transit said that it has no such key.
    pub(crate) fn names_no_key(&self) -> bool {
        self.says(NO_KEY)
    }

    /// The error of a call to transit.
    pub(crate) fn into_error(self) -> Error {
        let (kind, detail) = self.kind();
        let error = Error::new(kind);
        let error = match detail {
            Some(detail) => error.with_detail(detail),
            None => error,
        };
        if kind == ErrorKind::AuthenticationFailed {
            // More must not be said.
            return error;
        }
        error.with_source(self)
    }

    /// The error of a login, where the service refuses credentials as a bad request.
    pub(crate) fn into_login_error(self) -> Error {
        match self.status {
            400..=404 => Error::new(ErrorKind::Denied)
                .with_detail("the login was refused")
                .with_source(self),
            _ => self.into_error(),
        }
    }

    fn kind(&self) -> (ErrorKind, Option<&'static str>) {
        match self.status {
            204 => (
                ErrorKind::UnknownRootKey,
                Some(
                    "what is mounted there took the request for a write; it is not a transit engine",
                ),
            ),
            307 => (
                ErrorKind::ServiceStandby,
                Some(
                    "it redirects to another node, which is not followed: the token goes to the configured address only",
                ),
            ),
            300..=399 => (
                ErrorKind::DamagedResponse,
                Some("a redirect, which is not followed; is the address that of Vault itself?"),
            ),
            400 => self.refusal(),
            401 | 403 => (ErrorKind::Denied, None),
            404 | 405 => (
                ErrorKind::UnknownRootKey,
                Some("no transit engine answers there; check mount path and namespace"),
            ),
            408 | 504 => (ErrorKind::TimedOut, None),
            413 => (
                ErrorKind::InvalidConfiguration,
                Some("the request is longer than the service takes"),
            ),
            429 => (ErrorKind::Throttled, None),
            472 | 473 => (ErrorKind::ServiceStandby, None),
            // Transit answers so for RSA keys and the like, whatever was sent.
            500 if self.says("failed to rsa decrypt") => (ErrorKind::AuthenticationFailed, None),
            503 if self.says("sealed") => (ErrorKind::ServiceSealed, None),
            // 500 while the cluster is choosing a leader.
            500 | 503
                if self.says("standby") || self.says("not active") || self.says("no active") =>
            {
                (ErrorKind::ServiceStandby, None)
            }
            500..=599 => (ErrorKind::Unreachable, None),
            _ => (ErrorKind::DamagedResponse, Some("an unknown status")),
        }
    }

    /// What transit calls a bad request, told by its message: there is no code.
    fn refusal(&self) -> (ErrorKind, Option<&'static str>) {
        const REFUSALS: &[(&str, ErrorKind, Option<&str>)] = &[
            (
                "message authentication failed",
                ErrorKind::AuthenticationFailed,
                None,
            ),
            (NO_KEY, ErrorKind::UnknownRootKey, None),
            // The answer to the request's guard against creating a missing key, see `EncryptRequest`.
            (
                "convergent encryption requires derivation",
                ErrorKind::UnknownRootKey,
                None,
            ),
            (
                "disallowed by policy (too old)",
                ErrorKind::RootKeyVersionRetired,
                None,
            ),
            (
                "no such key version",
                ErrorKind::RootKeyVersionRetired,
                None,
            ),
            (
                "invalid key version",
                ErrorKind::RootKeyVersionRetired,
                None,
            ),
            ("version is too new", ErrorKind::AuthenticationFailed, None),
            ("invalid ciphertext", ErrorKind::InvalidBlob, None),
            (
                "not supported for key type",
                ErrorKind::UnsuitableRootKey,
                None,
            ),
            (
                "non-aead cipher",
                ErrorKind::UnsuitableRootKey,
                Some("its type takes no associated data; use aes256-gcm96 or chacha20-poly1305"),
            ),
            (
                "missing 'context'",
                ErrorKind::UnsuitableRootKey,
                Some("it is a derived key; use one that is not"),
            ),
            (
                "minimum encryption key version",
                ErrorKind::UnsuitableRootKey,
                Some("its min_encryption_version is above its newest version"),
            ),
        ];
        REFUSALS.iter().find(|(part, ..)| self.says(part)).map_or(
            (
                ErrorKind::Internal,
                Some("the service calls the request a bad one"),
            ),
            |(_, kind, detail)| (*kind, *detail),
        )
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        for message in &self.messages {
            write!(f, ": {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServiceError {}

/// One line of at most 300 characters, or none of it where it repeats a secret.
fn sanitized(message: &str, secrets: &[&str]) -> String {
    if secrets
        .iter()
        .any(|secret| !secret.is_empty() && message.contains(secret))
    {
        return "(withheld: it repeats what was sent)".to_owned();
    }
    message
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: u16, text: &str) -> ServiceError {
        let body = serde_json::json!({ "errors": [text] }).to_string();
        ServiceError::read(status, body.as_bytes(), &[])
    }

    #[test]
    fn each_refusal_has_its_kind() {
        use ErrorKind::*;
        for (status, text, kind) in [
            (
                400,
                "cipher: message authentication failed",
                AuthenticationFailed,
            ),
            (
                400,
                "chacha20poly1305: message authentication failed",
                AuthenticationFailed,
            ),
            (400, "encryption key not found", UnknownRootKey),
            (
                400,
                "ciphertext or signature version is disallowed by policy (too old)",
                RootKeyVersionRetired,
            ),
            (
                400,
                "message encryption not supported for key type ed25519",
                UnsuitableRootKey,
            ),
            (400, "something new", Internal),
            (401, "", Denied),
            (403, "1 error occurred:\n\t* permission denied\n\n", Denied),
            (
                404,
                "no handler for route \"nope/encrypt/app\"",
                UnknownRootKey,
            ),
            (429, "rate limit quota exceeded", Throttled),
            (472, "", ServiceStandby),
            (473, "", ServiceStandby),
            (500, "internal error", Unreachable),
            (503, "Vault is sealed", ServiceSealed),
            (503, "OpenBao is sealed", ServiceSealed),
            (503, "Vault is in standby mode", ServiceStandby),
            (503, "node is not active", ServiceStandby),
            (503, "no active Vault instance found", ServiceStandby),
            (
                500,
                "local node not active but active cluster node not found",
                ServiceStandby,
            ),
            (503, "", Unreachable),
            (504, "", TimedOut),
            (307, "", ServiceStandby),
            (302, "", DamagedResponse),
            (204, "", UnknownRootKey),
        ] {
            let error = message(status, text).into_error();
            assert_eq!(error.kind(), kind, "{status} {text}");
        }
    }

    #[test]
    fn a_failed_authentication_says_nothing_more() {
        let error = message(400, "cipher: message authentication failed").into_error();
        assert!(std::error::Error::source(&error).is_none());
    }

    #[test]
    fn a_message_is_one_line_of_limited_length_and_repeats_no_secret() {
        let long = message(400, &"two\nlines\u{7} ".repeat(1000));
        let text = long.to_string();
        assert!(
            text.len() < 400 && !text.contains(['\n', '\u{7}']),
            "{text}"
        );
        let body = br#"{"errors":["you sent hvs.secret, it seems"]}"#;
        let text = ServiceError::read(400, body, &["hvs.secret"]).to_string();
        assert!(!text.contains("hvs.secret"), "{text}");
    }

    #[test]
    fn a_body_of_another_shape_is_left_out() {
        for body in ["", "<html>", "[]", "{}", r#"{"errors":"text"}"#] {
            let text = ServiceError::read(502, body.as_bytes(), &[]).to_string();
            assert_eq!(text, "status 502");
        }
    }
}
