//! A key in AWS KMS as the root of trust: all of [`kms_wrapper_aws`], with the facade's AEAD provider filled in.
//!
//! ```no_run
//! # async fn start() -> kms_kit::Result<()> {
//! use kms_kit::prelude::*;
//!
//! let root = kms_kit::aws::builder("alias/app").region("eu-west-1").build()?;
//! root.preflight().await?; // says what permission is missing
//! # Ok(())
//! # }
//! ```

pub use kms_wrapper_aws::*;

/// A wrapper of this key, encrypting by the fastest AEAD provider that is compiled in.
pub fn builder(key_id: impl Into<String>) -> AwsKmsWrapperBuilder {
    AwsKmsWrapper::builder(key_id).aead(kms_wrapper_aead::fastest())
}

/// The same with settings from the environment: see [`AwsKmsWrapperBuilder`].
pub fn from_env() -> AwsKmsWrapperBuilder {
    AwsKmsWrapper::from_env().aead(kms_wrapper_aead::fastest())
}
