//! Decorators that count calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kms_core::{
    Blob, CampaignState, CampaignStep, CampaignSummary, ChangeSet, Changes, Claim,
    CollectionVersion, Hold, KeyVersionId, Lease, MissingKeys, NewCampaign, Outcome, Ownership,
    Purpose, Referencer, Repository, Resolution, Result, RootCheck, ScopeFilter, ScopeId,
    SecretBytes, Snapshot, VersionAge, Wrapper,
};

/// A repository that counts its calls. They are counted when they begin, whatever becomes of them.
///
/// ```
/// use std::sync::Arc;
///
/// use kms_core::{MemoryRepository, Repository};
/// use kms_testkit::{CountingRepository, RepositoryCalls};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), kms_core::Error> {
/// let repository = CountingRepository::new(Arc::new(MemoryRepository::new()));
/// repository.load(&[]).await?;
/// let loaded_once = RepositoryCalls { load: 1, ..RepositoryCalls::default() };
/// assert_eq!(repository.calls(), loaded_once);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CountingRepository {
    inner: Arc<dyn Repository>,
    calls: Mutex<RepositoryCalls>,
}

/// How often each method of a [`Repository`] was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its method")]
pub struct RepositoryCalls {
    pub validate_schema: u64,
    pub collection_version: u64,
    pub scramble_collection_version: u64,
    pub load: u64,
    pub scope_of: u64,
    pub apply: u64,
    pub resolve: u64,
    pub scopes: u64,
    pub missing: u64,
    pub copies: u64,
    pub root_checks: u64,
    pub store_root_check: u64,
    pub referencers: u64,
    pub count_scopes: u64,
    pub start_campaign: u64,
    pub campaign: u64,
    pub campaigns: u64,
    pub hold_campaign: u64,
    pub release_campaign: u64,
    pub apply_step: u64,
}

impl CountingRepository {
    /// Decorates a repository.
    #[must_use]
    pub fn new(inner: Arc<dyn Repository>) -> Self {
        Self {
            inner,
            calls: Mutex::default(),
        }
    }

    /// The calls since it was made or last [`take`](Self::take)n.
    #[must_use]
    pub fn calls(&self) -> RepositoryCalls {
        *lock(&self.calls)
    }

    /// The same, and counts from zero again.
    #[must_use = "the calls so far; they are forgotten"]
    pub fn take(&self) -> RepositoryCalls {
        std::mem::take(&mut *lock(&self.calls))
    }

    fn count(&self, counter: impl FnOnce(&mut RepositoryCalls) -> &mut u64) {
        *counter(&mut lock(&self.calls)) += 1;
    }
}

#[async_trait]
impl Repository for CountingRepository {
    fn server_changes(&self) -> u64 {
        self.inner.server_changes()
    }

    async fn validate_schema(&self) -> Result<String> {
        self.count(|calls| &mut calls.validate_schema);
        self.inner.validate_schema().await
    }

    async fn collection_version(&self, since: Option<CollectionVersion>) -> Result<Changes> {
        self.count(|calls| &mut calls.collection_version);
        self.inner.collection_version(since).await
    }

    async fn scramble_collection_version(&self) -> Result<()> {
        self.count(|calls| &mut calls.scramble_collection_version);
        self.inner.scramble_collection_version().await
    }

    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot> {
        self.count(|calls| &mut calls.load);
        self.inner.load(scopes).await
    }

    async fn scope_of(&self, id: &KeyVersionId) -> Result<Option<ScopeId>> {
        self.count(|calls| &mut calls.scope_of);
        self.inner.scope_of(id).await
    }

