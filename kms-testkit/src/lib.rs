//! What implementations of the roles in `kms-core` are tested with: conformance suites, and decorators
//! that count calls and inject faults.
//!
//! A suite is a module of functions, one for each property, that panic where the property does not hold. A
//! macro turns a suite into one `#[test]` for each property, so that a failure names both the property and
//! the backend, and none can be forgotten:
//!
//! - [`aead`] and [`aead_suite!`] for providers of AES-256-GCM,
//! - [`wrapper`](mod@wrapper) and [`wrapper_suite!`] for wrappers,
//! - [`repository`](mod@repository) and [`repository_suite!`] for repositories; [`change_sets`] makes the
//!   changes that it, and other tests of a store, apply.
//!
//! The decorators:
//!
//! - [`InstrumentedRepository`] and [`CountingWrapper`] count calls: that another scope's rotation costs no
//!   call to the root wrapper is a number.
//! - [`InstrumentedRepository`] and [`FaultyWrapper`] fail, hang or wait where a test says: [`Fault`], [`When`].
//!   A [`Gate`] stops a call and lets it go on.
//! - [`ManualClock`] is moved by hand.
//! - [`FaultyProxy`] stands between a client and a real service, and fails as a network does.
//!
//! With the feature `fake-cloud-kms` there is a server that answers as Google Cloud KMS does, as a library
//! (`kms_testkit::fake_cloud_kms`) and as a program of that name.
//!
//! [`service`] starts a real service for one test, to stop it and start it again.
//!
//! Everything here is for tests: it panics where a test should fail.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a property fails by panicking, as any test does"
)]

pub mod aead;
pub mod change_sets;
#[cfg(feature = "fake-cloud-kms")]
pub mod fake_cloud_kms;
pub mod repository;
pub mod service;
pub mod wrapper;

mod clock;
mod counting;
mod fault;
mod faulty;
mod gate;
mod instrumented;
mod port;
mod proxy;

pub use clock::ManualClock;
pub use counting::{CountingWrapper, WrapperCalls};
pub use fault::{Fault, When};
pub use faulty::{FaultyWrapper, WrapperMethod};
pub use gate::Gate;
pub use instrumented::{InstrumentedRepository, RepositoryCalls, RepositoryMethod};
pub use proxy::{FaultyProxy, NetworkFault};
