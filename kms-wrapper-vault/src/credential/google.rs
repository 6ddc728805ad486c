//! What Google's metadata server says about the machine that this runs on.

use std::time::Duration;

use kms_core::{Error, ErrorKind, Result};

use crate::credential::Hidden;

/// Names another server, in the environment of Google's own libraries too.
const HOST_VARIABLE: &str = "GCE_METADATA_HOST";
const HOST: &str = "metadata.google.internal";
/// The server is on the machine's own network.
const PATIENCE: Duration = Duration::from_secs(2);

/// The identity token of this machine's service account, signed by Google for this audience. It is `Denied` where there
/// is none: this is no machine of Google's, or it has no service account.
pub(super) async fn identity_token(audience: &str) -> Result<Hidden> {
    let host = std::env::var(HOST_VARIABLE).ok();
    let host = host.filter(|host| !host.is_empty());
    let mut url = url::Url::parse(&format!(
        "http://{}/computeMetadata/v1/instance/service-accounts/default/identity",
        host.as_deref().unwrap_or(HOST)
    ))
    .map_err(|cause| refused("GCE_METADATA_HOST is not a host").with_source(cause))?;
    // `full`: Vault looks at the claims about the machine.
    url.query_pairs_mut()
        .append_pair("audience", audience)
        .append_pair("format", "full");
    // Never through a proxy: the token is for whoever holds it.
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|cause| {
            Error::new(ErrorKind::Internal)
                .with_detail("there is no HTTP client")
                .with_source(cause)
        })?;
    let unanswered = |cause: reqwest::Error| {
        Error::new(ErrorKind::Unreachable)
            .with_detail("Google's metadata server does not answer; is this a machine of Google's?")
            .with_source(cause.without_url())
    };
    let answer = client
        .get(url)
        .header("Metadata-Flavor", "Google")
        .send()
        .await
        .map_err(unanswered)?;
    if !answer.status().is_success() {
        return Err(refused(
            "Google's metadata server gives no identity token; has the machine a service account?",
        )
        .with_context("status", answer.status().as_u16()));
    }
    let token = Hidden::new(answer.text().await.map_err(unanswered)?);
    if token.is_sound() {
        Ok(token)
    } else {
        Err(refused("Google's metadata server gave no token"))
    }
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::Denied).with_detail(detail)
}
