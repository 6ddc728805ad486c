//! The root wrapper over a key in AWS KMS.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use kms_core::{
    Blob, Claim, ENVELOPE_MECHANISM, Envelope, Error, ErrorKind, KeyBytes, Ownership, Result,
    SecretBytes, Wrapper,
};

use crate::builder::AwsKmsWrapperBuilder;
use crate::key_name::KeyArn;
use crate::service::Service;
use crate::wrapper::mode::{AwsKmsMode, DIRECT_MECHANISM, Shape, check_direct, context, invalid};

pub(crate) mod mode;

const AAD_OF_PREFLIGHT: &[u8] = b"kms preflight";

/// A root wrapper whose key is in AWS KMS and never leaves it.
///
/// Its blobs are those of Go's AWS wrapper: each reads the other's, in both modes. One call to the service
/// encrypts, one decrypts.
///
/// # The key
///
/// It is named by its ARN, its id, an alias (`alias/app`) or an alias' ARN; a name without a Region and an
/// account is looked up in those of the client. Whatever the name, blobs carry the ARN of the key that the
/// service said it used, and [`key_id`](Wrapper::key_id) is the last such ARN, or the configured one before
/// that.
///
/// Decrypting always names the configured key, and the answer must be about it: a blob of another key does not
/// open, even if the same credentials may use that one. Of a multi-Region key (`mrk-…`) each Region's copy
/// opens what another's encrypted.
///
/// When an alias is pointed at another key, this wrapper encrypts with that from then on, and what it encrypted
/// before no longer opens ([`ErrorKind::AuthenticationFailed`]). To move to another key, name both by their
/// ARNs and use a pool, [`kms_core::PooledWrapper`]. (Rotating the key within AWS KMS keeps its ARN,
/// and needs none of this.)
///
/// # Ownership
///
/// A blob is its own by the ARN in it. A wrapper of an alias can't be certain about other keys of the account,
/// since the alias may stand for them by now: [`Ownership::Unknown`].
///
/// # Security
///
/// Plaintext buffers and fresh keys of this crate are wiped. The SDK copies a request's plaintext and an
/// answer's into its own buffers (the request, its JSON, the connection's buffers), and does not wipe those: a
/// fresh key in envelope mode, the plaintext itself in direct mode.
///
/// The SDK writes requests and answers at level `TRACE`, without what is secret in them: this crate sees to the
/// bodies of the requests, the SDK to the rest. Setting the variable `LOG_SENSITIVE_BODIES` makes the SDK write
/// the answers whole, with what was decrypted: don't.
///
/// # Errors
///
/// | kind | when |
/// |---|---|
/// | [`Unreachable`](ErrorKind::Unreachable) | refused, reset, no such host, an answer that broke off, status 500 or 503, `KMSInternalException`, `KeyUnavailableException` |
/// | [`TimedOut`](ErrorKind::TimedOut) | an attempt or the deadline ran out, `DependencyTimeoutException` |
/// | [`Throttled`](ErrorKind::Throttled) | `ThrottlingException`, `LimitExceededException`, status 429 |
/// | [`Denied`](ErrorKind::Denied) | `AccessDeniedException`, bad, expired or no credentials; the context `permission` says which one was needed |
/// | [`UnknownRootKey`](ErrorKind::UnknownRootKey) | `NotFoundException` |
/// | [`RootKeyDisabled`](ErrorKind::RootKeyDisabled) | `DisabledException`, `KMSInvalidStateException`: disabled, pending deletion or import |
/// | [`UnsuitableRootKey`](ErrorKind::UnsuitableRootKey) | `InvalidKeyUsageException`: not a symmetric key for encrypting |
/// | [`DamagedResponse`](ErrorKind::DamagedResponse) | an answer that can't be read, is incomplete or about another key |
/// | [`AuthenticationFailed`](ErrorKind::AuthenticationFailed) | wrong `aad`, a damaged blob, one of another key |
/// | [`InvalidBlob`](ErrorKind::InvalidBlob) | a blob of another shape; a plaintext that direct mode can't take |
/// | [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) | `ValidationException`, an endpoint that isn't AWS KMS, no Region in the default chain |
///
/// The [`source`](std::error::Error::source) is a [`ServiceError`](crate::ServiceError) where the service
/// told the cause.
#[derive(Debug)]
pub struct AwsKmsWrapper {
    service: Service,
    mode: AwsKmsMode,
    /// Needed for envelopes only.
    envelope: Option<Envelope>,
    /// The key that the service used last.
    seen: RwLock<Option<KeyArn>>,
}

impl AwsKmsWrapper {
    /// Starts a wrapper of this key: its ARN, its id, `alias/NAME`, or the alias' ARN.
    pub fn builder(key_id: impl Into<String>) -> AwsKmsWrapperBuilder {
        AwsKmsWrapperBuilder::new(Some(key_id.into()))
    }

    /// Starts a wrapper with what the environment says now: the variables of Go's wrapper and of the AWS tools,
    /// see [`AwsKmsWrapperBuilder`](AwsKmsWrapperBuilder#environment-variables).
    pub fn from_env() -> AwsKmsWrapperBuilder {
        AwsKmsWrapperBuilder::from_env()
    }

