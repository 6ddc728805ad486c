//! Encryption keys of a multi-tenant application, kept in that application's own database.
//!
//! Each tenant has keys of its own, so that one tenant's data can be re-encrypted, or made unreadable for
//! good, without touching another's. The keys lie in the application's Postgres or SQLite database, wrapped;
//! the one key that can unwrap them lies elsewhere: in a cloud KMS, in Vault, or in a file. All of them have
//! versions, and are rotated while the application runs.
//!
//! # The terms
//!
//! ```text
//! root wrapper        a key outside the database: the root of trust
//!   └─ root key       one per scope (tenant); a key encryption key (KEK)
//!        └─ data key  one per scope and purpose; a data encryption key (DEK)
//!             └─ data
//! ```
//!
//! - A **scope** is a tenant: an organisation, a project, whatever the application rotates and deletes on its
//!   own. The system knows only its id ([`ScopeId`]).
//! - A **purpose** says why a data key exists: `oidc`, `client-secrets` ([`Purpose`]). An application fixes its
//!   purposes when it builds the engine.
//! - Root keys and data keys have **versions**. The newest version encrypts; every version that still exists
//!   decrypts. A blob carries the id of the data key version that made it.
//! - **Rotating** makes new versions. **Rewrapping** encrypts the same keys anew, for another root wrapper or to
//!   free an older root key version. **Revoking** deletes a version, and is refused while anything needs it.
//! - A **wrapper** ([`Wrapper`]) is anything that encrypts bytes into a [`Blob`] and back: the root wrapper, and
//!   each key.
//!
//! # Using it
//!
//! Run the migrations beside your own ([`migrations`]), give the tables the two foreign keys below, and build one
//! engine ([`Kms`]) at start-up:
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use kms_kit::prelude::*;
//! use kms_kit::{AeadWrapper, SqliteRepository};
//!
//! const OIDC: Purpose = Purpose::from_static("oidc");
//!
//! // The root of trust: 32 bytes in hex or base64. (Or a wrapper of your own; see the example.)
//! let root = AeadWrapper::builder("local-2027")
//!     .key_from_env("APP_ROOT_KEY")
//!     .build()?;
//! let repository = SqliteRepository::builder("app.sqlite3").build()?;
//! let kms = kms_kit::builder(Arc::new(repository))
//!     .root_wrapper(Arc::new(root))
//!     .purposes([OIDC])
//!     .build()
//!     .await?;
//!
//! // When a tenant is created:
//! let tenant = ScopeId::new("o_1")?;
//! kms.create_keys(&tenant, &[OIDC]).await?;
//!
//! // In every request; without a query while the tenant's keys are cached and fresh:
//! let wrapper = kms.wrapper(&tenant, &OIDC).await?;
//! let blob = wrapper.encrypt(b"secret", b"client:7")?;
//! let row = (blob.encode(), wrapper.key_version_id().to_string());
//!
//! // Later, and also when the key has rotated meanwhile:
//! let blob = Blob::decode(&row.0)?;
//! let secret = kms.decrypt(&tenant, &OIDC, &blob, b"client:7").await?;
//! assert_eq!(secret.expose(), b"secret");
//! # Ok(())
//! # }
//! ```
//!
//! `cargo run -p kms-kit --example quickstart` tells the whole story on a real database.
//!
//! The engine is ready after two queries and one call of the root wrapper. Where a process is to serve many tenants at full speed from its start,
//! [`Kms::warm_up`] loads them first, with one query for many of them and as many calls to the root wrapper at once as
//! you allow.
//!
//! # The two foreign keys
//!
//! They make the database itself see to it that no key is orphaned and no key in use is destroyed. On
//! Postgres:
//!
//! ```sql
//! -- Keys go with their tenant: deleting an organization shreds its keys.
//! alter table kms_root_key
//!     add foreign key (scope_id) references organization (id) on delete cascade;
//!
//! -- A key version that encrypted something can't be revoked.
//! create table oidc_client (
//!     id text primary key,
//!     organization_id text not null references organization (id) on delete cascade,
//!     secret bytea not null,                       -- Blob::encode
//!     key_version_id text not null references kms_data_key_version (private_id)
//!         on delete no action deferrable initially deferred
//! );
//! create index on oidc_client (key_version_id);
//! ```
//!
//! `no action`, deferred, lets the deletion of an organization take its clients and its keys along in one
//! statement, in whatever order the cascade reaches them. A plain `restrict` refuses that: then delete the
//! clients first. A cascading foreign key to `kms_data_key_version` would let a revocation delete data, so
//! with one of these a revocation is refused. The scope column must be text; a uuid or bigint key gets a
//! text column for it. On SQLite a foreign key can't be added to a table that exists: see the quickstart's
//! migration for how it is done there, and turn `foreign_keys` on in every connection.
//!
//! Beware of `replace into` (or `insert or replace`) on the table of scopes: SQLite deletes the old row first,
//! and with it, by cascade, all keys of the tenant.
//!
//! # Changing keys together with your own rows
//!
//! `prepare_…` does everything that may take time (key generation, the root wrapper) and gives a
//! [`Prepared`] change, which `KeyConnection::apply_changes` applies on your own diesel connection inside
//! your own transaction; `AsyncKeyConnection` does the same on a connection of diesel-async. Apply change sets first, all in one call, and keep that transaction short. After
//! the commit hand the receipts to [`Kms::accept`].
//!
//! Inside a transaction don't ask the engine for keys (that may take a second connection, and a pool of N
//! deadlocks under N such transactions): call [`Kms::ensure`] before it begins.
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `sqlite` (default) | `SqliteRepository`; SQLite is built in |
//! | `postgres` | `PostgresRepository`, linked with the system's libpq |
//! | `postgres-bundled` | the same with libpq built from source |
//! | `diesel-async` | `AsyncPostgresRepository` and `AsyncKeyConnection`: Postgres through tokio-postgres, without libpq |
//! | `ring` (default) | AES-256-GCM by ring: the fastest |
//! | `aws-lc-rs` | AES-256-GCM by AWS-LC |
//! | `aws` | [`aws`]: a root key in AWS KMS |
//! | `gcp` | [`gcp`]: a root key in Google Cloud KMS |
//! | `pkcs11` | [`pkcs11`]: a root key on a PKCS#11 token, such as a hardware security module |
//! | `vault` | [`vault`]: a root key in HashiCorp Vault or OpenBao |
//! | `full` | all of the above but the bundled libpq |
//!
//! Without any: the domain with its in-memory repository, and AES-256-GCM in portable Rust.
//!
//! # Errors
//!
//! One type, [`Error`], in everything but the migrations: match on its [`kind`](Error::kind), ask
//! [`is_retryable`](Error::is_retryable), log its `Display`: nothing secret is in it.

