//! Logging in as an identity of AWS IAM.

use std::time::SystemTime;

use aws_config::BehaviorVersion;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use data_encoding::BASE64;
use kms_core::{Error, ErrorKind, Result};

use crate::credential::Hidden;

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const CONTENT_TYPE: (&str, &str) = (
    "content-type",
    "application/x-www-form-urlencoded; charset=utf-8",
);
/// Binds a login to one Vault, where its operator asks for that.
const SERVER_ID: &str = "x-vault-aws-iam-server-id";

/// A login by [AWS IAM](https://developer.hashicorp.com/vault/docs/auth/aws#iam-auth-method), for
/// [`Auth::aws_iam`](crate::Auth::aws_iam): a signed `GetCallerIdentity`, which Vault sends to AWS to find out who signed
/// it.
///
/// The credentials are those of the AWS tools (environment, profile, web identity, instance metadata), found anew at each
/// login.
#[derive(Clone, Debug)]
pub struct AwsIam {
    pub(crate) role: String,
    region: Option<String>,
    server_id: Option<String>,
}

/// The request that Vault sends on: it proves who signed it, for a quarter of an hour.
pub(crate) struct SignedIdentity {
    pub(crate) url: String,
    pub(crate) body: String,
    pub(crate) headers: Hidden,
}

impl AwsIam {
    /// A login with this role of Vault's.
    #[must_use]
    pub fn role(role: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            region: None,
            server_id: None,
        }
    }

    /// The Region whose STS is asked. If not set, the global endpoint, as Vault expects it unless its `sts_endpoint` says
    /// otherwise.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The value of the header that Vault wants where `iam_server_id_header_value` is configured there. A login that was
    /// meant for one Vault is then no use at another.
    #[must_use]
    pub fn server_id(mut self, id: impl Into<String>) -> Self {
        self.server_id = Some(id.into());
        self
    }

    /// What the signature is over, apart from the role.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let region = self.region.as_deref().map(|region| (region, "region"));
        let id = self.server_id.as_deref().map(|id| (id, "server_id"));
        [(self.role.as_str(), "role")]
            .into_iter()
            .chain(region)
            .chain(id)
    }

    pub(crate) async fn sign(&self) -> Result<SignedIdentity> {
        let config = aws_config::defaults(BehaviorVersion::latest()).load().await;
        let provider = config.credentials_provider();
        let provider =
            provider.ok_or_else(|| refused("the AWS tools' settings name no credentials"))?;
        let credentials = provider.provide_credentials().await.map_err(|cause| {
            refused("there are no AWS credentials to log in with").with_source(cause)
        })?;
        let unsigned = |_| refused("the login can't be signed");

        let url = self.url();
        let server_id = self.server_id.as_deref().map(|id| (SERVER_ID, id));
        let headers = [CONTENT_TYPE].into_iter().chain(server_id);
        let identity = credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(self.region.as_deref().unwrap_or("us-east-1"))
            .name("sts")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| refused("the login can't be signed"))?;
        let body = SignableBody::Bytes(BODY.as_bytes());
        let request =
            SignableRequest::new("POST", &url, headers.clone(), body).map_err(unsigned)?;
        let (signed, _) = sign(request, &params.into())
            .map_err(unsigned)?
            .into_parts();
        let all: serde_json::Map<_, _> = headers
            .chain(signed.headers())
            .map(|(name, value)| (name.to_owned(), serde_json::json!([value])))
            .collect();
        let headers = Hidden::new(serde_json::Value::Object(all).to_string());
        Ok(SignedIdentity {
            url: BASE64.encode(url.as_bytes()),
            body: BASE64.encode(BODY.as_bytes()),
            headers: Hidden::new(BASE64.encode(headers.expose().as_bytes())),
        })
    }

    fn url(&self) -> String {
        match &self.region {
            None => "https://sts.amazonaws.com/".to_owned(),
            Some(region) if region.starts_with("cn-") => {
                format!("https://sts.{region}.amazonaws.com.cn/")
            }
            Some(region) => format!("https://sts.{region}.amazonaws.com/"),
        }
    }
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::Denied).with_detail(detail)
}
