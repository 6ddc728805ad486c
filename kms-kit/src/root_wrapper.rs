//! A root wrapper chosen by a URL, so that an operator can change it without a new build.

use std::sync::Arc;

use async_trait::async_trait;
use kms_core::{Blob, Claim, Ownership, PooledWrapper, Result, SecretBytes, VersionAge, Wrapper};

use address::{Address, misconfigured};

mod address;
mod local;
mod services;
#[allow(
    dead_code,
    reason = "each service takes its own; with no feature, nobody does"
)]
mod settings;

/// What makes a wrapper of the URLs of one scheme.
type Open = fn(Address) -> Result<Arc<dyn Wrapper>>;

/// A scheme of the application's own, and what makes a wrapper of a URL of that scheme: see
/// [`RootWrapper::from_url_with`].
pub type Scheme<'a> = (
    &'a str,
    &'a (dyn Fn(&str) -> Result<Arc<dyn Wrapper>> + Sync),
);

/// The variable that [`RootWrapper::from_env`] reads the root wrapper's URL from.
const URL_VARIABLE: &str = "KMS_ROOT_URL";

/// The variable with the URLs of those that only decrypt.
const DECRYPTING_VARIABLE: &str = "KMS_ROOT_DECRYPT_URLS";

/// The root wrapper that a URL names, among those whose features are compiled in.
///
/// | URL | feature | parameters |
/// |---|---|---|
/// | `aead:env:APP_ROOT_KEY`, `aead:file:/run/secrets/root` | always there | `key_name` (of a new key: its id is the name and a check value), or `key_id` (without either, the variable or the path) |
/// | `awskms:///alias/app`, `awskms:///arn:aws:kms:…` | `aws` | `region`, `endpoint`, `proxy`, `ca` (a file), `mode` (`envelope`, `direct`) |
/// | `gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K` | `gcp` | `endpoint`, `credentials` (a file, or `anonymous`), `quota_project`, `proxy`, `ca` (a file), `mode` |
/// | `pkcs11:token=T;object=K?module-path=/usr/lib/m.so` (RFC 7512; path: `token`, `serial`, `manufacturer`, `model`, `slot-id`, `object`, `id`, `type`) | `pkcs11` | `module-path` or `module-name`, `pin-source` (a file) or `pin-value`, `mode`, `sessions` |
/// | `vault+https://host:8200/transit/keys/app` | `vault` | `namespace`, `login_namespace`, `key_id_prefix`, `ca`, `client_cert` with `client_key`, `proxy`; to log in `token_file`, `agent=true`, `kubernetes_role`, `jwt_role` with `jwt_file`, `cert_role`, `gcp_role`, `aws_role` (feature `aws`; with it `aws_region`, `aws_server_id`), `role_id` with `secret_id_file`, or `role_id_alone`; `auth_mount` |
/// | `vault+unix:///transit/keys/app` | `vault` | `socket`, and the same |
///
/// The services also take `attempts`, `attempt_timeout_ms`, `connect_timeout_ms` and `deadline_ms`
/// ([`CallLimits`](kms_core::CallLimits)). `vault+http://` is for loopback addresses. What a URL does not say,
/// credentials above all, comes from the environment, under the names that the services' own tools use:
/// `AWS_REGION`, `GOOGLE_APPLICATION_CREDENTIALS`, `VAULT_TOKEN`, … A URL holds no secret (but for `pin-value`, which RFC
/// 7512 has; prefer `pin-source`), and one with a user or a password is refused.
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
        Self::from_url_with(url, &[])
    }

    /// The same, with schemes of the application's own beside those that there are.
    ///
    /// The URL of such a scheme is handed over as it is. It need not be one that the `url` crate reads.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use kms_kit::{AeadWrapper, Result, RootWrapper, Wrapper};
    ///
    /// fn from_vault_of_ours(url: &str) -> Result<Arc<dyn Wrapper>> {
    ///     let name = url.trim_start_matches("ours:");
    ///     # let key = "5a".repeat(32);
    ///     Ok(Arc::new(AeadWrapper::builder(name).key_text(&key).build()?))
    /// }
    ///
    /// let root = RootWrapper::from_url_with("ours:root-7", &[("ours", &from_vault_of_ours)])?;
    /// assert_eq!(root.key_id().as_deref(), Some("root-7"));
    /// # Ok::<(), kms_kit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`from_url`](Self::from_url) and of the application's own function;
    /// [`InvalidConfiguration`](kms_core::ErrorKind::InvalidConfiguration) for a scheme that there is already.
    pub fn from_url_with(url: &str, schemes: &[Scheme<'_>]) -> Result<Self> {
        Self::open(url, schemes).map_err(|error| error.with_operation("root wrapper from URL"))
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
        Self::from_env_with(&[])
    }

    /// The same, with schemes of the application's own: see [`from_url_with`](Self::from_url_with).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_env_with(schemes: &[Scheme<'_>]) -> Result<Self> {
        let set = |variable: &'static str| std::env::var(variable).ok();
        Self::from_variables(set, schemes)
            .map_err(|error| error.with_operation("root wrapper from environment"))
    }

    fn from_variables(
        set: impl Fn(&'static str) -> Option<String>,
        schemes: &[Scheme<'_>],
    ) -> Result<Self> {
        let url = set(URL_VARIABLE)
            .filter(|url| !url.trim().is_empty())
            .ok_or_else(|| {
                misconfigured("the environment variable is not set")
                    .with_context("variable", URL_VARIABLE)
            })?;
        let encrypting = Self::open(url.trim(), schemes)
            .map_err(|error| error.with_context("variable", URL_VARIABLE))?;
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
            let decrypting = Self::open(&url, schemes)
                .and_then(|wrapper| pool.clone().with_decrypting(wrapper.0));
            pool =
                decrypting.map_err(|error| error.with_context("variable", DECRYPTING_VARIABLE))?;
        }
        Ok(Self(Arc::new(pool)))
    }

    fn open(url: &str, schemes: &[Scheme<'_>]) -> Result<Self> {
        let built_in = || {
            let local: (&[&str], Open) = (&["aead"], local::open);
            std::iter::once(local).chain(services::SCHEMES.iter().copied())
        };
        let taken = |scheme: &str| built_in().any(|(names, _)| names.contains(&scheme));
        if let Some((scheme, _)) = schemes.iter().find(|(scheme, _)| taken(scheme)) {
            return Err(
                misconfigured("a scheme of the application's is one of those there are")
                    .with_context("scheme", scheme),
            );
        }
        let of_url = url.split_once(':').map(|(scheme, _)| scheme);
        if let Some((_, open)) = schemes.iter().find(|(own, _)| Some(*own) == of_url) {
            return open(url).map(Self);
        }
        let address = Address::parse(url)?;
        let scheme = address.scheme();
        let Some((_, open)) = built_in().find(|(names, _)| names.contains(&scheme)) else {
            let own = schemes.iter().map(|(own, _)| own);
            let known = built_in().flat_map(|(names, _)| names).chain(own);
            let known: Vec<&str> = known.copied().collect();
            return Err(misconfigured(format!(
                "no root wrapper has this scheme; there are {}",
                known.join(", ")
            ))
            .with_context("scheme", scheme));
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
            let set = |name| match name {
                URL_VARIABLE => Some(encrypting.to_owned()),
                _ => Some(decrypting.to_owned()),
            };
            RootWrapper::from_variables(set, &[])
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