use std::sync::Arc;

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "gcp")]
pub mod gcp;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
pub mod prelude;

mod root_wrapper;

/// The terms and the engine.
pub use kms_core::{
    Binding, Blob, Census, Claim, Clock, DataKeyVersionId, DataKeyWrapper, Error, ErrorKind,
    Freshness, Key, KeyId, KeyKind, KeyRing, KeyVersion, KeyVersionId, Kms, KmsBuilder,
    NumberProof, Ownership, PendingDataKeyWrapper, PooledWrapper, Prepared, Purpose, Receipt,
    Reconciliation, Repository, Result, Rewrap, RewrapKeys, RootKeyWrapper, ScopeId, Scopes,
    SecretBytes, SystemClock, VersionAge, WarmUp, WarmUpOptions, Wrapper,
};
/// Work over all scopes.
pub use kms_core::{
    CampaignFailure, CampaignId, CampaignOptions, CampaignOutcome, CampaignProgress,
    CampaignReport, CampaignSummary,
};
/// Tenants that move to another database.
pub use kms_core::{ExportedScope, ImportReport, Imported, VerifiedImport};
/// Roots of trust that tenants bring.
pub use kms_core::{NamedRootLimits, ResolverError, RootCensus, RootName, RootResolver};
/// A local root key.
pub use kms_wrapper_aead::{AeadWrapper, AeadWrapperBuilder};
/// A root wrapper chosen by URL.
pub use root_wrapper::{RootWrapper, Scheme};

#[cfg(any(feature = "diesel-async", feature = "postgres", feature = "sqlite"))]
pub use kms_migrations as migrations;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use kms_store_diesel::KeyConnection;
#[cfg(feature = "postgres")]
pub use kms_store_diesel::PostgresRepository;
#[cfg(feature = "sqlite")]
pub use kms_store_diesel::SqliteRepository;
#[cfg(feature = "diesel-async")]
pub use kms_store_diesel::{AsyncKeyConnection, AsyncPostgresRepository};

/// Everything of the domain, for those who implement a repository, a wrapper or an AEAD provider.
pub use kms_core as core;
/// A transit key in HashiCorp Vault or OpenBao as the root of trust.
#[cfg(feature = "vault")]
pub use kms_wrapper_vault as vault;

/// The AEAD providers that are compiled in.
pub use kms_wrapper_aead as aead;

/// Starts building an engine on this repository, with the fastest AEAD provider that is compiled in.
///
/// To choose the provider, use [`KmsBuilder::new`].
pub fn builder(repository: Arc<dyn Repository>) -> KmsBuilder {
    KmsBuilder::new(repository, kms_wrapper_aead::fastest())
}
