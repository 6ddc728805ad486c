//! The key hierarchy of a multi-tenant application: the engine, and what it is put together from.
//!
//! Applications take `kms-kit`, which is this crate with a database, root wrappers and an AEAD chosen. Take this one
//! alone to write a root wrapper, a repository or an AEAD of your own.
//!
//! | to … | see |
//! |---|---|
//! | use keys, create, rotate, rewrap, revoke them | [`Kms`], made by [`KmsBuilder`] |
//! | encrypt and decrypt with a scope's key | [`DataKeyWrapper`], [`RootKeyWrapper`], [`KeyRing`] |
//! | change keys in a transaction of the application | [`Prepared`], [`ChangeSet`], [`Receipt`] |
//! | do something for all scopes | [`CampaignOptions`], [`CampaignOutcome`], [`Census`] |
//! | write a root wrapper | [`Wrapper`]; [`service`] and [`CallLimits`] help with those behind a network |
//! | move tenants between databases, or rename them | [`ExportedScope`], [`Kms::export_scopes`], [`Kms::rename_scope`] |
//! | use several roots, to move from one to another | [`PooledWrapper`] |
//! | give tenants roots of their own | [`RootName`], [`RootResolver`], [`NamedRootLimits`] |
//! | write a repository | [`Repository`], [`ScopeRows`]; [`MemoryRepository`] is the smallest |
//! | bring another AES-256-GCM | [`Aead`], [`AeadKey`] |
//! | tell failures apart | [`Error`], [`ErrorKind`] |
//!
//! A [`Blob`] is what encrypting gives: an AES-256-GCM ciphertext with its nonce and the id of the key version, in the
//! protobuf layout of go-kms-wrapping's `BlobInfo`. Keys lie in [`SecretBytes`] and [`KeyBytes`], which show nothing
//! and are wiped when dropped. Each of these traits has a suite in `kms-testkit` that an implementation is to pass.

mod aead;
mod applying;
mod binding;
mod blob;
mod cache;
mod call_limits;
mod change;
mod clock;
mod counted;
mod engine;
mod envelope;
mod error;
mod exported;
mod fingerprint;
mod guard;
mod id;
mod key_ring;
mod local_key;
mod memory;
#[cfg(all(test, shuttle))]
mod model;
mod opener;
mod planner;
mod pool;
mod prepared;
mod random;
mod repository;
mod resolution;
mod resting_key;
mod root_name;
mod roots;
mod rows;
mod scope;
mod secret;
pub mod service;
mod sync;
mod usage;
mod wrapper;

pub use aead::{Aead, AeadError, AeadKey, NONCE_LEN, TAG_LEN};
pub use applying::{Applied, Batch, Refusal, Writes, Written};
pub use binding::Binding;
pub use blob::Blob;
pub use call_limits::CallLimits;
pub use change::{
    ChangeSet, Deletion, DeletionTarget, Inserts, NewDataKey, NewDataKeyVersion, NewRootKeyVersion,
    Operation, Proof, Receipt, RewrappedDataKeyVersion, RootChange, Updates,
};
pub use clock::{Clock, SystemClock};
pub use engine::{
    CampaignId, CampaignOptions, CampaignOutcome, CampaignProgress, CampaignReport, Census,
    Dangerous, Freshness, ImportReport, Imported, Key, KeyId, KeyKind, KeyVersion, Kms, KmsBuilder,
    NumberProof, Reconciliation, Rewrap, RootCensus, Scopes, WarmUp, WarmUpOptions,
};
pub use envelope::{ENVELOPE_MECHANISM, Envelope, Sealed};
pub use error::{Error, ErrorKind, Result};
pub use exported::{ExportedScope, VerifiedImport};
pub use id::{DataKeyId, DataKeyVersionId, Id, KeyVersionId, RootKeyId, RootKeyVersionId, kind};
pub use key_ring::{DataKeyWrapper, KeyRing, RootKeyWrapper};
pub use local_key::LocalKey;
pub use memory::MemoryRepository;
pub use planner::RewrapKeys;
pub use pool::PooledWrapper;
pub use prepared::{PendingDataKeyWrapper, Prepared};
pub use repository::{
    Advance, CampaignFailure, CampaignRepository, CampaignState, CampaignStep, CampaignSummary,
    Changes, Hold, Lack, Lease, MissingKeys, NewCampaign, OnDelete, Outcome, Referencer,
    Repository, Resolution, RootCheck, SCHEMA_VERSION, ScopeFilter, Step, provable,
    schema_mismatch,
};
pub use root_name::RootName;
pub use roots::{NamedRootLimits, ResolverError, RootResolver};
pub use rows::{
    CollectionVersion, DataKeyRow, DataKeyVersionRow, RootKeyVersionRow, ScopeRows, Snapshot,
};
pub use scope::{MAX_NAME_BYTES, Purpose, ScopeId};
pub use secret::{KeyBytes, SecretBytes};
pub use wrapper::{Claim, Ownership, VersionAge, Wrapper};
