//! Whether requests go through a proxy, and through which.

use hyper_util::client::proxy::matcher::Matcher;
use kms_core::service::{PlainHttp, ProxyUrl, misconfigured};
use kms_core::{Error, Result};
use reqwest::Proxy;

use super::address::Address;
use crate::credential::Hidden;

/// What the environment says about proxies.
#[derive(Clone, Debug, Default)]
pub(super) struct Ambient {
    pub(super) https: Option<Hidden>,
    pub(super) http: Option<Hidden>,
    /// Hosts, domains and networks that are reached without one.
    pub(super) without: String,
}

/// The proxy for this address. `chosen` wins over the environment; its `None` is a choice too.
///
/// The environment never sends to a proxy what stays on this machine, as in Go.
///
/// # Errors
///
/// `InvalidConfiguration` for what is not the URL of a proxy, and where it would read token and keys.
pub(super) fn find(
    chosen: Option<Option<Hidden>>,
    ambient: &Ambient,
    address: &Address,
    plain_http: PlainHttp,
) -> Result<Option<Proxy>> {
    let found = match chosen {
        Some(chosen) => chosen,
        None if address.is_local() => None,
        None => ambient.proxy_of(address)?,
    };
    let Some(text) = found else { return Ok(None) };
    let proxy = ProxyUrl::parse(text.expose(), SETTING)?;
    if address.socket().is_some() {
        return Err(refused("no proxy leads to a Unix socket"));
    }
    proxy.check_for(address.endpoint(), plain_http)?;
    let proxy = Proxy::all(proxy.url().clone());
    proxy
        .map(Some)
        .map_err(|_| refused("there is no such proxy"))
}

impl Ambient {
    fn proxy_of(&self, address: &Address) -> Result<Option<Hidden>> {
        let named = if address.is_https() {
            &self.https
        } else {
            &self.http
        };
        let Some(named) = named else { return Ok(None) };
        let matcher = Matcher::builder()
            .all(ProxyUrl::parse(named.expose(), SETTING)?.url().as_str())
            .no(self.without.as_str())
            .build();
        let destination = address.endpoint().url().as_str().parse();
        let destination = destination.map_err(|_| refused("the address is not one for a proxy"))?;
        Ok(matcher
            .intercept(&destination)
            .is_some()
            .then(|| named.clone()))
    }
}

const SETTING: &str = "proxy";

fn refused(detail: &'static str) -> Error {
    misconfigured(detail).with_context("setting", SETTING)
}

#[cfg(test)]
mod tests {
    use kms_core::ErrorKind;

    use super::*;

    fn hidden(text: &str) -> Option<Hidden> {
        Some(Hidden::new(text))
    }

    fn ambient(without: &str) -> Ambient {
        Ambient {
            https: hidden("proxy.example.com:3128"),
            http: hidden("http://plain.example.com:3128"),
            without: without.to_owned(),
        }
    }

    fn used(chosen: Option<Option<Hidden>>, without: &str, address: &str) -> bool {
        let address = Address::parse(address, PlainHttp::Anywhere).unwrap();
        let found = find(chosen, &ambient(without), &address, PlainHttp::Anywhere);
        found.unwrap().is_some()
    }

    #[test]
    fn the_environment_s_proxy_is_used_but_for_what_it_excepts_and_this_machine() {
        let vault = "https://vault.example.com:8200";
        assert!(used(None, "", vault));
        assert!(used(None, "vault.example.org,10.0.0.0/8", vault));
        for without in [
            "*",
            "example.com",
            ".example.com",
            "other, vault.example.com",
        ] {
            assert!(!used(None, without, vault), "{without}");
        }
        assert!(used(None, "", "https://10.1.2.3"));
        assert!(!used(None, "10.0.0.0/8", "https://10.1.2.3"));
        assert!(used(None, "", "http://vault.example.com"));
        for local in [
            "https://127.0.0.1:8200",
            "https://localhost",
            "http://[::1]",
            "unix:///run/vault.sock",
        ] {
            assert!(!used(None, "", local), "{local}");
        }
    }

    #[test]
    fn a_choice_in_code_wins_over_the_environment() {
        let vault = "https://vault.example.com:8200";
        assert!(!used(Some(None), "", vault));
        let chosen = || Some(hidden("http://user:hunter2@other.example.com"));
        assert!(used(chosen(), "*", vault));
        assert!(used(chosen(), "", "https://127.0.0.1:8200"));
    }

    #[test]
    fn what_is_no_proxy_or_reads_what_is_secret_is_refused_and_not_repeated() {
        let proxy = "http://user:hunter2@proxy.example.com:3128";
        for (proxy, address) in [
            ("socks5://hunter2", "https://vault.example.com"),
            ("http://", "https://vault.example.com"),
            ("a b hunter2", "https://vault.example.com"),
            (proxy, "unix:///run/vault.sock"),
            (proxy, "http://127.0.0.1:8200"),
        ] {
            let address = Address::parse(address, PlainHttp::OnLoopback).unwrap();
            let found = find(
                Some(hidden(proxy)),
                &ambient(""),
                &address,
                PlainHttp::OnLoopback,
            );
            let error = found.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{proxy}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        let address = Address::parse("http://127.0.0.1:8200", PlainHttp::OnLoopback).unwrap();
        let local = hidden("http://127.0.0.1:3128");
        find(Some(local), &ambient(""), &address, PlainHttp::OnLoopback).unwrap();
    }
}
