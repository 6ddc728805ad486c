//! Why a token that lives was refused.

use kms_core::{Error, ErrorKind};

use crate::failure::ServiceError;
use crate::key_path::KeyPath;
use crate::request::{self, Capabilities};
use crate::session::Session;
use crate::session::token::Token;

/// What is done with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Encrypt,
    Decrypt,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
        }
    }
}

/// A refusal, and what the token may do on the path.
pub(super) struct Refused {
    pub(super) refusal: ServiceError,
    pub(super) capabilities: Capabilities,
}

/// A ciphertext only in form, to find out whether there is a key.
const NO_CIPHERTEXT: &str = "vault:v1:AAAA";

impl Session {
    /// "Permission denied" is the answer to a right that is missing; to an encryption under a missing key, which
    /// transit takes for the key's creation; and to a parameter that a policy forbids.
    pub(super) async fn explain(
        &self,
        refused: Refused,
        token: &Token,
        key: &KeyPath,
        operation: Operation,
    ) -> Error {
        let Refused {
            refusal,
            capabilities,
        } = refused;
        let path = key.of(operation.name());
        if !capabilities.allow(&path, "update") {
            return refusal
                .into_error()
                .with_context("permission", format!("update on {path}"));
        }
        let may_be_missing =
            operation == Operation::Encrypt && !capabilities.allow(&path, "create");
        let exists = if may_be_missing {
            self.finds(key, token).await
        } else {
            Some(true)
        };
        let (kind, detail) = match exists {
            Some(false) => (
                ErrorKind::UnknownRootKey,
                "and the token may not create it, which is as it should be",
            ),
            Some(true) => (
                ErrorKind::Denied,
                "the token may update the path, so something else than its capabilities refuses the request: a policy's allowed_parameters or denied_parameters, say",
            ),
            None => (
                ErrorKind::Denied,
                "the token may update the path: either there is no such key, or a policy's allowed_parameters or denied_parameters refuse the request",
            ),
        };
        Error::new(kind)
            .with_detail(detail)
            .with_context("path", path)
            .with_source(refusal)
    }

    /// Whether there is such a key, as a decryption tells: that one creates none. `None` if nothing tells.
    async fn finds(&self, key: &KeyPath, token: &Token) -> Option<bool> {
        let probe = request::decrypt(key, NO_CIPHERTEXT, b"");
        match self.transport.send(&probe, token.sent()).await {
            Ok(Err(message)) if message.status() == 400 => Some(!message.names_no_key()),
            _ => None,
        }
    }
}
