//! Proxies, which may be shown what is sent through them.

use std::fmt;

use url::Url;

use super::endpoint::is_loopback;
use crate::error::Result;
use crate::service::{Endpoint, PlainHttp, misconfigured};

/// The URL of an HTTP proxy: `http` or `https`, with user and password if it wants them. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

impl ProxyUrl {
    /// Reads a URL. Without a scheme it is `http`, as in the variables of most tools. `setting` is where it comes
    /// from, for the error.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration), which does not repeat the text: it may
    /// hold a password.
    pub fn parse(text: &str, setting: &'static str) -> Result<Self> {
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        url.ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .map(Self)
            .ok_or_else(|| {
                misconfigured("the proxy is not the URL of a proxy over HTTP: http://HOST:PORT or https://HOST:PORT")
                    .with_context("setting", setting)
            })
    }

    /// Refuses one that would read what is sent to this endpoint: a proxy on another machine is asked for a tunnel
    /// where the endpoint is `https`, and is shown keys and credentials where it is plain `http`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration).
    pub fn check_for(&self, endpoint: &Endpoint, plain_http: PlainHttp) -> Result<()> {
        let shows_all = !endpoint.is_encrypted() && !is_loopback(&self.0);
        if shows_all && plain_http == PlainHttp::OnLoopback {
            return Err(misconfigured(
                "a proxy and plain http: one on another machine would be shown keys and credentials; use https",
            )
            .with_context("setting", "proxy"));
        }
        Ok(())
    }

    /// The URL, with its password.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_proxy_without_a_scheme_is_http() {
        for (text, url) in [
            ("proxy.example.com:3128", "http://proxy.example.com:3128/"),
            ("http://10.0.0.1:3128", "http://10.0.0.1:3128/"),
            ("https://u:hunter2@p", "https://u:hunter2@p/"),
        ] {
            let proxy = ProxyUrl::parse(text, "proxy").unwrap();
            assert_eq!(proxy.url().as_str(), url);
            assert!(!format!("{proxy:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_and_not_repeated() {
        for text in [
            "",
            "http://",
            "a b hunter2",
            "socks5://hunter2:1",
            "file:///hunter2",
        ] {
            let error = ProxyUrl::parse(text, "HTTPS_PROXY").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{text}");
            assert_eq!(error.context("setting"), Some("HTTPS_PROXY"));
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_proxy_on_another_machine_is_not_shown_what_is_sent_in_the_clear() {
        let check = |proxy, endpoint, plain_http| {
            let endpoint = Endpoint::parse(endpoint, plain_http).unwrap();
            ProxyUrl::parse(proxy, "proxy")
                .unwrap()
                .check_for(&endpoint, plain_http)
        };
        let (elsewhere, here) = ("http://proxy.example.com:3128", "http://127.0.0.1:3128");
        let (plain, encrypted) = ("http://127.0.0.1:8200", "https://kms.example.com");
        let error = check(elsewhere, plain, PlainHttp::OnLoopback).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        check(here, plain, PlainHttp::OnLoopback).unwrap();
        check(elsewhere, encrypted, PlainHttp::OnLoopback).unwrap();
        check(elsewhere, plain, PlainHttp::Anywhere).unwrap();
    }
}
