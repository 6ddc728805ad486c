//! The requests to Vault: those of `vaultrs`, with what is secret in them wiped, and one that it lacks.

use std::collections::HashMap;

use data_encoding::BASE64;
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::Deserialize;
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest};
use vaultrs::api::transit::requests::{DecryptDataRequest, EncryptDataRequest};
use zeroize::Zeroize as _;

use crate::credential::Hidden;
use crate::key_path::KeyPath;

/// A request whose secret parts are wiped when it goes. Not `Debug`: those of `vaultrs` show everything.
pub(crate) struct Request<E: Known>(E);

impl<E: Known> Request<E> {
    pub(crate) fn endpoint(&self) -> &E {
        &self.0
    }

    /// What must not come back in a message.
    pub(crate) fn secret(&self) -> &str {
        self.0.secret()
    }
}

impl<E: Known> Drop for Request<E> {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

/// What is to be known about a request before it is sent.
pub(crate) trait Known {
    /// Whether it goes to where the login is, in whose namespace the token lives.
    const IS_LOGIN: bool = false;

    /// The part that must not show.
    fn secret(&self) -> &str {
        ""
    }

    fn wipe(&mut self) {}
}

/// Encrypts under an existing key, and creates none.
///
/// Transit creates a key that is missing, if the token has the capability `create`: after somebody deleted the
/// root key, the next encryption would silently begin a new one. Convergent encryption without a context is
/// refused where a key would be created, and has no meaning where there is one, so asking for it makes the
/// service itself refuse, whatever the token may do, and without a race.
pub(crate) fn encrypt(key: &KeyPath, plaintext: &[u8], aad: &[u8]) -> Request<EncryptDataRequest> {
    Request(EncryptDataRequest {
        mount: key.mount().to_owned(),
        name: key.name().to_owned(),
        plaintext: BASE64.encode(plaintext),
        associated_data: associated_data(aad),
        convergent_encryption: Some("true".to_owned()),
        ..EncryptDataRequest::default()
    })
}

pub(crate) fn decrypt(key: &KeyPath, ciphertext: &str, aad: &[u8]) -> Request<DecryptDataRequest> {
    Request(DecryptDataRequest {
        mount: key.mount().to_owned(),
        name: key.name().to_owned(),
        ciphertext: ciphertext.to_owned(),
        associated_data: associated_data(aad),
        ..DecryptDataRequest::default()
    })
}

pub(crate) fn app_role_login(
    mount: &str,
    role_id: &str,
    secret_id: Option<&Hidden>,
) -> Request<LoginWithApproleRequest> {
    Request(LoginWithApproleRequest {
        mount: mount.to_owned(),
        role_id: role_id.to_owned(),
        secret_id: secret_id.map_or("", Hidden::expose).to_owned(),
    })
}

/// The logins of `kubernetes`, `jwt` and their like are all alike.
pub(crate) fn jwt_login(
    mount: &str,
    role: &str,
    jwt: &Hidden,
) -> Request<LoginWithKubernetesRequest> {
    Request(LoginWithKubernetesRequest {
        mount: mount.to_owned(),
        role: role.to_owned(),
        jwt: jwt.expose().to_owned(),
    })
}

pub(crate) fn certificate_login(mount: &str, role: Option<&str>) -> Request<CertificateLogin> {
    Request(CertificateLogin {
        mount: mount.to_owned(),
        role: role.map(str::to_owned),
    })
}

pub(crate) fn lookup_self() -> Request<LookupTokenSelfRequest> {
    Request(LookupTokenSelfRequest {})
}

pub(crate) fn renew_self() -> Request<RenewTokenSelfRequest> {
    Request(RenewTokenSelfRequest::default())
}

pub(crate) fn capabilities(paths: &[String]) -> Request<CapabilitiesSelf> {
    Request(CapabilitiesSelf {
        paths: paths.to_vec(),
    })
}

#[cfg(feature = "aws")]
pub(crate) fn aws_login(
    mount: &str,
    role: &str,
    signed: &crate::auth::aws::SignedIdentity,
) -> Request<vaultrs::api::auth::aws::requests::IamLoginRequest> {
    Request(vaultrs::api::auth::aws::requests::IamLoginRequest {
        mount: mount.to_owned(),
        role: Some(role.to_owned()),
        iam_http_request_method: "POST".to_owned(),
        iam_request_url: signed.url.clone(),
        iam_request_body: signed.body.clone(),
        iam_request_headers: signed.headers.expose().to_owned(),
    })
}

/// That of `vaultrs` names the role by a field that the service doesn't know.
pub(crate) struct CertificateLogin {
    mount: String,
    role: Option<String>,
}

/// What the token may do on these paths.
pub(crate) struct CapabilitiesSelf {
    paths: Vec<String>,
}

/// Capabilities by path.
#[derive(Debug, Deserialize)]
pub(crate) struct Capabilities(HashMap<String, serde_json::Value>);

impl Capabilities {
    pub(crate) fn on(&self, path: &str) -> Vec<&str> {
        self.0
            .get(path)
            .and_then(|listed| listed.as_array())
            .map(|listed| listed.iter().filter_map(|name| name.as_str()).collect())
            .unwrap_or_default()
    }

