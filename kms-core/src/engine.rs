//! The engine.

use std::sync::Arc;

use crate::blob::Blob;
use crate::cache::Cache;
use crate::change::Receipt;
use crate::error::{Error, ErrorKind, Result};
use crate::id::DataKeyVersionId;
use crate::key_ring::{DataKeyWrapper, KeyRing, RootKeyWrapper};
use crate::opener::{Opener, Opening};
use crate::planner::Planner;
use crate::repository::{Referencer, Repository, ScopeFilter};
use crate::rows::ScopeRows;
use crate::scope::{Purpose, ScopeId};
use crate::secret::SecretBytes;

mod builder;
mod campaign;
mod census;
mod changes;
mod dangerous;
mod executor;
mod freshness;
mod listing;
mod loader;
mod moving;
mod named_roots;
mod numbers;
mod outage;
mod prepare;
mod queue;
mod reconcile;
mod renaming;
mod right_root;
mod warm_up;

pub use builder::KmsBuilder;
pub use campaign::{
    CampaignId, CampaignOptions, CampaignOutcome, CampaignProgress, CampaignReport,
};
pub use census::{Census, RootCensus};
pub use changes::Rewrap;
pub use dangerous::Dangerous;
pub use freshness::Freshness;
pub use listing::{Key, KeyId, KeyKind, KeyVersion};
pub use moving::{ImportReport, Imported};
pub use numbers::NumberProof;
pub use reconcile::{Reconciliation, Scopes};
pub use warm_up::{WarmUp, WarmUpOptions};

use builder::PARALLEL_ROOT_CALLS;
pub(crate) use executor::Executor;
use loader::Loader;
use queue::Queues;
use right_root::RightRoot;

/// The engine: the keys of all scopes of one database.
///
/// Built once by [`KmsBuilder`] from a [`Repository`], a root [`Wrapper`](crate::Wrapper) and the list of
/// purposes; then cloned freely (it is one pointer) into request handlers. All clones share one cache.
///
/// Getting a [`wrapper`](Self::wrapper) is meant for every request: when the scope's keys are in the cache
/// and fresh, it takes no lock, queries nothing and allocates nothing.
///
/// Operations that change keys run a transaction of their own, or, in the form `prepare_…`, give a
/// [`Prepared`](crate::Prepared) change that the application applies in a transaction of its own. In
/// either form the root wrapper is called only while no transaction is open.
#[derive(Clone, Debug)]
pub struct Kms(Arc<Engine>);

#[derive(Debug)]
struct Engine {
    repository: Arc<dyn Repository>,
    opener: Arc<Opener>,
    /// The root wrapper's key as far as it was known before any call.
    root_key_id: Option<String>,
    planner: Planner,
    purposes: Vec<Purpose>,
    cache: Arc<Cache>,
    loader: Arc<Loader>,
    executor: Executor,
    queues: Arc<Queues>,
    right_root: RightRoot,
}

impl Kms {
    /// The data key of this scope and purpose, ready to encrypt with its newest version and decrypt with
    /// any.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`], [`ErrorKind::UnknownPurpose`] (both only after the database was asked
    /// again), [`ErrorKind::UndeclaredPurpose`] if the scope lacks a purpose that the engine was not built
    /// with, [`ErrorKind::Stale`] if the cached keys are past their freshness and the database can't be
    /// asked; on a load those of the repository, and of the root wrapper if no version of the key opens.
    pub async fn wrapper(&self, scope: &ScopeId, purpose: &Purpose) -> Result<DataKeyWrapper> {
        if let Some(ring) = self.0.loader.at_hand(scope)
            && let Some(position) = ring.position(purpose)
            && !ring.is_damaged()
        {
            return ring.into_wrapper(position);
        }
        // On the heap, so that the future of the hot path stays small: it is moved with every call.
        Box::pin(self.find_wrapper(scope, purpose)).await
    }

