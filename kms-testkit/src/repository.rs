//! The suite that every [`Repository`](kms_core::Repository) passes.
//!
//! One public function per property, named as a sentence, grouped by behaviour in modules; and
//! [`repository_suite!`](crate::repository_suite), which makes a `#[test]` of each, so that none is
//! forgotten and a failure names the property.
//!
//! # For a backend of your own
//!
//! Write a [`Fixture`]: it makes an empty database, gives out repositories on it, and does by plain SQL
//! what an application, or somebody with access to the database, does beside them. Then, in a test file:
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use kms_core::{MemoryRepository, Repository};
//! use kms_testkit::repository::{Feature, Fixture};
//!
//! struct Bare(MemoryRepository);
//!
//! #[async_trait]
//! impl Fixture for Bare {
//!     fn repository(&self) -> Arc<dyn Repository> {
//!         Arc::new(self.0.clone())
//!     }
//!
//!     // Each property that needs one of these is skipped, and says so.
//!     fn unsupported(&self) -> &[Feature] {
//!         &Feature::ALL
//!     }
//! }
//!
//! async fn bare() -> Bare {
//!     Bare(MemoryRepository::new())
//! }
//!
//! kms_testkit::repository_suite!(bare);
//! # fn main() {}
//! ```
//!
//! The constructor is called once for each property, inside a tokio runtime; what it made is dropped
//! with the test.

mod fixture;
mod run;
mod setup;
mod suite;

pub mod batches;
pub mod campaigns;
pub mod changes;
pub mod checking;
pub mod collection;
pub mod concurrency;
pub mod conflicts;
pub mod creating;
pub mod deleting;
pub mod finding;
pub mod holding;
pub mod loading;
pub mod moving;
pub mod paging;
pub mod resolving;
pub mod revoking;
pub mod rooting;
pub mod schema;
pub mod tampering;
pub mod telling;

pub use fixture::{Feature, Fixture, Offer, REFERENCE_COLUMN};
pub use run::{run, run_on_one_thread};
