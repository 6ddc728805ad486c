//! The root wrapper over a key in Cloud KMS.

use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use kms_core::{
    Blob, Claim, ENVELOPE_MECHANISM, Envelope, Error, ErrorKind, KeyBytes, NONCE_LEN, Ownership,
    Result, SecretBytes, TAG_LEN, VersionAge, Wrapper,
};

use crate::builder::CloudKmsWrapperBuilder;
use crate::service::Service;

/// `mechanism` of a blob that the service encrypted itself.
const DIRECT_MECHANISM: u64 = 0;

/// Longest plaintext, and longest `aad`, that the service takes, in bytes (a key in an HSM: 8 KiB of both)
/// ([encrypt](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt)).
const MAX_DIRECT_LEN: usize = 64 * 1024;

const AAD_OF_PREFLIGHT: &[u8] = b"kms preflight";

/// How a wrapper encrypts. It decrypts what either way made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloudKmsMode {
    /// Here, under a fresh key, which the service encrypts. Any length; `aad` is authenticated here.
    #[default]
    Envelope,
    /// In the service: up to 64 KiB of plaintext, and as much `aad`, which goes along as additional
    /// authenticated data.
    Direct,
}

/// A root wrapper whose key is in Google Cloud KMS and never leaves it.
///
/// Its blobs are those of Go's wrapper for Cloud KMS in envelope mode, and it reads those that Go's made in direct
/// mode. One call to the service encrypts, one decrypts.
///
/// # The key
///
/// It is configured by its name, and [`key_id`](Wrapper::key_id) is the name of the key *version* that encrypted
/// last, as the service told it; blobs carry it. When the key has a new primary version, that one encrypts, and
/// the older ones go on decrypting. Name the project as the service does, by its id or by its number: its answers
/// must name the same key.
///
/// Decrypting asks with the configured key, whatever the blob names, and what names another key is not sent at
/// all. An answer to an encryption must name a version of the configured key.
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
/// A blob is its own if it names a version of the configured key, and not otherwise. All versions are the same
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
/// | [`Denied`](ErrorKind::Denied) | `PERMISSION_DENIED`, with the context `permission`; `UNAUTHENTICATED`; a token was refused |
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
    mode: CloudKmsMode,
    /// Needed for envelopes only.
    envelope: Option<Envelope>,
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

    pub(crate) fn new(service: Service, mode: CloudKmsMode, envelope: Option<Envelope>) -> Self {
        Self {
            service,
            mode,
            envelope,
            version: RwLock::new(None),
        }
    }

    async fn encrypted(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        match self.mode {
            CloudKmsMode::Envelope => {
                let sealed = self.envelope()?.seal(plaintext, aad)?;
                let wrapped = self.service.encrypt(sealed.key().expose(), &[]).await?;
                let version = self.learn(wrapped.version);
                Ok(sealed.into_blob(version, wrapped.ciphertext))
            }
            CloudKmsMode::Direct => {
                if plaintext.len() > MAX_DIRECT_LEN || aad.len() > MAX_DIRECT_LEN {
                    return Err(invalid(
                        "direct mode takes at most 64 KiB of plaintext and of aad; use envelope mode",
                    ));
                }
                let encrypted = self.service.encrypt(plaintext, aad).await?;
                Ok(Blob::new(
                    encrypted.ciphertext,
                    self.learn(encrypted.version),
                ))
            }
        }
    }

    async fn decrypted(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        check_shape(blob)?;
        if !self.service.key().has_version(blob.key_id()) {
            return Err(
                Error::new(ErrorKind::ForeignRootKey).with_context("root_key_id", blob.key_id())
            );
        }
        if blob.mechanism() == DIRECT_MECHANISM {
            return self.service.decrypt(blob.ciphertext(), aad).await;
        }
        let envelope = self.envelope()?;
        let fresh = self.service.decrypt(blob.wrapped_key(), &[]).await?;
        let fresh = KeyBytes::from_slice(fresh.expose())
            .map_err(|_| invalid("its wrapped key is not one of 32 bytes"))?;
        envelope.open(blob, &fresh, aad)
    }

    fn envelope(&self) -> Result<&Envelope> {
        self.envelope.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfiguration).with_detail(
                "the blob was made in envelope mode; give the wrapper's builder an aead",
            )
        })
    }

    fn learn(&self, version: String) -> String {
        let mut known = self.version.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&version) {
            *known = Some(version.clone());
        }
        version
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
            Err(error) if error.context("permission").is_some() => {
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
        let is_ours = matches!(blob.mechanism(), DIRECT_MECHANISM | ENVELOPE_MECHANISM)
            && self.service.key().has_version(blob.key_id());
        if is_ours {
            Ownership::Yes
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

/// Refuses what this wrapper can't have made, before the service is asked.
fn check_shape(blob: &Blob) -> Result<()> {
    let fits = match blob.mechanism() {
        DIRECT_MECHANISM => blob.iv().is_empty() && blob.wrapped_key().is_empty(),
        ENVELOPE_MECHANISM => {
            blob.iv().len() == NONCE_LEN
                && blob.ciphertext().len() >= TAG_LEN
                && !blob.wrapped_key().is_empty()
        }
        _ => false,
    };
    if fits && !blob.ciphertext().is_empty() {
        Ok(())
    } else {
        Err(invalid("it has not the shape of one of Cloud KMS"))
    }
}

fn invalid(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidBlob).with_detail(detail)
}