    /// As [`wrapper`](Self::wrapper), and sure to hold this key version: if the cached keys do not have
    /// it, the database is asked again. For a row whose key version id is at hand.
    ///
    /// # Errors
    ///
    /// As [`wrapper`](Self::wrapper); [`ErrorKind::UnknownKeyVersion`] if the key has no such version.
    pub async fn wrapper_for(
        &self,
        scope: &ScopeId,
        purpose: &Purpose,
        id: &DataKeyVersionId,
    ) -> Result<DataKeyWrapper> {
        let (mut ring, position) = self.ring_with(scope, purpose).await?;
        if self.is_to_be_loaded(&ring, position, id.as_str()) {
            ring = Box::pin(self.0.loader.reload(scope)).await?;
        }
        let wrapper = ring.wrapper(purpose)?;
        if wrapper.holds(id.as_str()) {
            Ok(wrapper)
        } else {
            Err(Error::new(ErrorKind::UnknownKeyVersion)
                .with_operation("wrapper_for")
                .with_context("scope", scope)
                .with_context("purpose", purpose)
                .with_context("key_version", id))
        }
    }

    /// Decrypts a blob of this scope and purpose. Where the cached keys do not have the version that the
    /// blob names, the database is asked once; since that id comes from the blob, such questions are
    /// shared by all callers and spaced (see [`KmsBuilder::lookup_interval`]).
    ///
    /// # Errors
    ///
    /// As [`wrapper`](Self::wrapper) and [`DataKeyWrapper::decrypt`].
    pub async fn decrypt(
        &self,
        scope: &ScopeId,
        purpose: &Purpose,
        blob: &Blob,
        aad: &[u8],
    ) -> Result<SecretBytes> {
        let (mut ring, position) = self.ring_with(scope, purpose).await?;
        if self.is_to_be_loaded(&ring, position, blob.key_id()) {
            ring = Box::pin(self.0.loader.reload_spaced(scope)).await?;
        }
        ring.wrapper(purpose)?.decrypt(blob, aad)
    }

    /// The scope's root key, for tools that look after keys. **Never for data**: see [`RootKeyWrapper`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownScope`], and those of loading.
    pub async fn root_key_wrapper(&self, scope: &ScopeId) -> Result<RootKeyWrapper> {
        let ring = self.0.loader.ring(scope).await?;
        Ok(RootKeyWrapper::new(ring, Arc::clone(&self.0.opener)))
    }

    /// Makes the scope's keys available to synchronous code that must not query, such as the inside of a
    /// database transaction: a call to [`wrapper`](Self::wrapper) there may need a second connection, and
    /// a pool of N deadlocks under N such transactions.
    ///
    /// The ring holds the keys as they are now; it does not change any more.
    ///
    /// # Errors
    ///
    /// As [`wrapper`](Self::wrapper).
    pub async fn ensure(&self, scope: &ScopeId) -> Result<KeyRing> {
        self.0.loader.ring(scope).await
    }

    /// Opens rows that were read on a connection of the caller's, inside a transaction of the caller's. Keys
    /// that the cache knows by their wrapped form cost nothing; the result does not go into the cache,
    /// since that transaction may be rolled back.
    ///
    /// Root key versions that the cache does not know are unwrapped by the root wrapper, while the caller's
    /// transaction is open: [`ensure`](Self::ensure) the scope before it begins to avoid that.
    ///
    /// Key versions that do not open fail alone, when they are asked for.
    pub async fn open(&self, rows: &ScopeRows) -> KeyRing {
        let known = self.0.cache.good_for(rows);
        let opening = Opening {
            parallel: PARALLEL_ROOT_CALLS,
            now: self.0.cache.now(),
            keep: true,
            deadline: None,
        };
        self.0.opener.open(rows, known.as_ref(), opening).await
    }

    /// Takes receipts, after the commit of the transaction that gave them: from now on this process uses
    /// nothing older than those changes. It invalidates and no more, so that a receipt of a transaction
    /// that was rolled back after all does no harm.
    pub fn accept(&self, receipts: &[Receipt]) {
        for receipt in receipts {
            self.0.accept(receipt);
        }
    }

