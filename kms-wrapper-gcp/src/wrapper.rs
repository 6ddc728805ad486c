//! The root wrapper over a key in Cloud KMS.

use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use kms_core::service::{DIRECT_MECHANISM, Mode, Sealing, invalid_blob};
use kms_core::{
    Blob, Claim, Error, ErrorKind, KeyBytes, Ownership, Result, SecretBytes, VersionAge, Wrapper,
};

use crate::builder::CloudKmsWrapperBuilder;
use crate::failure;
use crate::service::Service;

/// Longest plaintext, and longest `aad`, that the service takes, in bytes (a key in an HSM: 8 KiB of both)
/// ([encrypt](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt)).
const MAX_DIRECT_LEN: usize = 64 * 1024;

const AAD_OF_PREFLIGHT: &[u8] = b"kms preflight";

/// A root wrapper whose key is in Google Cloud KMS and never leaves it.
///
/// It reads the blobs of Go's wrapper for Cloud KMS, in both modes. Those that it makes without `aad` are Go's; with
/// `aad`, the service binds the fresh key of an envelope to it (`additionalAuthenticatedData`), and Go's wrapper can't
/// open it. One call to the service encrypts, one decrypts.
///
/// # The key
///
/// It is configured by its name, and [`key_id`](Wrapper::key_id) is the name of the key *version* that encrypted
/// last, as the service told it; blobs carry it. When the key has a new primary version, that one encrypts, and
/// the older ones go on decrypting. Name the project as the service does, by its id or by its number: its answers
/// must name the same key.
///
/// Decrypting asks with the configured key, whatever the blob names, and what names another key is not sent at
/// all. A blob that names none, as early versions of Go's wrapper made them in direct mode, is sent. An answer to an
/// encryption must name a version of the configured key.
///
/// # Integrity
///
/// CRC32C checksums go with everything that is sent, and must have been verified by the service; what it answers
/// is held against its checksum. What differs is asked for once more, and is then a
/// [`DamagedResponse`](ErrorKind::DamagedResponse).
///
/// The service's answer to a decryption does not say what it decrypted. An answer to another request, with a
/// checksum that is right, is caught by the envelope's own authentication; in direct mode only TLS stands
/// against it.
///
/// # Ownership
///
/// A blob is its own if it names a version of the configured key, and not if it names another. Of one that names no
/// key, only decrypting tells. All versions are the same
/// root key: a blob of an older one is [current](Wrapper::is_current) too, and rewrapping that is limited to what
/// is not the root wrapper's own leaves it alone. To free an old version for destruction, rewrap
/// [what older versions made](kms_core::RewrapKeys::OlderVersions).
///
/// # Security
///
/// Plaintext buffers and fresh keys of this crate are wiped. The client's library copies a request's plaintext
/// and an answer's into buffers of its own (the request, its JSON, the connection's buffers), and does not wipe
/// those: a fresh key in envelope mode, the plaintext itself in direct mode.
///
/// # Errors
///
/// | kind | when |
/// |---|---|
/// | [`Unreachable`](ErrorKind::Unreachable) | refused, reset, no such host, an answer that broke off, `UNAVAILABLE`, `INTERNAL`, 5xx; no token because its server can't be asked |
/// | [`TimedOut`](ErrorKind::TimedOut) | an attempt or the deadline ran out, `DEADLINE_EXCEEDED` |
/// | [`Throttled`](ErrorKind::Throttled) | `RESOURCE_EXHAUSTED`, status 429 |
/// | [`Denied`](ErrorKind::Denied) | `PERMISSION_DENIED`, with the context `permission` if the service named one, or else `reason` and `project`; `UNAUTHENTICATED`; a token was refused |
/// | [`UnknownRootKey`](ErrorKind::UnknownRootKey) | `NOT_FOUND` |
/// | [`RootKeyDisabled`](ErrorKind::RootKeyDisabled) | `FAILED_PRECONDITION`: disabled, scheduled for destruction, destroyed |
/// | [`UnsuitableRootKey`](ErrorKind::UnsuitableRootKey) | a key of another purpose |
/// | [`DamagedResponse`](ErrorKind::DamagedResponse) | a checksum that differs, an answer that can't be read or is about another key |
/// | [`AuthenticationFailed`](ErrorKind::AuthenticationFailed) | wrong `aad`, a damaged blob, one of another key |
/// | [`InvalidBlob`](ErrorKind::InvalidBlob) | a blob of another shape; a plaintext that direct mode can't take |
/// | [`InvalidConfiguration`](ErrorKind::InvalidConfiguration) | credentials that can't be used, an endpoint that isn't Cloud KMS |
///
/// The [`source`](std::error::Error::source) is a [`ServiceError`](crate::ServiceError) where the service told
/// the cause.
#[derive(Debug)]
pub struct CloudKmsWrapper {
    service: Service,
    mode: Mode,
    sealing: Sealing,
    /// The key version that encrypted last.
    version: RwLock<Option<String>>,
}

