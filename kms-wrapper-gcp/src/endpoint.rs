//! URLs that are sent plaintext or credentials.

use std::fmt;

use kms_core::{Error, ErrorKind, Result};
use url::{Host, Url};

/// The base URL of the service, with a slash at its end: the client joins paths to it, and panics without.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Url);

/// Whether plain HTTP may leave this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    OnLoopback,
    Anywhere,
}

impl Endpoint {
    /// Where Cloud KMS is, unless said otherwise.
    pub(crate) const DEFAULT: &str = "https://cloudkms.googleapis.com/";

    pub(crate) fn parse(text: &str, plain_http: PlainHttp) -> Result<Self> {
        let refuse = |wrong| {
            Error::new(ErrorKind::InvalidConfiguration)
                .with_detail(wrong)
                // The text may hold a password.
                .with_context("setting", "endpoint")
        };
        let mut url = Url::parse(text).map_err(|error| refuse("not a URL").with_source(error))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("a URL with a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("a URL with a query or fragment"));
        }
        match (url.scheme(), plain_http) {
            ("https", _) => {}
            ("http", PlainHttp::Anywhere) => {}
            ("http", PlainHttp::OnLoopback) if is_loopback(&url) => {}
            ("http", PlainHttp::OnLoopback) => {
                return Err(refuse(
                    "plain http shows keys and tokens to the network, so it is for loopback addresses only; use https",
                ));
            }
            _ => return Err(refuse("neither https nor http")),
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self(url))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// By its text: a name that resolves to a loopback address now may resolve to another later.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_gets_the_slash_that_the_client_needs() {
        for (text, url) in [
            ("https://kms.example.com", "https://kms.example.com/"),
            ("https://kms.example.com/", "https://kms.example.com/"),
            ("https://example.com/kms", "https://example.com/kms/"),
            ("http://127.0.0.1:80", "http://127.0.0.1/"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
            ("http://localhost:1", "http://localhost:1/"),
            (Endpoint::DEFAULT, Endpoint::DEFAULT),
        ] {
            let endpoint = Endpoint::parse(text, PlainHttp::OnLoopback).unwrap();
            assert_eq!(endpoint.as_str(), url);
        }
    }

    #[test]
    fn plain_http_leaves_the_machine_only_when_asked_to() {
        for text in [
            "http://kms.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
        ] {
            let error = Endpoint::parse(text, PlainHttp::OnLoopback).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{text}");
            Endpoint::parse(text, PlainHttp::Anywhere).unwrap();
        }
    }

    #[test]
    fn what_is_not_the_url_of_a_host_is_refused_without_repeating_it() {
        for text in [
            "",
            "kms.example.com",
            "ftp://example.com",
            "file:///etc",
            "unix:/run/kms.sock",
            "https://",
            "https://user:hunter2@example.com",
            "https://example.com/?key=hunter2",
            "https://example.com/#hunter2",
        ] {
            let error = Endpoint::parse(text, PlainHttp::Anywhere).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