    pub(crate) fn new(service: Service, mode: AwsKmsMode, envelope: Option<Envelope>) -> Self {
        Self {
            service,
            mode,
            envelope,
            seen: RwLock::new(None),
        }
    }

    async fn encrypted(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        match self.mode {
            AwsKmsMode::Envelope => {
                let sealed = self.envelope()?.seal(plaintext, aad)?;
                let (key, wrapped) = self.service.encrypt(sealed.key().expose(), &None).await?;
                Ok(sealed.into_blob(self.learn(key)?, wrapped))
            }
            AwsKmsMode::Direct => {
                check_direct(plaintext)?;
                let (key, ciphertext) = self.service.encrypt(plaintext, &context(aad)).await?;
                Ok(Blob::new(ciphertext, self.learn(key)?))
            }
        }
    }

    async fn decrypted(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        match Shape::of(blob)? {
            Shape::Envelope => {
                let envelope = self.envelope()?;
                let (key, fresh) = self.service.decrypt(blob.wrapped_key(), &None).await?;
                self.learn(key)?;
                let fresh = KeyBytes::from_slice(fresh.expose())
                    .map_err(|_| invalid("its wrapped key is not one of 32 bytes"))?;
                envelope.open(blob, &fresh, aad)
            }
            Shape::Direct => {
                let (key, plaintext) = self
                    .service
                    .decrypt(blob.ciphertext(), &context(aad))
                    .await?;
                self.learn(key)?;
                Ok(plaintext)
            }
        }
    }

    fn envelope(&self) -> Result<&Envelope> {
        self.envelope.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfiguration).with_detail(
                "the blob was made in envelope mode; give the wrapper's builder an aead",
            )
        })
    }

    /// Remembers which key the configured name stands for, and returns its ARN.
    fn learn(&self, key: KeyArn) -> Result<String> {
        let arn = key.as_str().to_owned();
        if self.seen().as_ref() == Some(&key) {
            return Ok(arn);
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = seen.as_ref().filter(|before| !before.is_same_key(&key)) {
            if !self.service.name().is_alias() || !before.has_alias_in_common(&key) {
                return Err(Error::new(ErrorKind::DamagedResponse)
                    .with_detail("it is about another key than those before")
                    .with_context("root_key_id", before.as_str())
                    .with_context("answered_key_id", arn));
            }
            tracing::warn!(
                alias = self.service.name().as_str(),
                before = before.as_str(),
                now = key.as_str(),
                "the alias stands for another key now; what the one before encrypted needs a pool to open"
            );
        }
        *seen = Some(key);
        Ok(arn)
    }

    fn seen(&self) -> RwLockReadGuard<'_, Option<KeyArn>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that encrypts, as far as it is known; `None` for the other answers of [`Ownership`].
    fn compare(&self, blob: &Blob, otherwise: Ownership) -> Ownership {
        if !matches!(blob.mechanism(), DIRECT_MECHANISM | ENVELOPE_MECHANISM) {
            return Ownership::No;
        }
        let Some(made_by) = KeyArn::parse(blob.key_id()) else {
            return Ownership::No;
        };
        let name = self.service.name();
        let seen = self.seen();
        match seen.as_ref().or(name.arn()) {
            Some(own) if own.is_same_key(&made_by) => Ownership::Yes,
            Some(own) if name.is_alias() && own.has_alias_in_common(&made_by) => otherwise,
            Some(_) => Ownership::No,
            None if !name.may_be(&made_by) => Ownership::No,
            None if name.is_alias() => Ownership::Unknown,
            None => Ownership::Yes,
        }
    }
}

#[async_trait]
impl Wrapper for AwsKmsWrapper {
    fn kind(&self) -> &'static str {
        "awskms"
    }

    fn key_id(&self) -> Option<String> {
        let seen = self.seen();
        let key = seen.as_ref().or(self.service.name().arn());
        key.map(|key| key.as_str().to_owned())
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        self.compare(blob, Ownership::Unknown)
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.compare(blob, Ownership::No)
    }

    /// Blobs carry the key's ARN, which no other key has, and are claimed by that alone.
    fn claims(&self) -> Vec<Claim> {
        let name = self.service.name();
        vec![match name.arn() {
            Some(arn) => Claim::by_key(arn.as_str()),
            None => Claim::by_alias(name.as_str()),
        }]
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.encrypted(plaintext, aad)
            .await
            .map_err(|error| error.with_operation("encrypt"))
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        self.decrypted(blob, aad)
            .await
            .map_err(|error| error.with_operation("decrypt"))
    }

    async fn preflight(&self) -> Result<()> {
        let check = async {
            let probe = KeyBytes::generate()?;
            let blob = self.encrypted(probe.expose(), AAD_OF_PREFLIGHT).await?;
            let back = self.decrypted(&blob, AAD_OF_PREFLIGHT).await?;
            if back.expose() == probe.expose() {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Internal)
                    .with_detail("the service decrypted its own ciphertext to something else"))
            }
        };
        check
            .await
            .map_err(|error| error.with_operation("preflight"))
    }
}
