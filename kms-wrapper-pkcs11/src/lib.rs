//! A root wrapper over a key on a PKCS#11 token: a hardware security module, a smart card, SoftHSM.
//!
//! [`Pkcs11Wrapper`] encrypts a root key so that only the key on the token decrypts it again. It says on one page
//! what it promises; [`Pkcs11WrapperBuilder`] says what can be set.
//!
//! ```no_run
//! use kms_core::Wrapper as _;
//! use kms_wrapper_pkcs11::Pkcs11Wrapper;
//!
//! # async fn example() -> kms_core::Result<()> {
//! let wrapper = Pkcs11Wrapper::builder()
//!     .module("/usr/lib/softhsm/libsofthsm2.so")
//!     .token_label("production")
//!     .key_label("root")
//!     .pin_file("/run/secrets/pin")
//!     .build()?;
//! wrapper.preflight().await?; // finds the token and the key, logs in, uses the key
//!
//! let blob = wrapper.encrypt(b"attack at dawn", b"aad").await?;
//! assert_eq!(wrapper.decrypt(&blob, b"aad").await?.expose(), b"attack at dawn");
//! # Ok(())
//! # }
//! ```
//!
//! # What the key needs
//!
//! An AES key of 256 bits, made on the token, with `CKA_SENSITIVE` and without `CKA_EXTRACTABLE`. In
//! [`Pkcs11Mode::Direct`], `CKA_ENCRYPT` and `CKA_DECRYPT`; in [`Pkcs11Mode::Envelope`], `CKA_WRAP` and
//! `CKA_UNWRAP`.

mod builder;
mod cipher;
mod departure;
mod failure;
mod identity;
mod module;
mod pin;
mod sessions;
mod target;
mod token;
mod wrapper;

pub use builder::Pkcs11WrapperBuilder;
pub use failure::ServiceError;
pub use wrapper::Pkcs11Wrapper;
pub use wrapper::mode::Pkcs11Mode;
