//! The root wrapper over a key on a token.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kms_core::service::misconfigured;
use kms_core::{Blob, Claim, Envelope, Error, ErrorKind, Ownership, Result, SecretBytes, Wrapper};

use crate::builder::Pkcs11WrapperBuilder;
use crate::identity::Identity;
use crate::sessions::Sessions;
use crate::target::Target;
use crate::wrapper::mode::{Pkcs11Mode, Shape};

pub(crate) mod mode;

/// A root wrapper whose key is on a PKCS#11 token and never leaves it.
///
/// # The key
///
/// It is the one AES key on the token that has the configured label and id; none, or more than one, is an error.
/// Blobs carry its whole identity: serial number of the token, `CKA_LABEL`, `CKA_ID`, and the check value
/// (`CKA_CHECK_VALUE`, three bytes of an encryption of zeros) where the token has it.
///
/// The key that was found first is the wrapper's for its life. If the name stands for another one later, every call is
/// [`ErrorKind::UnknownRootKey`] and names both. To move to another key, use a pool, [`kms_core::PooledWrapper`].
///
/// # Ownership
///
/// A blob is its own if it carries the key's identity. A blob of another check value is not. One of the same check
/// value under another label, or of another token, may be of a copy of the key: [`Ownership::Unknown`]. So are all
/// blobs of PKCS#11 before the token was first asked, since a label is not a key; [`preflight`](Wrapper::preflight)
/// asks it.
///
/// # Sessions
///
/// Each is in a thread of its own, since the calls of PKCS#11 block; at most as many as
/// [`sessions`](Pkcs11WrapperBuilder::sessions) says, those included in which the token hangs. The
/// [limits](Pkcs11WrapperBuilder::limits) are kept on this side, whatever the token does. A session that was lost
/// (its token removed and back, logged out or closed by other code of the process) is opened anew by the call that
/// finds out. Dropping the wrapper waits up to a second for its threads to close theirs: a process must not exit while
/// one of its threads is in a module.
///
/// PKCS#11 logs a whole process in, not a session: as long as one session of the process is logged in to a token, all
/// are, with whatever PIN. A PIN that a token refused is not sent again by this process.
///
/// # Security
///
/// Buffers of this crate that hold a plaintext or a fresh key are wiped. Those of the module, and those in which
/// `cryptoki` reads an unwrapped fresh key, are not this crate's to wipe. A module is code of its maker that runs in
/// this process.
///
/// # Errors
///
/// | kind | when |
/// |---|---|
/// | [`Unreachable`](ErrorKind::Unreachable) | no such token is there, `CKR_TOKEN_NOT_PRESENT`, `CKR_DEVICE_REMOVED`, `CKR_DEVICE_ERROR`, `CKR_GENERAL_ERROR`, `CKR_FUNCTION_FAILED`, a session that can't be had |
/// | [`TimedOut`](ErrorKind::TimedOut) | an attempt or the deadline ran out |
/// | [`Throttled`](ErrorKind::Throttled) | `CKR_SESSION_COUNT`, `CKR_DEVICE_MEMORY` |
/// | [`Denied`](ErrorKind::Denied) | no PIN, `CKR_PIN_INCORRECT`, `CKR_PIN_LOCKED`, `CKR_PIN_EXPIRED`, `CKR_USER_NOT_LOGGED_IN` after a login |
/// | [`UnknownRootKey`](ErrorKind::UnknownRootKey) | the token has no object of this name, or another key than before |
/// | [`UnsuitableRootKey`](ErrorKind::UnsuitableRootKey) | it is no AES key, `CKR_KEY_FUNCTION_NOT_PERMITTED`, `CKR_MECHANISM_INVALID`, a token that can't do what the mode needs |
/// | [`ForeignRootKey`](ErrorKind::ForeignRootKey) | the blob names another key |
/// | [`AuthenticationFailed`](ErrorKind::AuthenticationFailed) | wrong `aad`, a damaged blob, one of another key |
/// | [`InvalidBlob`](ErrorKind::InvalidBlob) | a blob of another shape; `CKR_DATA_LEN_RANGE`, a plaintext that the token can't take |
/// | [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) | a module that can't be loaded or used by threads; two tokens or keys of the same name |
/// | [`Internal`](ErrorKind::Internal) | any other code, those of makers included |
///
/// The [`source`](std::error::Error::source) is a [`ServiceError`](crate::ServiceError) where the token told the cause.
pub struct Pkcs11Wrapper {
    target: Arc<Target>,
    sessions: Sessions,
    mode: Pkcs11Mode,
    /// Needed for envelopes only.
    envelope: Option<Envelope>,
}

