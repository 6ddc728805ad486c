//! Conformance suites for `kms-kit`: what every `Aead` and every `Wrapper` must do, whoever wrote it.
//!
//! A suite is a module of functions, one for each property, that panic where the property does not hold. A
//! macro turns a suite into one `#[test]` for each property, so that a failure names both the property and
//! the backend, and none can be forgotten:
//!
//! - [`aead`] and [`aead_suite!`] for providers of AES-256-GCM,
//! - [`wrapper`](mod@wrapper) and [`wrapper_suite!`] for wrappers.

pub mod aead;
pub mod wrapper;