    pub(crate) fn allow(&self, path: &str, capability: &str) -> bool {
        self.on(path)
            .iter()
            .any(|name| *name == capability || *name == "root")
    }
}

impl Endpoint for CapabilitiesSelf {
    type Response = Capabilities;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        "sys/capabilities-self".to_owned()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let body = serde_json::json!({ "paths": self.paths });
        Ok(Some(body.to_string().into_bytes()))
    }
}

impl Endpoint for CertificateLogin {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        format!("auth/{}/login", self.mount)
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let body = match &self.role {
            Some(role) => serde_json::json!({ "name": role }),
            None => serde_json::json!({}),
        };
        Ok(Some(body.to_string().into_bytes()))
    }
}

impl Known for EncryptDataRequest {
    fn secret(&self) -> &str {
        &self.plaintext
    }

    fn wipe(&mut self) {
        self.plaintext.zeroize();
    }
}

impl Known for DecryptDataRequest {
    fn secret(&self) -> &str {
        &self.ciphertext
    }

    fn wipe(&mut self) {
        self.ciphertext.zeroize();
    }
}

impl Known for LoginWithApproleRequest {
    const IS_LOGIN: bool = true;

    fn secret(&self) -> &str {
        &self.secret_id
    }

    fn wipe(&mut self) {
        self.secret_id.zeroize();
    }
}

impl Known for LoginWithKubernetesRequest {
    const IS_LOGIN: bool = true;

    fn secret(&self) -> &str {
        &self.jwt
    }

    fn wipe(&mut self) {
        self.jwt.zeroize();
    }
}

impl Known for LookupTokenSelfRequest {
    const IS_LOGIN: bool = true;
}

impl Known for RenewTokenSelfRequest {
    const IS_LOGIN: bool = true;
}

#[cfg(feature = "aws")]
impl Known for vaultrs::api::auth::aws::requests::IamLoginRequest {
    const IS_LOGIN: bool = true;

    fn secret(&self) -> &str {
        &self.iam_request_headers
    }

    fn wipe(&mut self) {
        self.iam_request_headers.zeroize();
    }
}

impl Known for CertificateLogin {
    const IS_LOGIN: bool = true;
}

impl Known for CapabilitiesSelf {}

fn associated_data(aad: &[u8]) -> Option<String> {
    (!aad.is_empty()).then(|| BASE64.encode(aad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encryption_carries_the_guard_against_creating_a_key() {
        let key = KeyPath::new("transit", "app").unwrap();
        let body = encrypt(&key, b"plain", b"aad")
            .endpoint()
            .body()
            .unwrap()
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "plaintext": "cGxhaW4=",
                "associated_data": "YWFk",
                "convergent_encryption": "true",
            })
        );
    }

    #[test]
    fn root_is_all_capabilities() {
        let listed = |json| serde_json::from_value::<Capabilities>(json).unwrap();
        let root = listed(serde_json::json!({ "p": ["root"], "capabilities": ["root"] }));
        assert!(root.allow("p", "update"));
        let other = listed(serde_json::json!({ "p": ["deny"] }));
        assert!(!other.allow("p", "update") && !other.allow("q", "update"));
    }
}