impl CloudKmsWrapper {
    /// Starts a wrapper of this key: `projects/…/locations/…/keyRings/…/cryptoKeys/…`.
    pub fn builder(key_name: impl Into<String>) -> CloudKmsWrapperBuilder {
        CloudKmsWrapperBuilder::new().key_name(key_name)
    }

    /// Starts a wrapper with what the environment says now: the variables of Go's wrapper, see
    /// [`CloudKmsWrapperBuilder`](CloudKmsWrapperBuilder#environment-variables).
    pub fn from_env() -> CloudKmsWrapperBuilder {
        CloudKmsWrapperBuilder::from_env()
    }

    /// The number of the version of the configured key that the blob says it was made by; `None` for a blob of
    /// another key, and for one that names none.
    #[must_use]
    pub fn version_named_by(&self, blob: &Blob) -> Option<u64> {
        self.service.key().version(blob.key_id())
    }

    /// The number of the version that encrypted last, as the service told; `None` before the first encryption.
    /// [`preflight`](Wrapper::preflight) encrypts, too. A blob of another [version](Self::version_named_by) needs a version
    /// that is not the key's primary one (any more): before that is destroyed, rewrap.
    #[must_use]
    pub fn newest_version_seen(&self) -> Option<u64> {
        self.service.key().version(&self.key_id()?)
    }

    pub(crate) fn new(service: Service, mode: Mode, sealing: Sealing) -> Self {
        Self {
            service,
            mode,
            sealing,
            version: RwLock::new(None),
        }
    }

    async fn encrypted(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let is_long = plaintext.len() > MAX_DIRECT_LEN || aad.len() > MAX_DIRECT_LEN;
        if self.mode == Mode::Direct && is_long {
            return Err(invalid_blob(
                "direct mode takes at most 64 KiB of plaintext and of aad; use envelope mode",
            ));
        }
        let blob = self.sealing.encrypt(&self.service, plaintext, aad).await?;
        self.learn(blob.key_id());
        Ok(blob)
    }

    async fn decrypted(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        if !self.service.key().has_version(blob.key_id()) && !is_older_than_key_info(blob) {
            return Err(
                Error::new(ErrorKind::ForeignRootKey).with_context("root_key_id", blob.key_id())
            );
        }
        self.sealing.decrypt(&self.service, blob, aad).await
    }

    fn learn(&self, version: &str) {
        let mut known = self.version.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(version) {
            *known = Some(version.to_owned());
        }
    }

    async fn checked(&self) -> Result<()> {
        let probe = KeyBytes::generate()?;
        let round_trip = async {
            let blob = self.encrypted(probe.expose(), AAD_OF_PREFLIGHT).await?;
            self.decrypted(&blob, AAD_OF_PREFLIGHT).await
        };
        match round_trip.await {
            Ok(back) if back.expose() == probe.expose() => Ok(()),
            Ok(_) => Err(Error::new(ErrorKind::DamagedResponse)
                .with_detail("the probe came back as something else")),
            Err(error) if failure::may_lack_permissions(&error) => {
                Err(self.all_missing(error).await)
            }
            Err(error) => Err(error),
        }
    }

    /// A denial that names every permission that is missing, where the service tells them; it refuses for one.
    async fn all_missing(&self, denied: Error) -> Error {
        match self.service.missing_permissions().await {
            Ok(missing) if !missing.is_empty() => Error::new(ErrorKind::Denied)
                .with_context("permission", missing.join(", "))
                .with_context("root_key_id", self.service.key().as_str())
                .with_source(denied),
            _ => denied,
        }
    }
}

#[async_trait]
impl Wrapper for CloudKmsWrapper {
    fn kind(&self) -> &'static str {
        "gcpckms"
    }

    fn key_id(&self) -> Option<String> {
        let version = self.version.read().unwrap_or_else(PoisonError::into_inner);
        version.clone()
    }

    /// Whether the blob names a version of the configured key.
    fn owns(&self, blob: &Blob) -> Ownership {
        if Sealing::makes(blob) && self.service.key().has_version(blob.key_id()) {
            Ownership::Yes
        } else if is_older_than_key_info(blob) {
            Ownership::Unknown
        } else {
            Ownership::No
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
    }

    /// The name of a key is never given to another one.
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::by_key(self.service.key().as_str())]
    }

    fn version_of(&self, blob: &Blob) -> VersionAge {
        match self.key_id() {
            Some(newest) if self.owns(blob) == Ownership::Yes => {
                VersionAge::of(blob.key_id() == newest)
            }
            _ => VersionAge::Untold,
        }
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
        self.checked()
            .await
            .map_err(|error| error.with_operation("preflight"))
    }
}

/// Whether it is of a time when Go's wrapper encrypted directly, and blobs did not name their key. The service
/// knows the version by the ciphertext, and refuses that of another key.
fn is_older_than_key_info(blob: &Blob) -> bool {
    blob.key_id().is_empty() && blob.mechanism() == DIRECT_MECHANISM
}
