//! The root wrapper over a key in AWS KMS.

use async_trait::async_trait;
use kms_core::service::{Sealing, misconfigured};
use kms_core::{Blob, Claim, Error, ErrorKind, Ownership, Result, SecretBytes, Wrapper};

use crate::builder::AwsKmsWrapperBuilder;
use crate::failure::ServiceError;
use crate::key_name::KeyArn;
use crate::service::Service;

const ALIAS_MOVED: &str = "the alias was pointed at another key since this process looked it up; name both keys by their ARNs, and use a pool";

/// A root wrapper whose key is in AWS KMS and never leaves it.
///
/// Those of its blobs that have no `aad`, and all that it makes in direct mode, are blobs of Go's AWS wrapper: each
/// reads the other's. (An engine in [`Binding::GoCompatible`](kms_core::Binding::GoCompatible) gives no `aad`.) It
/// reads all of Go's. One call to the service encrypts, one decrypts.
///
/// # What the service authenticates
///
/// With an `aad`, an encryption context of one pair, `aad-sha256`, which shows in CloudTrail: in direct mode the
/// hash of the `aad`, in envelope mode a hash of that which goes with the fresh key, so that this key serves no
/// other blob. Envelopes of Go and of earlier versions have no such context; they open too.
///
/// # The key
///
/// It is named by its ARN, its id, an alias (`alias/app`) or an alias' ARN; a name without a Region and an
/// account is looked up in those of the client. The first answer of the service says which key that is, and pins
/// it: this key alone is asked from then on, and blobs carry its ARN. [`resolve`](Self::resolve) pins it ahead of
/// the first blob.
///
/// Decrypting always names the configured key, and the answer must be about it: a blob of another key does not
/// open, even if the same credentials may use that one. Of a multi-Region key (`mrk-…`) each Region's copy
/// opens what another's encrypted.
///
/// When an alias is pointed at another key, running processes go on with the one before, and processes that start
/// use the new one; neither opens what the other encrypts ([`ErrorKind::ForeignRootKey`], which names both keys),
/// and [`preflight`](Wrapper::preflight) of the running ones fails. To move to another key, name both by their
/// ARNs and use a pool, [`kms_core::PooledWrapper`]. (Rotating the key within AWS KMS keeps its ARN,
/// and needs none of this.)
///
/// # Ownership
///
/// A blob is its own by the ARN in it. As long as a wrapper of an alias was not told what that stands for, it can't
/// be certain about other keys of the account: [`Ownership::Unknown`].
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
/// | [`ForeignRootKey`](ErrorKind::ForeignRootKey) | `IncorrectKeyException`, for a blob that names another key; the context names both |
/// | [`AuthenticationFailed`](ErrorKind::AuthenticationFailed) | wrong `aad`, a damaged blob, one that names a key that did not make it |
/// | [`InvalidBlob`](ErrorKind::InvalidBlob) | a blob of another shape; a plaintext that direct mode can't take |
/// | [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) | `ValidationException`, an endpoint that isn't AWS KMS, no Region in the default chain |
///
/// The [`source`](std::error::Error::source) is a [`ServiceError`](crate::ServiceError) where the service
/// told the cause.
#[derive(Debug)]
pub struct AwsKmsWrapper {
    service: Service,
    sealing: Sealing,
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

    pub(crate) fn new(service: Service, sealing: Sealing) -> Self {
        Self { service, sealing }
    }

    /// Asks the service which key the configured name stands for, and pins that. An ARN is that key already; for an
    /// alias or an id the first call does the same. [`preflight`](Wrapper::preflight) does it too.
    ///
    /// # Errors
    ///
    /// Those of encrypting; [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) for an alias that stands for
    /// another key now than the one that was pinned.
    pub async fn resolve(&self) -> Result<()> {
        if self.service.name().arn().is_some() {
            return Ok(());
        }
        let now = self.service.look_up().await?;
        match self.service.key() {
            Some(pinned) if !pinned.is_same_key(&now) => Err(misconfigured(ALIAS_MOVED)
                .with_context("alias", self.service.name().as_str())
                .with_context("configured_key_id", pinned.as_str())
                .with_context("alias_key_id", now.as_str())),
            _ => Ok(()),
        }
    }

    /// What it means that the service decrypts no such ciphertext with the configured key: where the blob names the
    /// other key, it is not damaged, but foreign.
    async fn foreign(&self, blob: &Blob, error: Error) -> Error {
        let of_another = ServiceError::of(&error).is_some_and(ServiceError::is_of_another_key);
        let Some(made_by) = KeyArn::parse(blob.key_id()).filter(|_| of_another) else {
            return error;
        };
        let name = self.service.name();
        // Not to be had where the credentials only decrypt; then less is said.
        let now = if name.is_alias() {
            self.service.look_up().await.ok()
        } else {
            None
        };
        let own = self.service.key();
        let names_own = match own {
            Some(own) => own.is_same_key(&made_by),
            None => !name.is_alias() && name.may_be(&made_by),
        };
        if names_own {
            return error;
        }
        let foreign = Error::new(ErrorKind::ForeignRootKey)
            .with_context("root_key_id", made_by.as_str())
            .with_context(
                "configured_key_id",
                own.map_or(name.as_str(), KeyArn::as_str),
            );
        let foreign = if name.is_alias() {
            foreign.with_context("alias", name.as_str())
        } else {
            foreign
        };
        let foreign = match (now, own) {
            (Some(now), Some(own)) if !own.is_same_key(&now) => foreign
                .with_detail(ALIAS_MOVED)
                .with_context("alias_key_id", now.as_str()),
            _ => foreign,
        };
        foreign.with_source(error)
    }

    /// The key that encrypts, as far as it is known; `None` for the other answers of [`Ownership`].
    fn compare(&self, blob: &Blob, otherwise: Ownership) -> Ownership {
        if !Sealing::makes(blob) {
            return Ownership::No;
        }
        let Some(made_by) = KeyArn::parse(blob.key_id()) else {
            return Ownership::No;
        };
        let name = self.service.name();
        match self.service.key() {
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
        self.service.key().map(|key| key.as_str().to_owned())
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
        self.sealing
            .encrypt(&self.service, plaintext, aad)
            .await
            .map_err(|error| error.with_operation("encrypt"))
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        match self.sealing.decrypt(&self.service, blob, aad).await {
            Ok(plaintext) => Ok(plaintext),
            Err(error) => Err(self.foreign(blob, error).await.with_operation("decrypt")),
        }
    }

    async fn preflight(&self) -> Result<()> {
        let check = async {
            self.resolve().await?;
            self.sealing.preflight(&self.service).await
        };
        check
            .await
            .map_err(|error| error.with_operation("preflight"))
    }
}
