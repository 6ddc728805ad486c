//! A root wrapper over a transit key in [HashiCorp Vault](https://developer.hashicorp.com/vault/docs/secrets/transit)
//! or [OpenBao](https://openbao.org/docs/secrets/transit/).
//!
//! ```no_run
//! use kms_wrapper_vault::{Auth, TransitWrapper};
//!
//! let root = TransitWrapper::builder()
//!     .address("https://vault.example.com:8200")
//!     .key_name("app")
//!     .key_id_prefix("vault-app-")
//!     .auth(Auth::kubernetes("app"))
//!     .build()?;
//! # Ok::<(), kms_core::Error>(())
//! ```
//!
//! # What the token needs
//!
//! ```hcl
//! path "transit/encrypt/app" { capabilities = ["update"] }
//! path "transit/decrypt/app" { capabilities = ["update"] }
//! ```
//!
//! and the policy `default`, which lets a token renew itself and ask for its rights. A process that only decrypts
//! needs the second line alone. The capability `create` is not needed: with it, transit would create a key that
//! is missing. This wrapper's requests are refused in that case whatever the token may do; for other clients
//! `vault write transit/config/keys disable_upsert=true` closes it.
//!
//! The key is one of `aes256-gcm96` (the default), `aes128-gcm96` or `chacha20-poly1305`, not derived.
//! `min_decryption_version` may be raised past the versions that nothing is encrypted under any more; a blob of a
//! version below it is [`RootKeyVersionRetired`](kms_core::ErrorKind::RootKeyVersionRetired).
//!
//! # Tokens
//!
//! [`Auth`] lists the ways to come by one. They are renewed in the background at about two thirds of their time,
//! in a task of the runtime of the first call that stops when the wrapper is dropped; where that runtime is gone,
//! the next call sees to it. Nothing needs a restart: an expired or revoked token is replaced by a new login, or
//! by what its file holds now, and the call that found out is repeated. However many calls find out at once, one
//! logs in.
//!
//! # Certificates
//!
//! Those in files, and keys, are read again when a file has changed and when a handshake fails. A certificate that was
//! renewed needs no restart.
//!
//! # Features
//!
//! `aws` adds the login by AWS IAM, and with it the credentials chain of the AWS SDK.
//!
//! # Failures
//!
//! | what happened | kind |
//! |---|---|
//! | no connection, TLS refused, 5xx | [`Unreachable`](kms_core::ErrorKind::Unreachable) |
//! | a certificate has expired, the server's or our own | [`CertificateExpired`](kms_core::ErrorKind::CertificateExpired), with `certificate` |
//! | the [limits](TransitWrapperBuilder::limits) are over | [`TimedOut`](kms_core::ErrorKind::TimedOut) |
//! | a rate limit quota | [`Throttled`](kms_core::ErrorKind::Throttled) |
//! | sealed | [`ServiceSealed`](kms_core::ErrorKind::ServiceSealed) |
//! | a standby that does not forward, or redirects | [`ServiceStandby`](kms_core::ErrorKind::ServiceStandby) |
//! | the token, the login or a right | [`Denied`](kms_core::ErrorKind::Denied), with `permission`, `path` or `login` |
//! | no such key, or nothing mounted there | [`UnknownRootKey`](kms_core::ErrorKind::UnknownRootKey) |
//! | a key of another type, or derived | [`UnsuitableRootKey`](kms_core::ErrorKind::UnsuitableRootKey) |
//! | the blob's version is below `min_decryption_version` | [`RootKeyVersionRetired`](kms_core::ErrorKind::RootKeyVersionRetired) |
//! | another `aad`, a foreign or damaged blob | [`AuthenticationFailed`](kms_core::ErrorKind::AuthenticationFailed), [`InvalidBlob`](kms_core::ErrorKind::InvalidBlob) |
//!
//! The service's own message is the source, without anything that was sent to it.

mod auth;
mod builder;
mod ciphertext;
mod credential;
mod failure;
mod key_path;
mod preflight;
mod request;
mod session;
mod transport;
mod wrapper;

pub use auth::Auth;
#[cfg(feature = "aws")]
pub use auth::aws::AwsIam;
pub use builder::{DangerousSettings, TransitWrapperBuilder};
pub use failure::ServiceError;
pub use wrapper::TransitWrapper;
