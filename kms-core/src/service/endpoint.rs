//! URLs that are sent plaintext or credentials.

use std::fmt;

use url::{Host, Url};

use crate::error::Result;
use crate::service::misconfigured;

/// The URL of a service: `https`, or `http` where that is allowed, and nothing in it but host, port and path.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Whether requests may leave this machine over plain HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// Only to loopback addresses, told by their text: a name that resolves to one now may resolve to another
    /// address later.
    #[default]
    OnLoopback,
    /// To any host: whoever is in between reads keys and credentials. For a builder's `dangerous()`.
    Anywhere,
}

impl Endpoint {
    /// Reads and checks a URL.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration), which does not repeat the text: it may
    /// hold a password.
    pub fn parse(text: &str, plain_http: PlainHttp) -> Result<Self> {
        Self::parse_setting(text, plain_http, "endpoint")
    }

    /// The same, for a wrapper that calls the setting otherwise: `address`, say.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_setting(text: &str, plain_http: PlainHttp, setting: &'static str) -> Result<Self> {
        let refuse = |wrong: &'static str| {
            misconfigured(format!("the {setting} is {wrong}")).with_context("setting", setting)
        };
        // The parser drops these without a word.
        if text
            .chars()
            .any(|letter| letter.is_control() || letter == ' ')
        {
            return Err(refuse("a text with white space or control characters"));
        }
        let url = Url::parse(text).map_err(|error| refuse("not a URL").with_source(error))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("a URL with a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("a URL with a query or fragment"));
        }
        match (url.scheme(), plain_http) {
            ("https", _) | ("http", PlainHttp::Anywhere) => Ok(Self(url)),
            ("http", PlainHttp::OnLoopback) if is_loopback(&url) => Ok(Self(url)),
            ("http", PlainHttp::OnLoopback) => Err(refuse(
                "plain http to another machine, which shows keys and credentials to the network; use https",
            )),
            _ => Err(refuse("neither https nor http")),
        }
    }

    /// The URL without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// The URL, as it was read.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it is on this machine, told by its text.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
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
    use crate::error::ErrorKind;

    #[test]
    fn the_base_has_no_slash_at_its_end() {
        for (text, base) in [
            ("https://kms.example.com", "https://kms.example.com"),
            ("https://kms.example.com/", "https://kms.example.com"),
            ("https://example.com/kms/", "https://example.com/kms"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://127.9.9.9:81", "http://127.9.9.9:81"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://LOCALHOST:1/", "http://localhost:1"),
        ] {
            let endpoint = Endpoint::parse(text, PlainHttp::OnLoopback).unwrap();
            assert_eq!(endpoint.base(), base);
            assert_eq!(endpoint.is_encrypted(), text.starts_with("https"));
            assert_eq!(endpoint.is_loopback(), !text.contains("example"));
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
            "kms.example.com:8443",
            "ftp://example.com",
            "file:///etc",
            "unix:/run/kms.sock",
            "https://",
            "https://a b",
            " https://example.com",
            "https://exam\nple.com",
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
