//! A root wrapper over a key in Google Cloud KMS.
//!
//! [`CloudKmsWrapper`] encrypts a root key so that only the key in Cloud KMS decrypts it again. It says on one
//! page what it promises; [`CloudKmsWrapperBuilder`] says what can be set.
//!
//! ```no_run
//! use std::sync::Arc;
//! use kms_core::Wrapper as _;
//! use kms_wrapper_gcp::CloudKmsWrapper;
//!
//! # async fn example() -> kms_core::Result<()> {
//! let wrapper = CloudKmsWrapper::builder("projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/root")
//!     .aead(Arc::new(kms_wrapper_aead::AesGcm))
//!     .build()?;
//! wrapper.preflight().await?; // says what permission is missing
//!
//! let blob = wrapper.encrypt(b"attack at dawn", b"aad").await?;
//! assert_eq!(wrapper.decrypt(&blob, b"aad").await?.expose(), b"attack at dawn");
//! # Ok(())
//! # }
//! ```
//!
//! # Permissions
//!
//! `cloudkms.cryptoKeyVersions.useToEncrypt` to make blobs, `cloudkms.cryptoKeyVersions.useToDecrypt` to open
//! them, on the key and nothing else: the role `roles/cloudkms.cryptoKeyEncrypterDecrypter` has both, and
//! `…Decrypter` is enough for an engine that only decrypts.
//!
//! # TLS
//!
//! rustls, with the process's default provider if one is installed, or else AWS-LC; none is installed. The system's
//! root certificates are read in the first call, or those of
//! [`ca_bundle`](CloudKmsWrapperBuilder::ca_bundle).
//!
//! # Logs
//!
//! This crate logs nothing. Of its dependencies, hyper logs lengths and addresses, and rustls the course of
//! handshakes; a test captures all of it at level `TRACE` and looks for plaintext and credentials. Tokens come from
//! `google-cloud-auth`, and not from `yup-oauth2`, which logs them and the client's secret at level `debug`.

mod builder;
mod credentials;
mod endpoint;
mod failure;
mod key_name;
mod login;
mod network;
mod service;
mod wrapper;

pub use builder::{CloudKmsWrapperBuilder, DangerousSettings};
pub use failure::ServiceError;
pub use google_cloud_auth::credentials::AccessTokenCredentials;
pub use kms_core::service::Mode as CloudKmsMode;
pub use wrapper::CloudKmsWrapper;
