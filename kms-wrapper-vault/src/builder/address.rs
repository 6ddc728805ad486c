//! Where the service is.

use std::fmt;
use std::path::{Path, PathBuf};

use kms_core::Result;
use kms_core::service::{Endpoint, PlainHttp, misconfigured};
use reqwest::header::HeaderValue;
use url::Host;

/// A URL that names a service, and no more.
pub(super) struct Address {
    endpoint: Endpoint,
    /// The Unix socket to connect to, whatever the URL says.
    socket: Option<PathBuf>,
}

/// The URL to use, the `Host` header where that is another name, and the host to look up where the URL's isn't it.
pub(super) type Named = (String, Option<HeaderValue>, Option<String>);

impl Address {
    /// The error does not repeat an address that can't be read, or has a password in it.
    pub(super) fn parse(text: &str, plain_http: PlainHttp) -> Result<Self> {
        if text.starts_with("unix:") {
            return Self::of_socket(text);
        }
        Ok(Self {
            endpoint: Endpoint::parse_setting(text, plain_http, SETTING)?,
            socket: None,
        })
    }

    /// `unix:///path`, as Vault's own tools write it.
    fn of_socket(text: &str) -> Result<Self> {
        let path = text.strip_prefix("unix://").unwrap_or_default();
        let plain = |letter: char| letter.is_ascii_graphic() && !"%?#".contains(letter);
        if !cfg!(unix) || !path.starts_with('/') || path == "/" || !path.chars().all(plain) {
            return Err(misconfigured(
                "a Unix socket's address is unix:// and its absolute path, of plain characters",
            )
            .with_context("setting", SETTING));
        }
        Ok(Self {
            endpoint: Endpoint::parse("http://localhost", PlainHttp::OnLoopback)?,
            socket: Some(PathBuf::from(path)),
        })
    }

    pub(super) fn is_https(&self) -> bool {
        self.endpoint.is_encrypted()
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.endpoint.is_loopback()
    }

    /// The address as TLS has to see it: the name of the certificate in the URL, and the real host looked up in
    /// its place.
    pub(super) fn under(&self, name: Option<&str>) -> Result<Named> {
        let Some(name) = name else {
            return Ok((self.endpoint.url().to_string(), None, None));
        };
        let refused = || {
            misconfigured("it is not a DNS name; for an IP address put it into the address")
                .with_context("setting", "server_name")
        };
        if !matches!(Host::parse(name), Ok(Host::Domain(parsed)) if parsed == name) {
            return Err(refused());
        }
        let url = self.endpoint.url();
        let host = match url.host() {
            Some(Host::Domain(host)) => host.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(refused()),
        };
        let authority = url.authority().to_owned();
        let mut renamed = url.clone();
        renamed.set_host(Some(name)).map_err(|_| refused())?;
        let header = HeaderValue::from_str(&authority).map_err(|_| refused())?;
        Ok((renamed.to_string(), Some(header), Some(host)))
    }
}

/// Without a slash at the end.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(socket) => write!(f, "unix://{}", socket.display()),
            None => f.write_str(self.endpoint.base()),
        }
    }
}

const SETTING: &str = "address";

#[cfg(test)]
mod tests {
    use kms_core::ErrorKind;

    use super::*;

    #[test]
    fn plain_http_is_for_loopback_addresses() {
        for address in [
            "https://vault.example.com:8200",
            "https://10.0.0.1",
            "https://h/prefix/",
            "http://127.0.0.1:8200",
            "http://127.9.9.9",
            "http://[::1]:8200",
            "http://localhost:8200",
        ] {
            Address::parse(address, PlainHttp::OnLoopback)
                .unwrap_or_else(|error| panic!("{address}: {error}"));
        }
        for address in [
            "http://vault.example.com:8200",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
        ] {
            let refused = Address::parse(address, PlainHttp::OnLoopback)
                .err()
                .unwrap();
            assert_eq!(refused.kind(), ErrorKind::InvalidConfiguration, "{address}");
            assert!(
                Address::parse(address, PlainHttp::Anywhere).is_ok(),
                "{address}"
            );
        }
    }

    #[test]
    fn what_is_no_plain_address_is_refused_and_not_repeated() {
        for address in [
            "",
            "vault",
            "vault.example.com:8200",
            "unix://",
            "unix:///",
            "unix://run/vault.sock",
            "unix:///run/vault.sock?token=hunter2",
            "ftp://h",
            "https://",
            "https://user:hunter2@h",
            "https://h?token=hunter2",
            "https://h#hunter2",
        ] {
            let refused = Address::parse(address, PlainHttp::Anywhere).err().unwrap();
            assert_eq!(refused.kind(), ErrorKind::InvalidConfiguration, "{address}");
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_server_name_stands_in_the_url_and_the_host_in_the_header() {
        let address = Address::parse("https://10.0.0.1:8200/prefix", PlainHttp::OnLoopback);
        let address = address.unwrap();
        let (url, header, host) = address.under(Some("vault.internal")).unwrap();
        assert_eq!(url, "https://vault.internal:8200/prefix");
        assert_eq!(header.unwrap(), "10.0.0.1:8200");
        assert_eq!(host.unwrap(), "10.0.0.1");
        for name in ["10.0.0.2", "[::1]", "a b", "a/b", "a:1", "A.example.com"] {
            assert!(address.under(Some(name)).is_err(), "{name}");
        }
    }
}
