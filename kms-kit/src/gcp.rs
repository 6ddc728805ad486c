//! A key in Google Cloud KMS as the root of trust: all of [`kms_wrapper_gcp`], with the facade's AEAD provider
//! filled in.
//!
//! ```no_run
//! # async fn start() -> kms_kit::Result<()> {
//! use kms_kit::prelude::*;
//!
//! let key = "projects/app/locations/europe-west1/keyRings/main/cryptoKeys/root";
//! let root = kms_kit::gcp::builder(key).build()?;
//! root.preflight().await?; // says what permission is missing
//! # Ok(())
//! # }
//! ```

pub use kms_wrapper_gcp::*;

/// A wrapper of this key, encrypting by the fastest AEAD provider that is compiled in.
pub fn builder(key_name: impl Into<String>) -> CloudKmsWrapperBuilder {
    CloudKmsWrapper::builder(key_name).aead(kms_wrapper_aead::fastest())
}

/// The same with settings from the environment: see [`CloudKmsWrapperBuilder`].
pub fn from_env() -> CloudKmsWrapperBuilder {
    CloudKmsWrapper::from_env().aead(kms_wrapper_aead::fastest())
}
