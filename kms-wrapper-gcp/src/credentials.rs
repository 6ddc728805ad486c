//! Who the wrapper is to the service: what was configured, and how that becomes a token.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use google_cloud_auth::credentials::{
    AccessTokenCredentials, Builder, external_account, impersonated, service_account, user_account,
};
use google_cloud_auth::errors::CredentialsError;
use kms_core::{Error, ErrorKind, Result};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::failure::one_line;

/// Far above what a credentials file has, so that a wrong path can't fill the memory.
const MAX_FILE_LEN: u64 = 64 * 1024;

/// The scope of access that the key's calls need
/// ([OAuth 2.0 scopes](https://developers.google.com/identity/protocols/oauth2/scopes#cloudkms)).
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";

/// What was configured. Nothing is read before the first call.
#[derive(Clone)]
pub(crate) enum Credentials {
    /// No token: an emulator.
    Anonymous,
    /// This file.
    File(PathBuf),
    /// Application default credentials.
    Default,
    /// The caller's own.
    Caller(AccessTokenCredentials),
}

impl Credentials {
    /// Reads what was configured; `None` for none. Must run inside a runtime: tokens are renewed by a task of it.
    pub(crate) async fn open(&self) -> Result<Option<AccessTokenCredentials>> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Caller(credentials) => Ok(Some(credentials.clone())),
            Self::Default => Builder::default()
                .with_scopes([SCOPE])
                .build_access_token_credentials()
                .map(Some)
                .map_err(|_| {
                    // Its text may repeat what the file holds.
                    unusable("the application default credentials can't be used")
                }),
            Self::File(path) => {
                let json = read(path).await;
                json.and_then(of_json)
                    .map(Some)
                    .map_err(|error| error.with_context("credentials_file", path.display()))
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Default => f.write_str("Default"),
            Self::Caller(_) => f.write_str("Caller(hidden)"),
        }
    }
}

/// A token for the next request.
pub(crate) async fn token(credentials: &AccessTokenCredentials) -> Result<Zeroizing<String>> {
    match credentials.access_token().await {
        Ok(token) => Ok(Zeroizing::new(token.token)),
        Err(error) => {
            let kind = if error.is_transient() {
                ErrorKind::Unreachable
            } else {
                ErrorKind::Denied
            };
            Err(Error::new(kind)
                .with_detail("no access token was to be had")
                .with_source(NoToken::of(&error)))
        }
    }
}

/// Why there is no token, as text: the library's error may hold a whole response.
#[derive(Debug)]
struct NoToken(String);

impl NoToken {
    fn of(error: &CredentialsError) -> Self {
        Self(one_line(&error.to_string()))
    }
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for NoToken {}

fn of_json(json: Value) -> Result<AccessTokenCredentials> {
    let kind = json["type"].as_str().unwrap_or_default().to_owned();
    let built = match kind.as_str() {
        "service_account" => service_account::Builder::new(json)
            .with_access_specifier(service_account::AccessSpecifier::from_scopes([SCOPE]))
            .build_access_token_credentials(),
        "authorized_user" => user_account::Builder::new(json)
            .with_scopes([SCOPE])
            .build_access_token_credentials(),
        "external_account" => external_account::Builder::new(json)
            .with_scopes([SCOPE])
            .build_access_token_credentials(),
        "impersonated_service_account" => impersonated::Builder::new(json)
            .with_scopes([SCOPE])
            .build_access_token_credentials(),
        _ => {
            return Err(unusable(
                "it has no type that is known: service_account, authorized_user, external_account, impersonated_service_account",
            ));
        }
    };
    built.map_err(|_| unusable("a field is missing or malformed"))
}

/// Reads the file, off the async threads.
async fn read(path: &Path) -> Result<Value> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || read_bounded(&path))
        .await
        .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))?
}

fn read_bounded(path: &Path) -> Result<Value> {
    use std::io::Read as _;

    let unreadable = |error: std::io::Error| unusable("it can't be read").with_source(error);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut json = Zeroizing::new(Vec::with_capacity(64 * 1024 + 1));
    file.take(MAX_FILE_LEN + 1)
        .read_to_end(&mut json)
        .map_err(unreadable)?;
    if json.len() as u64 > MAX_FILE_LEN {
        return Err(unusable("it is too long for a credentials file"));
    }
    // serde's message may repeat a value, so only the place is told.
    serde_json::from_slice(&json).map_err(|error| {
        unusable("it is not JSON")
            .with_context("line", error.line())
            .with_context("column", error.column())
    })
}

fn unusable(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    async fn refusal(text: &str) -> Error {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let error = Credentials::File(file.path().to_owned())
            .open()
            .await
            .unwrap_err();
        let path = file.path().display().to_string();
        assert_eq!(error.context("credentials_file"), Some(path.as_str()));
        error
    }

    #[tokio::test]
    async fn a_file_that_is_no_credentials_file_is_refused_without_showing_what_it_holds() {
        for text in [
            "",
            "hunter2",
            "{}",
            r#"{"type":"hunter2"}"#,
            r#"{"type":"service_account","private_key":"hunter2"}"#,
            r#"{"type":"service_account","private_key":["hunter2"],"client_email":1}"#,
            r#"{"type":"authorized_user","client_id":["hunter2"]}"#,
            r#"{"type":"external_account","audience":"hunter2"}"#,
        ] {
            let error = refusal(text).await;
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let long = refusal(&"x".repeat(70_000)).await;
        assert!(long.to_string().contains("too long"), "{long}");
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let error = Credentials::File("/nowhere/key.json".into())
            .open()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert_eq!(error.context("credentials_file"), Some("/nowhere/key.json"));
    }
}
