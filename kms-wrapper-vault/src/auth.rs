//! How the wrapper comes by its token.

use std::path::PathBuf;

use kms_core::{Error, ErrorKind, Result};

use crate::credential::{Credential, Hidden};
use crate::key_path::check_mount;

#[cfg(feature = "aws")]
pub(crate) mod aws;

/// Where Kubernetes puts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How the wrapper comes by its token.
///
/// | way | renewed | after its end, or when it was revoked |
/// |---|---|---|
/// | [`token`](Self::token) | in the background, as long as the service allows it | calls are [`Denied`](ErrorKind::Denied); a new wrapper is needed |
/// | [`token_file`](Self::token_file) | by whoever writes the file | the file is read again |
/// | [`agent`](Self::agent) | by the agent | that is the agent's part |
/// | the others, which log in | in the background | logs in again |
///
/// Files are read when they are needed, and anew each time. `Debug` shows no token and no secret id.
///
/// ```
/// use kms_wrapper_vault::Auth;
///
/// let auth = Auth::app_role("c3f1…", "7b9a…").mount("approle-prod");
/// assert!(!format!("{auth:?}").contains("7b9a"));
/// ```
#[derive(Clone, Debug)]
pub struct Auth {
    method: Method,
    mount: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Method {
    Token(Credential),
    Agent,
    AppRole {
        role_id: String,
        secret_id: Option<Credential>,
    },
    /// A role and a signed statement of who asks: `kubernetes`, `jwt`, …
    Jwt {
        method: &'static str,
        role: String,
        jwt: Credential,
    },
    Certificate {
        role: Option<String>,
    },
    #[cfg(feature = "aws")]
    Aws(aws::AwsIam),
}

impl Auth {
    /// This token.
    #[must_use]
    pub fn token(token: impl Into<String>) -> Self {
        Self::of(Method::Token(Credential::Text(Hidden::new(token))))
    }

    /// The token in this file, such as the sink of Vault Agent. It is read again when the service no longer takes
    /// the token, so that a new one needs no restart. It is not renewed: that is the agent's part.
    #[must_use]
    pub fn token_file(path: impl Into<PathBuf>) -> Self {
        Self::of(Method::Token(Credential::File(path.into())))
    }

    /// None of ours: the address is that of an agent (Vault Agent, Vault Proxy, OpenBao's) on this machine that adds
    /// its own token to requests without one (`use_auto_auth_token`). What it may do, whoever reaches the agent may do.
    #[must_use]
    pub fn agent() -> Self {
        Self::of(Method::Agent)
    }

    /// A login by [AppRole](https://developer.hashicorp.com/vault/docs/auth/approle), mounted at `approle` unless
    /// [`mount`](Self::mount) says otherwise. The secret id must allow more than one login.
    #[must_use]
    pub fn app_role(role_id: impl Into<String>, secret_id: impl Into<String>) -> Self {
        Self::of(Method::AppRole {
            role_id: role_id.into(),
            secret_id: Some(Credential::Text(Hidden::new(secret_id))),
        })
    }

    /// As [`app_role`](Self::app_role), with the secret id in a file that is read at each login.
    #[must_use]
    pub fn app_role_with_secret_file(role_id: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::of(Method::AppRole {
            role_id: role_id.into(),
            secret_id: Some(Credential::File(path.into())),
        })
    }

    /// As [`app_role`](Self::app_role), for a role that wants no secret id (`bind_secret_id=false`) and tells clients by
    /// their network addresses alone.
    #[must_use]
    pub fn app_role_without_secret(role_id: impl Into<String>) -> Self {
        Self::of(Method::AppRole {
            role_id: role_id.into(),
            secret_id: None,
        })
    }

    /// A login with the pod's service account
    /// ([Kubernetes](https://developer.hashicorp.com/vault/docs/auth/kubernetes)), mounted at `kubernetes` unless
    /// [`mount`](Self::mount) says otherwise.
    #[must_use]
    pub fn kubernetes(role: impl Into<String>) -> Self {
        Self::kubernetes_with_token_file(role, SERVICE_ACCOUNT_TOKEN)
    }

    /// As [`kubernetes`](Self::kubernetes), with the service account's token (JWT) in another file, a projected
    /// volume's say.
    #[must_use]
    pub fn kubernetes_with_token_file(role: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::of(Method::Jwt {
            method: "kubernetes",
            role: role.into(),
            jwt: Credential::File(path.into()),
        })
    }