    /// The application's foreign keys to the data key versions, which prove that a version is unused.
    ///
    /// # Errors
    ///
    /// Those of the repository.
    pub async fn data_key_version_referencers(&self) -> Result<Vec<Referencer>> {
        self.0.repository.referencers().await
    }

    /// A page of the scopes that have keys: those after `after`, `limit` at most, in the database's order
    /// of their ids.
    ///
    /// # Errors
    ///
    /// Those of the repository.
    pub async fn scopes(&self, after: Option<&ScopeId>, limit: usize) -> Result<Vec<ScopeId>> {
        self.0
            .repository
            .scopes(&ScopeFilter::default(), after, limit)
            .await
    }

    /// Checks the version of the database schema, and gives it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SchemaVersion`], naming expected and found.
    pub async fn validate_schema(&self) -> Result<String> {
        self.0.repository.validate_schema().await
    }

    /// Tells all processes that the database was restored from a backup: the collection version moves to
    /// a random value, so that no cache takes keys of the lost history for current ones.
    ///
    /// # Errors
    ///
    /// Those of the repository.
    pub async fn announce_restore(&self) -> Result<()> {
        self.writable("announce_restore")?;
        let result = self.0.repository.scramble_collection_version().await;
        // After a failure too: whether it took effect is not known.
        self.0.cache.overtake_all();
        result
    }

    /// The purposes that the engine was built with.
    #[must_use]
    pub fn purposes(&self) -> &[Purpose] {
        &self.0.purposes
    }

    /// The keys of a scope, looked up again before it is said that they lack this purpose; and where its key is.
    async fn ring_with(&self, scope: &ScopeId, purpose: &Purpose) -> Result<(KeyRing, usize)> {
        let ring = self.0.loader.ring(scope).await?;
        if let Some(position) = ring.position(purpose) {
            return Ok((ring, position));
        }
        self.declared(purpose)?;
        let ring = Box::pin(self.0.loader.reload(scope)).await?;
        match ring.position(purpose) {
            Some(position) => Ok((ring, position)),
            None => Err(ring.unknown_purpose(purpose)),
        }
    }

    /// Whether the keys lack this version, or it did not open and may do so now.
    fn is_to_be_loaded(&self, ring: &KeyRing, position: usize, id: &str) -> bool {
        match ring.ring().data_keys[position]
            .version(id)
            .map(|version| &version.key)
        {
            Some(Ok(_)) => false,
            Some(Err(failure)) => {
                failure.wanted();
                failure.is_due(self.0.cache.now())
            }
            None => true,
        }
    }

    async fn find_wrapper(&self, scope: &ScopeId, purpose: &Purpose) -> Result<DataKeyWrapper> {
        let (ring, position) = self.ring_with(scope, purpose).await?;
        if ring.ring().data_keys[position].is_damaged() {
            self.wrapper_of_damaged(ring, position, purpose).await
        } else {
            ring.into_wrapper(position)
        }
    }

    /// Of keys of which some did not open. Those that are needed are tried again when their pause is over: a caller
    /// who can go on meanwhile does not wait for that.
    async fn wrapper_of_damaged(
        &self,
        ring: KeyRing,
        position: usize,
        purpose: &Purpose,
    ) -> Result<DataKeyWrapper> {
        let wrapper = ring.clone().into_wrapper(position);
        if let Ok(wrapper) = &wrapper {
            wrapper.want_newest();
        }
        if !ring.ring().data_keys[position].is_retry_due(self.0.cache.now()) {
            return wrapper;
        }
        let scope = ring.scope();
        match wrapper {
            Ok(wrapper) => {
                self.0.loader.retry(scope);
                Ok(wrapper)
            }
            Err(_) => self.0.loader.reload(scope).await?.wrapper(purpose),
        }
    }

    fn declared(&self, purpose: &Purpose) -> Result<()> {
        if self.0.purposes.contains(purpose) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::UndeclaredPurpose).with_context("purpose", purpose))
        }
    }

    fn writable(&self, operation: &'static str) -> Result<()> {
        if self.0.opener.decrypt_only {
            Err(Error::new(ErrorKind::DecryptOnly).with_operation(operation))
        } else {
            Ok(())
        }
    }
}