    async fn apply(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Outcome>> {
        self.count(|calls| &mut calls.apply);
        self.inner.apply(changes).await
    }

    async fn resolve(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Resolution>> {
        self.count(|calls| &mut calls.resolve);
        self.inner.resolve(changes).await
    }

    async fn scopes(
        &self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ScopeId>> {
        self.count(|calls| &mut calls.scopes);
        self.inner.scopes(filter, after, limit).await
    }

    async fn missing(
        &self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> Result<Vec<MissingKeys>> {
        self.count(|calls| &mut calls.missing);
        self.inner.missing(purposes, scopes).await
    }

    async fn copies(&self, scope: &ScopeId, keys: &[Vec<u8>]) -> Result<Vec<KeyVersionId>> {
        self.count(|calls| &mut calls.copies);
        self.inner.copies(scope, keys).await
    }

    async fn root_checks(&self) -> Result<Vec<RootCheck>> {
        self.count(|calls| &mut calls.root_checks);
        self.inner.root_checks().await
    }

    async fn store_root_check(&self, check: &RootCheck, former: Option<&[u8]>) -> Result<bool> {
        self.count(|calls| &mut calls.store_root_check);
        self.inner.store_root_check(check, former).await
    }

    async fn referencers(&self) -> Result<Vec<Referencer>> {
        self.count(|calls| &mut calls.referencers);
        self.inner.referencers().await
    }

    async fn count_scopes(&self, filter: &ScopeFilter) -> Result<u64> {
        self.count(|calls| &mut calls.count_scopes);
        self.inner.count_scopes(filter).await
    }

    async fn start_campaign(&self, new: &NewCampaign, lease: &Lease) -> Result<CampaignState> {
        self.count(|calls| &mut calls.start_campaign);
        self.inner.start_campaign(new, lease).await
    }

    async fn campaign(&self, id: &str) -> Result<Option<CampaignState>> {
        self.count(|calls| &mut calls.campaign);
        self.inner.campaign(id).await
    }

    async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        self.count(|calls| &mut calls.campaigns);
        self.inner.campaigns().await
    }

    async fn hold_campaign(&self, campaign: &str, lease: &Lease, hold: Hold) -> Result<bool> {
        self.count(|calls| &mut calls.hold_campaign);
        self.inner.hold_campaign(campaign, lease, hold).await
    }

    async fn release_campaign(&self, campaign: &str, holder: &str) -> Result<()> {
        self.count(|calls| &mut calls.release_campaign);
        self.inner.release_campaign(campaign, holder).await
    }

    async fn apply_step(
        &self,
        changes: Arc<[ChangeSet]>,
        step: CampaignStep,
    ) -> Result<Vec<Outcome>> {
        self.count(|calls| &mut calls.apply_step);
        self.inner.apply_step(changes, step).await
    }
}

/// A wrapper that counts its calls, and how many there were at once. They are counted when they begin,
/// whatever becomes of them.
///
/// [`preflight`](Wrapper::preflight) counts as itself: what the decorated wrapper does for it is not
/// seen.
#[derive(Debug)]
pub struct CountingWrapper {
    inner: Arc<dyn Wrapper>,
    calls: Mutex<InFlight>,
}

/// How often the methods of a [`Wrapper`] that may do I/O were called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrapperCalls {
    /// Calls of `encrypt`.
    pub encrypt: u64,
    /// Calls of `decrypt`.
    pub decrypt: u64,
    /// Calls of `preflight`.
    pub preflight: u64,
    /// The most calls, of any of these, that were under way at the same time.
    pub most_at_once: u64,
}

#[derive(Debug, Default)]
struct InFlight {
    calls: WrapperCalls,
    now: u64,
}

impl CountingWrapper {
    /// Decorates a wrapper.
    #[must_use]
    pub fn new(inner: Arc<dyn Wrapper>) -> Self {
        Self {
            inner,
            calls: Mutex::default(),
        }
    }

    /// The calls since it was made or last [`take`](Self::take)n.
    #[must_use]
    pub fn calls(&self) -> WrapperCalls {
        lock(&self.calls).calls
    }

    /// The same, and counts from zero again.
    #[must_use = "the calls so far; they are forgotten"]
    pub fn take(&self) -> WrapperCalls {
        let mut state = lock(&self.calls);
        let from_now = WrapperCalls {
            most_at_once: state.now,
            ..WrapperCalls::default()
        };
        std::mem::replace(&mut state.calls, from_now)
    }

    fn count(&self, counter: impl FnOnce(&mut WrapperCalls) -> &mut u64) -> UnderWay<'_> {
        let mut state = lock(&self.calls);
        *counter(&mut state.calls) += 1;
        state.now += 1;
        state.calls.most_at_once = state.calls.most_at_once.max(state.now);
        UnderWay(&self.calls)
    }
}

/// A call that is under way, until it ends or its future is dropped.
struct UnderWay<'a>(&'a Mutex<InFlight>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(self.0).now -= 1;
    }
}

#[async_trait]
impl Wrapper for CountingWrapper {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn key_id(&self) -> Option<String> {
        self.inner.key_id()
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        self.inner.owns(blob)
    }

    fn claims(&self) -> Vec<Claim> {
        self.inner.claims()
    }

    fn version_of(&self, blob: &Blob) -> VersionAge {
        self.inner.version_of(blob)
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.inner.is_current(blob)
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let _under_way = self.count(|calls| &mut calls.encrypt);
        self.inner.encrypt(plaintext, aad).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let _under_way = self.count(|calls| &mut calls.decrypt);
        self.inner.decrypt(blob, aad).await
    }

    async fn preflight(&self) -> Result<()> {
        let _under_way = self.count(|calls| &mut calls.preflight);
        self.inner.preflight().await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
