//! Credentials that the caller or the environment gave.

use aws_sdk_kms::config::Credentials;
use kms_core::Result;
use kms_core::service::misconfigured;
use zeroize::Zeroizing;

/// An access key and its secret.
pub(super) struct Keys {
    id: String,
    secret: Zeroizing<String>,
}

impl Keys {
    pub(super) fn new(id: String, secret: Zeroizing<String>) -> Self {
        Self { id, secret }
    }

    /// As the SDK takes them.
    pub(super) fn with_token(self, token: Option<Zeroizing<String>>) -> Result<Credentials> {
        let blank = |text: &str| text.trim().is_empty();
        if blank(&self.id)
            || blank(&self.secret)
            || token.as_ref().is_some_and(|token| blank(token))
        {
            return Err(misconfigured("a part of the credentials is empty"));
        }
        // The SDK wipes its copies.
        let mut credentials = Credentials::builder()
            .provider_name("kms-wrapper-aws")
            .access_key_id(self.id)
            .secret_access_key(self.secret.as_str());
        if let Some(token) = token {
            credentials = credentials.session_token(token.as_str());
        }
        Ok(credentials.build())
    }
}
