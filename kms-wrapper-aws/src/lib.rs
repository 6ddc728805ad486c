//! A root wrapper over a key in AWS KMS.
//!
//! [`AwsKmsWrapper`] encrypts a root key so that only the key in AWS KMS decrypts it again. It says on one page
//! what it promises; [`AwsKmsWrapperBuilder`] says what can be set.
//!
//! ```no_run
//! use std::sync::Arc;
//! use kms_core::Wrapper as _;
//! use kms_wrapper_aws::AwsKmsWrapper;
//!
//! # async fn example() -> kms_core::Result<()> {
//! let wrapper = AwsKmsWrapper::from_env() // AWSKMS_WRAPPER_KEY_ID, AWS_REGION, …
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
//! `kms:Encrypt` to make blobs, `kms:Decrypt` to open them, on the key and nothing else; where the key is named
//! by an alias, on the key that it stands for.
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `default-chain` (default) | credentials and Region found as the AWS tools find them, through `aws-config` |

mod builder;
mod failure;
mod key_name;
mod service;
mod wrapper;

pub use builder::{AwsKmsWrapperBuilder, DangerousSettings};
pub use failure::ServiceError;
pub use kms_core::service::Mode as AwsKmsMode;
pub use wrapper::AwsKmsWrapper;
