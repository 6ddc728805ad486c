//! HTTP to the service: one request, one answer.

use bytes::Bytes;
use kms_core::service::damaged;
use kms_core::{Error, ErrorKind, Result};
use reqwest::StatusCode;
use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use rustify::endpoint::Endpoint;
use vaultrs::api::EndpointResult;
use zeroize::Zeroizing;

use crate::credential::Hidden;
use crate::failure::ServiceError;
use crate::request::{Known, Request};
use crate::transport::clients::Clients;

pub(crate) mod clients;
mod handshake;
pub(crate) mod pem;
pub(crate) mod tls;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault's own agents refuse requests without it, against forged requests of browsers.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// What an answer may be longer than its request: room for an error page.
const LONGER: usize = 64 * 1024;

/// Sends the requests of `vaultrs` with a client of our own.
///
/// `vaultrs` says what requests and answers look like. Its client is not used: it logs through its own
/// functions, keeps token and plaintext in headers and buffers that nothing wipes, follows redirects with the
/// token, needs `&mut` to change the token, and takes settings that are not given from the environment.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Scheme, host, port and a path prefix if there is one, without a slash at the end.
    base: String,
    headers: HeaderMap,
    /// Of the engine.
    namespace: Option<HeaderValue>,
    /// Of the login, and of the tokens that it gives.
    login_namespace: Option<HeaderValue>,
    clients: Clients,
}

/// What the service answered: what was asked for, or why not.
pub(crate) type Answer<T> = std::result::Result<EndpointResult<T>, ServiceError>;

impl Transport {
    /// `host` is the name in the `Host` header where it is not that of the URL.
    pub(crate) fn new(
        base: &str,
        host: Option<HeaderValue>,
        namespace: Option<HeaderValue>,
        login_namespace: Option<HeaderValue>,
        clients: Clients,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(host) = host {
            headers.insert(HOST, host);
        }
        Self {
            base: base.trim_end_matches('/').to_owned(),
            headers,
            namespace,
            login_namespace,
            clients,
        }
    }

    /// Sends a request. The time it takes is for the caller to limit.
    ///
    /// # Errors
    ///
    /// `Unreachable`, `TimedOut`, and `DamagedResponse` for an answer that is not Vault's.
    pub(crate) async fn send<E: Endpoint + Known>(
        &self,
        request: &Request<E>,
        token: Option<&Hidden>,
    ) -> Result<Answer<E::Response>> {
        let endpoint = request.endpoint();
        // `vaultrs` has a tab at the start of a path.
        let path = endpoint.path();
        let url = format!("{}/v1/{}", self.base, path.trim().trim_matches('/'));
        let body = Zeroizing::new(endpoint.body().map_err(unsendable)?.unwrap_or_default());
        let limit = LONGER + 2 * body.len();

        let mut headers = self.headers.clone();
        let namespace = if E::IS_LOGIN {
            &self.login_namespace
        } else {
            &self.namespace
        };
        if let Some(namespace) = namespace {
            headers.insert(NAMESPACE, namespace.clone());
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(unsendable)?;
            value.set_sensitive(true);
            headers.insert(TOKEN, value);
        }
        let body = Bytes::from_owner(body);
        let mut repeated = false;
        let response = loop {
            let (client, edition) = self.clients.client().await?;
            let sending = client
                .request(endpoint.method().into(), &url)
                .headers(headers.clone())
                .body(body.clone());
            match sending.send().await {
                Ok(response) => break response,
                // The service has seen nothing of the request.
                Err(error) if handshake::failure(&error).is_some() && !repeated => {
                    if !self.clients.renew(edition) {
                        return Err(self.unreachable(error));
                    }
                    repeated = true;
                }
                Err(error) => return Err(self.unreachable(error)),
            }
        };
        let status = response.status();
        let body = self.read(response, limit).await?;
        if status.is_success() && status != StatusCode::NO_CONTENT {
            return parse(&body).map(Ok);
        }
        let secrets = [request.secret(), token.map_or("", Hidden::expose)];
        Ok(Err(ServiceError::read(status.as_u16(), &body, &secrets)))
    }

    /// The body, in one buffer that is wiped and that never grows, since a grown one leaves its older parts behind.
    async fn read(
        &self,
        mut response: reqwest::Response,
        limit: usize,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let mut body = Zeroizing::new(Vec::with_capacity(limit));
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(error))?
        {
            if body.len() + part.len() > limit {
                return Err(damaged(
                    "it is longer than an answer to this request can be",
                ));
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let error = error.without_url();
        match handshake::failure(&error).and_then(handshake::explain) {
            _ if error.is_timeout() => Error::new(ErrorKind::TimedOut),
            Some(failure) if failure.context("certificate") == Some(handshake::OURS) => {
                match self.clients.client_certificate() {
                    Some(file) => failure.with_context("file", file.display()),
                    None => failure,
                }
            }
            Some(failure) => failure,
            None => Error::new(ErrorKind::Unreachable),
        }
        .with_source(error)
    }
}

/// The parser's error is left out: it quotes what it could not read.
fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<EndpointResult<T>> {
    serde_json::from_slice(body).map_err(|error| {
        damaged(format!(
            "it is not the JSON that Vault answers with (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

fn unsendable(_: impl std::error::Error) -> Error {
    Error::new(ErrorKind::Internal).with_detail("the request can't be put into HTTP")
}
