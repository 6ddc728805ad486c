//! The variables of Go's wrapper and of the AWS tools.

use kms_core::Result;
use kms_core::service::misconfigured;
use zeroize::Zeroizing;

use crate::builder::keys::Keys;

/// What the environment said when it was asked; nothing by default.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) key_id: Option<String>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<Zeroizing<String>>,
    session_token: Option<Zeroizing<String>>,
}

impl Environment {
    pub(super) fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        let endpoint = set("AWS_KMS_ENDPOINT").map(|url| {
            if url.contains("://") {
                url
            } else {
                format!("https://{url}")
            }
        });
        Self {
            key_id: set("AWSKMS_WRAPPER_KEY_ID").or_else(|| set("VAULT_AWSKMS_SEAL_KEY_ID")),
            region: set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")),
            endpoint,
            access_key_id: set("AWS_ACCESS_KEY_ID"),
            secret_access_key: set("AWS_SECRET_ACCESS_KEY").map(Zeroizing::new),
            session_token: set("AWS_SESSION_TOKEN").map(Zeroizing::new),
        }
    }

    /// The credentials and their token, if there are any.
    pub(super) fn credentials(self) -> Result<Option<(Keys, Option<Zeroizing<String>>)>> {
        match (self.access_key_id, self.secret_access_key) {
            (Some(id), Some(secret)) => Ok(Some((Keys::new(id, secret), self.session_token))),
            (None, None) => Ok(None),
            _ => Err(misconfigured(
                "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set",
            )),
        }
    }
}

/// How often the SDK would ask at most.
pub(super) fn attempts(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<u32>> {
    const NAME: &str = "AWS_MAX_ATTEMPTS";
    let text = lookup(NAME).filter(|value| !value.is_empty());
    text.map(|text| text.parse())
        .transpose()
        .map_err(|_| misconfigured("not a number of attempts").with_context("variable", NAME))
}

#[cfg(test)]
mod tests {
    use kms_core::ErrorKind;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_first_variable_that_is_not_empty_counts() {
        let environment = read(&[
            ("AWSKMS_WRAPPER_KEY_ID", ""),
            ("VAULT_AWSKMS_SEAL_KEY_ID", "alias/old"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_DEFAULT_REGION", "eu-west-2"),
        ]);
        assert_eq!(environment.key_id.as_deref(), Some("alias/old"));
        assert_eq!(environment.region.as_deref(), Some("eu-west-1"));
        assert_eq!(environment.endpoint, None);
        let environment = read(&[
            ("AWSKMS_WRAPPER_KEY_ID", "alias/new"),
            ("VAULT_AWSKMS_SEAL_KEY_ID", "alias/old"),
            ("AWS_DEFAULT_REGION", "eu-west-2"),
        ]);
        assert_eq!(environment.key_id.as_deref(), Some("alias/new"));
        assert_eq!(environment.region.as_deref(), Some("eu-west-2"));
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_https() {
        for (value, expected) in [
            ("kms.example.com:8443", "https://kms.example.com:8443"),
            ("http://localhost:4566", "http://localhost:4566"),
        ] {
            let environment = read(&[("AWS_KMS_ENDPOINT", value)]);
            assert_eq!(environment.endpoint.as_deref(), Some(expected));
        }
    }

    #[test]
    fn half_a_pair_of_credentials_is_refused() {
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            let error = read(&[(name, "half")]).credentials().err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        }
        assert!(read(&[]).credentials().unwrap().is_none());
    }
}
