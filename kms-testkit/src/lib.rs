//! What implementations of the roles in `kms-core` are tested with: conformance suites, and decorators
//! that count calls and inject faults.
//!
//! - [`repository`] is the suite for a [`Repository`](kms_core::Repository); [`change_sets`] makes the
//!   changes that it, and other tests of a store, apply.
//! - [`CountingRepository`] and [`CountingWrapper`] count calls: that another scope's rotation costs no
//!   call to the root wrapper is a number.
//! - [`FaultyRepository`] and [`FaultyWrapper`] fail, hang or wait where a test says: [`Fault`], [`When`].
//!   A [`Gate`] stops a call and lets it go on.
//! - [`ManualClock`] is moved by hand.
//!
//! Everything here is for tests: it panics where a test should fail.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a property fails by panicking, as any test does"
)]

pub mod change_sets;
pub mod repository;

mod clock;
mod counting;
mod fault;
mod faulty;
mod gate;

pub use clock::ManualClock;
pub use counting::{CountingRepository, CountingWrapper, RepositoryCalls, WrapperCalls};
pub use fault::{Fault, When};
pub use faulty::{FaultyRepository, FaultyWrapper, RepositoryMethod, WrapperMethod};
pub use gate::Gate;