impl Pkcs11Wrapper {
    /// Starts a wrapper without any setting.
    pub fn builder() -> Pkcs11WrapperBuilder {
        Pkcs11WrapperBuilder::new()
    }

    /// Starts a wrapper with what the environment says now: see
    /// [`Pkcs11WrapperBuilder`](Pkcs11WrapperBuilder#environment-variables).
    pub fn from_env() -> Pkcs11WrapperBuilder {
        Pkcs11WrapperBuilder::from_env()
    }

    pub(crate) fn new(
        target: Arc<Target>,
        sessions: Sessions,
        mode: Pkcs11Mode,
        envelope: Option<Envelope>,
    ) -> Self {
        Self {
            target,
            sessions,
            mode,
            envelope,
        }
    }

    async fn encrypted(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let plaintext = SecretBytes::new(plaintext.to_vec());
        let aad = aad.to_vec();
        let (mode, envelope) = (self.mode, self.envelope.clone());
        self.sessions
            .call(move |token| {
                let plaintext = plaintext.expose();
                let key_id = token.identity.to_string();
                match mode {
                    Pkcs11Mode::Direct => {
                        let (nonce, ciphertext) = token.encrypt(plaintext, &aad)?;
                        Ok(Blob::new(ciphertext, key_id).with_iv(nonce))
                    }
                    Pkcs11Mode::Envelope => {
                        let sealed = needed(envelope.as_ref())?.seal(plaintext, &aad)?;
                        let wrapped = token.wrap(sealed.key())?;
                        Ok(sealed.into_blob(key_id, wrapped))
                    }
                }
            })
            .await
    }

    async fn decrypted(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let shape = Shape::of(blob)?;
        let made_by = Identity::parse(blob.key_id()).ok_or_else(|| foreign(blob))?;
        let (blob, aad) = (blob.clone(), aad.to_vec());
        let envelope = self.envelope.clone();
        self.sessions
            .call(move |token| {
                if token.identity.made(&made_by) == Ownership::No {
                    return Err(foreign(&blob).with_context("configured_key_id", &token.identity));
                }
                match &shape {
                    Shape::Direct(nonce) => token.decrypt(nonce, blob.ciphertext(), &aad),
                    Shape::Envelope => {
                        let envelope = needed(envelope.as_ref())?;
                        let fresh = token.unwrap(blob.wrapped_key())?;
                        envelope.open(&blob, &fresh, &aad)
                    }
                }
            })
            .await
    }

    fn named(&self, error: Error, operation: &'static str) -> Error {
        let error = error.with_operation(operation);
        match self.key_id() {
            Some(id) => error.with_context("root_key_id", id),
            None => error,
        }
    }
}

fn needed(envelope: Option<&Envelope>) -> Result<&Envelope> {
    envelope.ok_or_else(|| {
        misconfigured("the blob was made in envelope mode; give the wrapper's builder an aead")
    })
}

fn foreign(blob: &Blob) -> Error {
    Error::new(ErrorKind::ForeignRootKey).with_context("root_key_id", blob.key_id())
}

#[async_trait]
impl Wrapper for Pkcs11Wrapper {
    fn kind(&self) -> &'static str {
        "pkcs11"
    }

    fn key_id(&self) -> Option<String> {
        self.target.seen().map(|key| key.to_string())
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        match (Identity::parse(blob.key_id()), self.target.seen()) {
            (None, _) => Ownership::No,
            (Some(_), None) => Ownership::Unknown,
            (Some(made_by), Some(own)) => own.made(&made_by),
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
    }

    /// What is configured is a name that the token resolves. Blobs carry the identity of the key that it found, with its
    /// check value.
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::by_alias(self.target.described())]
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let outcome = self.encrypted(plaintext, aad).await;
        outcome.map_err(|error| self.named(error, "encrypt"))
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let outcome = self.decrypted(blob, aad).await;
        outcome.map_err(|error| self.named(error, "decrypt"))
    }
}

impl fmt::Debug for Pkcs11Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Wrapper")
            .field("target", &self.target)
            .field("mode", &self.mode)
            .field("limits", self.sessions.limits())
            .finish_non_exhaustive()
    }
}
