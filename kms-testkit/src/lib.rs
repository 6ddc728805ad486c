//! What implementations of the roles in `kms-core` are tested with: conformance suites, and decorators
//! that count calls and inject faults.
//!
//! - [`repository`] is the suite for a [`Repository`](kms_core::Repository); [`change_sets`] makes the
//!   changes that it, and other tests of a store, apply.
//!
//! Everything here is for tests: it panics where a test should fail.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a property fails by panicking, as any test does"
)]

pub mod change_sets;
pub mod repository;