    /// A login with a token that an issuer of
    /// [JWT or OIDC](https://developer.hashicorp.com/vault/docs/auth/jwt) signed, in a file that is read at each login:
    /// a CI job's, a SPIFFE agent's. Mounted at `jwt` unless [`mount`](Self::mount) says otherwise.
    #[must_use]
    pub fn jwt_file(role: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::of(Method::Jwt {
            method: "jwt",
            role: role.into(),
            jwt: Credential::File(path.into()),
        })
    }

    /// A login with the client's [TLS certificate](https://developer.hashicorp.com/vault/docs/auth/cert), which the
    /// builder must name too. Mounted at `cert` unless [`mount`](Self::mount) says otherwise. The service finds the role
    /// that the certificate matches.
    #[must_use]
    pub fn certificate() -> Self {
        Self::of(Method::Certificate { role: None })
    }

    /// As [`certificate`](Self::certificate), with this role and no other.
    #[must_use]
    pub fn certificate_of_role(role: impl Into<String>) -> Self {
        Self::of(Method::Certificate {
            role: Some(role.into()),
        })
    }

    /// A login as the machine of [Google Cloud](https://developer.hashicorp.com/vault/docs/auth/gcp) that this runs on,
    /// with a role of the type `gce`. Mounted at `gcp` unless [`mount`](Self::mount) says otherwise.
    #[must_use]
    pub fn gcp_instance(role: impl Into<String>) -> Self {
        let role = role.into();
        Self::of(Method::Jwt {
            method: "gcp",
            jwt: Credential::GoogleInstance(format!("http://vault/{role}")),
            role,
        })
    }

    /// A login as an identity of AWS IAM. Mounted at `aws` unless [`mount`](Self::mount) says otherwise. Needs the feature
    /// `aws`.
    #[cfg(feature = "aws")]
    #[must_use]
    pub fn aws_iam(login: aws::AwsIam) -> Self {
        Self::of(Method::Aws(login))
    }

    /// Where the login method is mounted, without `auth/`.
    #[must_use]
    pub fn mount(mut self, mount: impl Into<String>) -> Self {
        self.mount = Some(mount.into());
        self
    }

    fn of(method: Method) -> Self {
        Self {
            method,
            mount: None,
        }
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The mount of the login method.
    pub(crate) fn login_mount(&self) -> &str {
        let default = match self.method {
            Method::Token(_) | Method::Agent => "token",
            Method::AppRole { .. } => "approle",
            Method::Jwt { method, .. } => method,
            Method::Certificate { .. } => "cert",
            #[cfg(feature = "aws")]
            Method::Aws(_) => "aws",
        };
        self.mount
            .as_deref()
            .map_or(default, |mount| mount.trim_matches('/'))
    }

    /// Whether a new token can be had by logging in.
    pub(crate) fn logs_in(&self) -> bool {
        !matches!(self.method, Method::Token(_) | Method::Agent)
    }

    /// Whether the client has to show a certificate.
    pub(crate) fn needs_certificate(&self) -> bool {
        matches!(self.method, Method::Certificate { .. })
    }

    /// Whether somebody else renews the token.
    pub(crate) fn is_kept_by_others(&self) -> bool {
        matches!(self.method, Method::Token(Credential::File(_)))
    }

    /// Refuses what can't work, without reading a file.
    pub(crate) fn check(&self) -> Result<()> {
        let name = |text: &str, what| {
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                Err(refused("it is empty or blank").with_context("credential", what))
            } else {
                Ok(())
            }
        };
        if !self.logs_in() && self.mount.is_some() {
            return Err(refused("without a login there is no login mount"));
        }
        match &self.method {
            Method::Token(token) => token.check("token")?,
            Method::Agent | Method::Certificate { role: None } => {}
            Method::AppRole { role_id, secret_id } => {
                name(role_id, "role_id")?;
                if let Some(secret_id) = secret_id {
                    secret_id.check("secret_id")?;
                }
            }
            Method::Jwt { role, jwt, .. } => {
                name(role, "role")?;
                jwt.check("jwt")?;
            }
            Method::Certificate { role: Some(role) } => name(role, "role")?,
            #[cfg(feature = "aws")]
            Method::Aws(login) => {
                for (text, what) in login.names() {
                    name(text, what)?;
                }
            }
        }
        check_mount(self.login_mount(), "login_mount")
    }
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}
