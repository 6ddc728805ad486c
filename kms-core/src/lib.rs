//! The key hierarchy of a multi-tenant application.

mod aead;
mod binding;
mod blob;
mod cache;
mod call_limits;
mod change;
mod clock;
mod engine;
mod envelope;
mod error;
mod id;
mod key_ring;
mod local_key;
mod memory;
mod opener;
mod planner;
mod pool;
mod prepared;
mod random;
mod repository;
mod resolution;
mod rows;
mod scope;
mod secret;
mod wrapper;

pub use aead::{Aead, AeadError, AeadKey, NONCE_LEN, TAG_LEN};
pub use binding::Binding;
pub use blob::Blob;
pub use call_limits::CallLimits;
pub use change::{
    ChangeSet, Deletion, DeletionTarget, Inserts, NewDataKey, NewDataKeyVersion, NewRootKeyVersion,
    Operation, Proof, Receipt, RewrappedDataKeyVersion, Updates,
};
pub use clock::{Clock, SystemClock};
pub use engine::{
    CampaignOptions, CampaignOutcome, CampaignProgress, Census, Dangerous, Freshness, Key, KeyId,
    KeyKind, KeyVersion, Kms, KmsBuilder, Reconciliation, Rewrap, Scopes,
};
pub use envelope::{ENVELOPE_MECHANISM, Envelope, Sealed};
pub use error::{Error, ErrorKind, Result};
pub use id::{DataKeyId, DataKeyVersionId, Id, KeyVersionId, RootKeyId, RootKeyVersionId, kind};
pub use key_ring::{DataKeyWrapper, KeyRing, RootKeyWrapper};
pub use local_key::LocalKey;
pub use memory::MemoryRepository;
pub use planner::RewrapKeys;
pub use pool::PooledWrapper;
pub use prepared::{PendingDataKeyWrapper, Prepared};
pub use repository::{
    Advance, CampaignFailure, CampaignState, CampaignStep, Lack, MissingKeys, NewCampaign,
    OnDelete, Outcome, Referencer, Repository, Resolution, SCHEMA_VERSION, ScopeFilter, provable,
    schema_mismatch,
};
pub use rows::{
    CollectionVersion, DataKeyRow, DataKeyVersionRow, RootKeyVersionRow, ScopeRows, Snapshot,
};
pub use scope::{MAX_NAME_BYTES, Purpose, ScopeId};
pub use secret::{KeyBytes, SecretBytes};
pub use wrapper::{Ownership, Wrapper};
