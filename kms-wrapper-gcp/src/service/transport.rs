//! HTTP to the service: one request, one answer.

use bytes::Bytes;
use kms_core::service::damaged;
use kms_core::{Error, ErrorKind, Result};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::failure;
use crate::key_name::KeyName;
use crate::service::{Operation, Service};

/// What an answer may be longer than its request: room for an error page.
const LONGER: usize = 64 * 1024;

impl Service {
    /// Sends a request about the key. The time it takes is for the caller to limit.
    ///
    /// The library `google-cloudkms1` says what requests and answers look like. Its client is not used: it sends no
    /// headers but the token, knows no proxy, and joins plaintext into its errors.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        client: &reqwest::Client,
        operation: Operation,
        request: &impl Serialize,
    ) -> Result<T> {
        let body = encoded(request)?;
        let limit = LONGER + 2 * body.len();
        let response = client
            .post(url(self.endpoint.base(), &self.key, operation))
            .headers(self.logins.headers().await?)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Bytes::from_owner(body))
            .send()
            .await
            .map_err(failure::unreachable)?;
        let status = response.status();
        let body = read(response, limit).await?;
        if status.is_success() {
            parsed(&body)
        } else {
            Err(failure::refused(operation, status.as_u16(), &body))
        }
    }
}

fn url(base: &str, key: &KeyName, operation: Operation) -> String {
    format!("{base}/v1/{}:{}?alt=json", key.as_str(), operation.verb())
}

fn encoded(request: &impl Serialize) -> Result<Zeroizing<Vec<u8>>> {
    serde_json::to_vec(request)
        .map(Zeroizing::new)
        .map_err(|_| {
            Error::new(ErrorKind::Internal).with_detail("the request can't be put into JSON")
        })
}

/// The body, in one buffer that is wiped and that never grows, since a grown one leaves its older parts behind.
async fn read(mut response: Response, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut body = Zeroizing::new(Vec::with_capacity(limit));
    while let Some(part) = response.chunk().await.map_err(failure::unreachable)? {
        if body.len() + part.len() > limit {
            return Err(damaged(
                "it is longer than an answer to this request can be",
            ));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The parser's error is left out: it quotes what it could not read, and that may be the plaintext.
fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() {
            Error::new(ErrorKind::Unreachable)
                .with_detail("the connection ended in the middle of the answer")
        } else {
            damaged("not an answer of Cloud KMS")
        }
    })
}

#[cfg(test)]
mod tests {
    use google_cloudkms1::api::DecryptResponse;

    use super::*;

    #[test]
    fn an_answer_that_can_not_be_read_leaves_nothing_of_its_text() {
        let text = r#"{"plaintext":"aHVudGVyMg==","plaintextCrc32c":[]}"#;
        let error = parsed::<DecryptResponse>(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DamagedResponse);
        assert!(!format!("{error:?}").contains("aHVudGVyMg"));
        let error = parsed::<DecryptResponse>(b"{\"plain").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
}
