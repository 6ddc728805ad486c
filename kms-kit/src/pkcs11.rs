//! A key on a PKCS#11 token as the root of trust: all of [`kms_wrapper_pkcs11`], with the facade's AEAD provider filled
//! in.
//!
//! ```no_run
//! # async fn start() -> kms_kit::Result<()> {
//! use kms_kit::prelude::*;
//!
//! let root = kms_kit::pkcs11::builder()
//!     .module("/usr/lib/softhsm/libsofthsm2.so")
//!     .token_label("production")
//!     .key_label("root")
//!     .pin_file("/run/secrets/pin")
//!     .build()?;
//! root.preflight().await?; // finds the token and the key, logs in, uses the key
//! # Ok(())
//! # }
//! ```

pub use kms_wrapper_pkcs11::*;

/// A wrapper without any setting but for its AEAD provider, the fastest that is compiled in.
pub fn builder() -> Pkcs11WrapperBuilder {
    Pkcs11Wrapper::builder().aead(kms_wrapper_aead::fastest())
}

/// The same with settings from the environment: see [`Pkcs11WrapperBuilder`].
pub fn from_env() -> Pkcs11WrapperBuilder {
    Pkcs11Wrapper::from_env().aead(kms_wrapper_aead::fastest())
}
