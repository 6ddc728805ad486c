//! AES-256-GCM for `kms-kit`: the local root wrapper, and the providers of the primitive.
//!
//! [`AeadWrapper`] is a root wrapper over a key that the application holds itself. It is right for tests,
//! for development, and where a secret store already hands the process a key. In production prefer a key
//! in a cloud KMS or Vault, which never leaves its service.
//!
//! ```
//! use kms_core::{KeyBytes, Wrapper as _};
//! use kms_wrapper_aead::AeadWrapper;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let wrapper = AeadWrapper::builder("root-2026").key(KeyBytes::generate()?).build()?;
//!
//! let blob = wrapper.encrypt(b"attack at dawn", b"aad").await?;
//! assert_eq!(blob.key_id(), "root-2026");
//! assert_eq!(wrapper.decrypt(&blob, b"aad").await?.expose(), b"attack at dawn");
//! assert!(wrapper.decrypt(&blob, b"other aad").await.is_err());
//! # Ok::<(), kms_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Providers
//!
//! A provider is an implementation of [`kms_core::Aead`]. All encrypt to the same bytes, so a process may
//! change its provider at any time. [`fastest`] chooses among those compiled in.
//!
//! | provider | feature | crate | wipes its keys |
//! |---|---|---|---|
//! | [`AesGcm`] | always there | `aes-gcm`, pure Rust | yes |
//! | `Ring` | `ring` | `ring`, assembly; the fastest | no: this crate does it for it |
//! | `AwsLcRs` | `aws-lc-rs` | `aws-lc-rs`, C and assembly; needs a C compiler | yes |
//!
//! What wiping covers: the expanded key of every provider is overwritten when it is dropped, and so are the
//! copies that building and using it leave on the stack; a test searches the memory of the whole process for
//! them. What it can't cover: registers, memory that the system swapped out or wrote into a core dump, a
//! process that is killed, and the caller's own copies of the key.

mod clean_stack;
mod key_file;
mod key_name;
mod key_text;
mod provider;
mod wrapper;

pub use provider::aes_gcm::AesGcm;
#[cfg(feature = "aws-lc-rs")]
pub use provider::aws_lc_rs::AwsLcRs;
pub use provider::fastest;
#[cfg(feature = "ring")]
pub use provider::ring::Ring;
pub use wrapper::AeadWrapper;
pub use wrapper::builder::AeadWrapperBuilder;
