//! Who the wrapper is to the service: what was configured, and how that becomes a token.

use std::env;
use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use google_cloud_auth::build_errors::Error as BuilderError;
use google_cloud_auth::credentials::{
    AccessTokenCredentials, Builder, CacheableResource, CredentialsProvider as _, external_account,
    impersonated, service_account, user_account,
};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap};
use kms_core::service::{misconfigured, one_line};
use kms_core::{Error, ErrorKind, Result};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::network::Network;

/// Far above what a credentials file has, so that a wrong path can't fill the memory.
const MAX_FILE_LEN: u64 = 64 * 1024;

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
    /// Reads what was configured; `None` for none. It blocks, and must run inside a runtime: tokens are renewed by a
    /// task of that. Refuses settings of the network that requests for tokens would not obey.
    pub(crate) fn open(&self, network: &Network) -> Result<Option<AccessTokenCredentials>> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Caller(credentials) => Ok(Some(credentials.clone())),
            Self::Default => default_file()
                .and_then(|path| read_bounded(&path).ok())
                .map_or(Ok(()), |json| check_for_tokens(&json, network))
                .and_then(|()| {
                    Builder::default()
                        .build_access_token_credentials()
                        .map_err(|error| misconfigured(because(&error)))
                })
                .map(Some)
                .map_err(|error| error.with_context("credentials", "application default")),
            Self::File(path) => read_bounded(path)
                .and_then(|json| {
                    check_for_tokens(&json, network)?;
                    of_json(json)
                })
                .map(Some)
                .map_err(|error| error.with_context("credentials_file", path.display())),
        }
    }

    /// The variable of Google's tools for the project that pays; not for credentials that the caller made.
    pub(crate) fn quota_project_of_environment(&self) -> Option<String> {
        let can = self.can_be_opened_again();
        let project = can.then(|| env::var("GOOGLE_CLOUD_QUOTA_PROJECT").ok());
        project.flatten().filter(|project| !project.is_empty())
    }

    /// Whether opening them again can give another token.
    pub(crate) fn can_be_opened_again(&self) -> bool {
        matches!(self, Self::File(_) | Self::Default)
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

/// What the next request has to say of its caller: the token, and the project that pays where the credentials name
/// one.
pub(crate) async fn headers(credentials: &AccessTokenCredentials) -> Result<HeaderMap> {
    match credentials.headers(Extensions::new()).await {
        Ok(CacheableResource::New { data, .. }) => Ok(data),
        // The answer to a caller that says which headers it has.
        Ok(CacheableResource::NotModified) => {
            Err(Error::new(ErrorKind::Internal).with_detail("the credentials gave no headers"))
        }
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
pub(crate) struct NoToken(String);

impl NoToken {
    fn of(error: &CredentialsError) -> Self {
        let mut text = told(&error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {}", told(&error.to_string()));
            cause = error.source();
        }
        Self(one_line(&text))
    }
}

/// The library puts the answer's body into its text, which may repeat what was sent. Of the body, what
/// [OAuth 2.0](https://datatracker.ietf.org/doc/html/rfc6749#section-5.2) has for it is kept.
fn told(text: &str) -> String {
    let Some((text, body)) = text.split_once(", body=<") else {
        return text.to_owned();
    };
    let body = body.rsplit_once('>').map_or(body, |(body, _)| body);
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let fields = ["error", "error_description"].map(|name| body[name].as_str());
    fields
        .into_iter()
        .flatten()
        .fold(text.to_owned(), |text, field| format!("{text}, {field}"))
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for NoToken {}

/// Where the library looks for application default credentials before it asks the metadata server, which no proxy and
/// no certificate is for.
fn default_file() -> Option<PathBuf> {
    const KNOWN: &str = "gcloud/application_default_credentials.json";
    if let Some(path) = env::var_os("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(path.into());
    }
    if cfg!(windows) {
        return env::var_os("APPDATA").map(|root| PathBuf::from(root).join(KNOWN));
    }
    env::var_os("HOME").map(|root| PathBuf::from(root).join(".config").join(KNOWN))
}

/// The key of a service account signs its tokens itself; all others ask for them.
fn check_for_tokens(json: &Value, network: &Network) -> Result<()> {
    match json["type"].as_str() {
        Some("service_account") => Ok(()),
        _ => network.check_for_tokens(),
    }
}

fn of_json(json: Value) -> Result<AccessTokenCredentials> {
    let kind = json["type"].as_str().unwrap_or_default().to_owned();
    let built = match kind.as_str() {
        "service_account" => {
            // The one type of which the library leaves it out.
            let quota_project = json["quota_project_id"].as_str().map(str::to_owned);
            let builder = service_account::Builder::new(json);
            match quota_project {
                Some(project) => builder.with_quota_project_id(project),
                None => builder,
            }
            .build_access_token_credentials()
        }
        "authorized_user" => user_account::Builder::new(json).build_access_token_credentials(),
        "external_account" => external_account::Builder::new(json).build_access_token_credentials(),
        "impersonated_service_account" => {
            impersonated::Builder::new(json).build_access_token_credentials()
        }
        _ => {
            return Err(misconfigured(
                "not a credentials file: its type is none of service_account, authorized_user, external_account, impersonated_service_account",
            ));
        }
    };
    built.map_err(|error| misconfigured(because(&error)))
}

/// The reason in words of our own: the library's text may repeat what the file holds.
fn because(error: &BuilderError) -> &'static str {
    if error.is_loading() {
        "the credentials file can't be opened and read"
    } else if error.is_unknown_type() || error.is_not_supported() {
        "credentials of a type that is not known"
    } else {
        "not a credentials file, or a field is missing or malformed"
    }
}

fn read_bounded(path: &Path) -> Result<Value> {
    use std::io::Read as _;

    let unreadable = |error: std::io::Error| {
        misconfigured("the credentials file can't be read").with_source(error)
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut json = Zeroizing::new(Vec::with_capacity(64 * 1024 + 1));
    file.take(MAX_FILE_LEN + 1)
        .read_to_end(&mut json)
        .map_err(unreadable)?;
    if json.len() as u64 > MAX_FILE_LEN {
        return Err(misconfigured("too long for a credentials file"));
    }
    // serde's message may repeat a value, so only the place is told.
    serde_json::from_slice(&json).map_err(|error| {
        misconfigured("not a credentials file: not JSON")
            .with_context("line", error.line())
            .with_context("column", error.column())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn refusal(text: &str) -> Error {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let error = Credentials::File(file.path().to_owned())
            .open(&Network::default())
            .unwrap_err();
        let path = file.path().display().to_string();
        assert_eq!(error.context("credentials_file"), Some(path.as_str()));
        error
    }

    #[test]
    fn a_file_that_is_no_credentials_file_is_refused_without_showing_what_it_holds() {
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
            let error = refusal(text);
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let long = refusal(&"x".repeat(70_000));
        assert!(long.to_string().contains("too long"), "{long}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Credentials::File("/nowhere/key.json".into())
            .open(&Network::default())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert_eq!(error.context("credentials_file"), Some("/nowhere/key.json"));
    }

    #[test]
    fn of_a_refusal_the_code_and_its_description_are_kept_and_not_what_was_sent() {
        let body = r#"{"error":"invalid_grant","error_description":"expired","request":"hunter2"}"#;
        let text =
            format!("cannot fetch token, body=<{body}> and future attempts will not succeed");
        assert_eq!(told(&text), "cannot fetch token, invalid_grant, expired");
        assert_eq!(told("refused, body=<hunter2>"), "refused");
        assert_eq!(told("cannot connect"), "cannot connect");
    }
}
