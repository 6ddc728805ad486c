//! What a module that uses keys wants in scope: `use kms_kit::prelude::*;`.

pub use kms_core::{Blob, Freshness, Kms, Purpose, Rewrap, RewrapKeys, ScopeId, Wrapper};

#[cfg(feature = "diesel-async")]
pub use kms_store_diesel::AsyncKeyConnection;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use kms_store_diesel::KeyConnection;
