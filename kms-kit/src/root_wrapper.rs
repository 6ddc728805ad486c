//! A root wrapper chosen by a URL, so that an operator can change it without a new build.

use std::sync::Arc;

use async_trait::async_trait;
use kms_core::{Blob, Claim, Ownership, PooledWrapper, Result, SecretBytes, VersionAge, Wrapper};

use address::{Address, misconfigured};

mod address;
mod local;
mod services;
#[cfg(any(feature = "aws", feature = "gcp", feature = "vault"))]
mod settings;

/// The variable that [`RootWrapper::from_env`] reads the root wrapper's URL from.
const URL_VARIABLE: &str = "KMS_ROOT_URL";

/// The variable with the URLs of those that only decrypt.
const DECRYPTING_VARIABLE: &str = "KMS_ROOT_DECRYPT_URLS";

/// The root wrapper that a URL names, among those whose features are compiled in.
///
/// | URL | feature | parameters |
/// |---|---|---|
/// | `aead:env:APP_ROOT_KEY`, `aead:file:/run/secrets/root` | always there | `key_name` (of a new key: its id is the name and a check value), or `key_id` (without either, the variable or the path) |
/// | `awskms:///alias/app`, `awskms:///arn:aws:kms:…` | `aws` | `region`, `endpoint`, `mode` (`envelope`, `direct`) |
/// | `gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K` | `gcp` | `endpoint`, `credentials` (a file, or `anonymous`), `mode` |
/// | `vault+https://host:8200/transit/keys/app` | `vault` | `namespace`, `key_id_prefix`; to log in `token_file`, `kubernetes_role`, or `role_id` with `secret_id_file`; `auth_mount` |
///
/// The services also take `attempts`, `attempt_timeout_ms`, `connect_timeout_ms` and `deadline_ms`
/// ([`CallLimits`](kms_core::CallLimits)). `vault+http://` is for loopback addresses. What a URL does not say,
/// credentials above all, comes from the environment, under the names that the services' own tools use:
/// `AWS_REGION`, `GOOGLE_APPLICATION_CREDENTIALS`, `VAULT_TOKEN`, … A URL holds no secret, and one with a user
/// or a password is refused.
///
/// ```
/// use kms_kit::{ErrorKind, RootWrapper};
///
/// let error = RootWrapper::from_url("aead:env:NOT_SET_ANYWHERE").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
/// ```
#[derive(Clone, Debug)]
pub struct RootWrapper(Arc<dyn Wrapper>);

impl RootWrapper {
    /// The root wrapper that this URL names. Does no I/O, but for reading the file of a local key.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](kms_core::ErrorKind::InvalidConfiguration) for a URL that can't be read, an
    /// unknown scheme or parameter, a scheme whose feature is not compiled in (the error names it), and what
    /// the wrapper's own builder refuses; [`InvalidKey`](kms_core::ErrorKind::InvalidKey) for a local key.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::open(url).map_err(|error| error.with_operation("root wrapper from URL"))
    }

    /// The root wrapper that the variable `KMS_ROOT_URL` names.
    ///
    /// With `KMS_ROOT_DECRYPT_URLS` (URLs with white space between them), a [`PooledWrapper`] whose other members
    /// only decrypt: the first three of the four steps to another root key are then a matter of two variables.
    ///
    /// # Errors
    ///
    /// Those of [`from_url`](Self::from_url), naming the variable; that it is not set; and those of a pool.
    pub fn from_env() -> Result<Self> {
        let set = |variable: &'static str| std::env::var(variable).ok();
        Self::from_variables(set)
            .map_err(|error| error.with_operation("root wrapper from environment"))
    }

    fn from_variables(set: impl Fn(&'static str) -> Option<String>) -> Result<Self> {
        let url = set(URL_VARIABLE)
            .filter(|url| !url.trim().is_empty())
            .ok_or_else(|| {
                misconfigured("the environment variable is not set")
                    .with_context("variable", URL_VARIABLE)
            })?;
        let encrypting =
            Self::open(url.trim()).map_err(|error| error.with_context("variable", URL_VARIABLE))?;
        let mut urls = set(DECRYPTING_VARIABLE)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .into_iter()
            .peekable();
        if urls.peek().is_none() {
            return Ok(encrypting);
        }
        let mut pool = PooledWrapper::new(encrypting.0);
        for url in urls {
            let decrypting =
                Self::open(&url).and_then(|wrapper| pool.clone().with_decrypting(wrapper.0));
            pool =
                decrypting.map_err(|error| error.with_context("variable", DECRYPTING_VARIABLE))?;
        }
        Ok(Self(Arc::new(pool)))
    }

    fn open(url: &str) -> Result<Self> {
        let address = Address::parse(url)?;
        let open: fn(Address) -> Result<Arc<dyn Wrapper>> = match address.scheme() {
            "aead" => local::open,
            "awskms" => services::aws::open,
            "gcpkms" => services::gcp::open,
            "vault+https" | "vault+http" => services::vault::open,
            other => {
                return Err(misconfigured(
                    "no root wrapper has this scheme; there are aead, awskms, gcpkms, vault+https and vault+http",
                )
                .with_context("scheme", other));
            }
        };
        open(address).map(Self)
    }
}

#[async_trait]
impl Wrapper for RootWrapper {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn key_id(&self) -> Option<String> {
        self.0.key_id()
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        self.0.owns(blob)
    }

    fn claims(&self) -> Vec<Claim> {
        self.0.claims()
    }

    fn version_of(&self, blob: &Blob) -> VersionAge {
        self.0.version_of(blob)
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.0.is_current(blob)
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.0.encrypt(plaintext, aad).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        self.0.decrypt(blob, aad).await
    }

    async fn preflight(&self) -> Result<()> {
        self.0.preflight().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn two_variables_make_a_pool() {
        let file = |byte: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(byte.repeat(32).as_bytes()).unwrap();
            file
        };
        let (old, new) = (file("0a"), file("0b"));
        let url = |file: &tempfile::NamedTempFile, id| {
            format!("aead:file:{}?key_id={id}", file.path().display())
        };
        let (old, new) = (url(&old, "old"), url(&new, "new"));
        let root = |encrypting: &str, decrypting: &str| {
            RootWrapper::from_variables(|name| match name {
                URL_VARIABLE => Some(encrypting.to_owned()),
                _ => Some(decrypting.to_owned()),
            })
        };
        let alone = root(&old, "").unwrap();
        let blob = alone.encrypt(b"key", b"").await.unwrap();
        let moved = root(&new, &format!(" {old}\n")).unwrap();
        assert_eq!(moved.key_id().as_deref(), Some("new"));
        assert_eq!(moved.decrypt(&blob, b"").await.unwrap().expose(), b"key");
        let without = root(&new, "").unwrap();
        assert!(without.decrypt(&blob, b"").await.is_err());

        for (encrypting, decrypting, variable) in [
            ("", "", URL_VARIABLE),
            ("nonsense", "", URL_VARIABLE),
            (new.as_str(), "nonsense", DECRYPTING_VARIABLE),
            (new.as_str(), new.as_str(), DECRYPTING_VARIABLE),
        ] {
            let error = root(encrypting, decrypting).unwrap_err();
            assert_eq!(error.kind(), kms_core::ErrorKind::InvalidConfiguration);
            assert_eq!(error.context("variable"), Some(variable), "{error}");
        }
    }
}
