//! A decorator of a repository, by which a test sees its calls and lets them fail.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kms_core::{
    CampaignRepository, CampaignState, CampaignStep, CampaignSummary, ChangeSet, Changes,
    CollectionVersion, Hold, KeyVersionId, Lease, MissingKeys, NewCampaign, Outcome, Purpose,
    Referencer, Repository, Resolution, Result, RootCheck, ScopeFilter, ScopeId, Snapshot,
};

use crate::fault::{Fault, Script, When};

/// A repository that counts its calls, and whose calls fail, hang or wait where a test says so.
///
/// Calls are counted when they come to the decorated repository, whatever becomes of them: one that fails before, or
/// waits at a gate, is not.
///
/// ```
/// use std::sync::Arc;
///
/// use kms_core::{Error, ErrorKind, MemoryRepository, Repository};
/// use kms_testkit::{Fault, InstrumentedRepository, RepositoryCalls, RepositoryMethod, When};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let repository = InstrumentedRepository::new(Arc::new(MemoryRepository::new()));
/// let down = Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
/// repository.inject(RepositoryMethod::Load, When::Next, down);
/// assert!(repository.load(&[]).await.is_err());
/// assert!(repository.load(&[]).await.is_ok());
/// let loaded_once = RepositoryCalls { load: 1, ..RepositoryCalls::default() };
/// assert_eq!(repository.calls(), loaded_once);
/// # }
/// ```
#[derive(Debug)]
pub struct InstrumentedRepository {
    inner: Arc<dyn Repository>,
    script: Script<RepositoryMethod>,
    calls: Mutex<RepositoryCalls>,
}

/// The methods of [`Repository`] and [`CampaignRepository`], to say which one a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named after its method")]
pub enum RepositoryMethod {
    ValidateSchema,
    CollectionVersion,
    ScrambleCollectionVersion,
    Load,
    ScopeOf,
    Apply,
    Resolve,
    Scopes,
    Missing,
    Copies,
    RootChecks,
    StoreRootCheck,
    Referencers,
    CountScopes,
    StartCampaign,
    Campaign,
    Campaigns,
    HoldCampaign,
    ReleaseCampaign,
    ApplyStep,
}

/// How often each method of a [`Repository`] and [`CampaignRepository`] was called.
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

impl InstrumentedRepository {
    /// Decorates a repository. Without faults it does what that one does.
    #[must_use]
    pub fn new(inner: Arc<dyn Repository>) -> Self {
        Self {
            inner,
            script: Script::new(),
            calls: Mutex::default(),
        }
    }

    /// Adds a fault. Several that meet in one call happen in the order they were added.
    pub fn inject(&self, method: RepositoryMethod, when: When, fault: Fault) {
        self.script.inject(method, when, fault);
    }

    /// Takes back all faults that have not happened yet. Calls that wait at a gate go on waiting.
    pub fn clear(&self) {
        self.script.clear();
    }

    /// How many faults have not happened yet, so that a test can see that all of them did.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.script.pending()
    }

    /// The calls since it was made or last [`take`](Self::take)n.
    #[must_use]
    pub fn calls(&self) -> RepositoryCalls {
        *self.counters()
    }

    /// The same, and counts from zero again.
    #[must_use = "the calls so far; they are forgotten"]
    pub fn take(&self) -> RepositoryCalls {
        std::mem::take(&mut *self.counters())
    }

    async fn counted<T>(
        &self,
        counter: fn(&mut RepositoryCalls) -> &mut u64,
        call: impl Future<Output = T>,
    ) -> T {
        *counter(&mut self.counters()) += 1;
        call.await
    }

    fn counters(&self) -> MutexGuard<'_, RepositoryCalls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Repository for InstrumentedRepository {
    fn server_changes(&self) -> u64 {
        self.inner.server_changes()
    }

    async fn validate_schema(&self) -> Result<String> {
        let call = self.counted(
            |calls| &mut calls.validate_schema,
            self.inner.validate_schema(),
        );
        self.script
            .run(RepositoryMethod::ValidateSchema, call)
            .await
    }

    async fn collection_version(&self, since: Option<CollectionVersion>) -> Result<Changes> {
        let call = self.counted(
            |calls| &mut calls.collection_version,
            self.inner.collection_version(since),
        );
        self.script
            .run(RepositoryMethod::CollectionVersion, call)
            .await
    }

    async fn scramble_collection_version(&self) -> Result<()> {
        let call = self.counted(
            |calls| &mut calls.scramble_collection_version,
            self.inner.scramble_collection_version(),
        );
        self.script
            .run(RepositoryMethod::ScrambleCollectionVersion, call)
            .await
    }

    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot> {
        let call = self.counted(|calls| &mut calls.load, self.inner.load(scopes));
        self.script.run(RepositoryMethod::Load, call).await
    }

    async fn scope_of(&self, id: &KeyVersionId) -> Result<Option<ScopeId>> {
        let call = self.counted(|calls| &mut calls.scope_of, self.inner.scope_of(id));
        self.script.run(RepositoryMethod::ScopeOf, call).await
    }

    async fn apply(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Outcome>> {
        let count = changes.len();
        let call = self.counted(|calls| &mut calls.apply, self.inner.apply(changes));
        let refuse = |error| Ok(vec![Err(error); count]);
        self.script
            .run_or_refuse(RepositoryMethod::Apply, call, refuse)
            .await
    }

    async fn resolve(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Resolution>> {
        let call = self.counted(|calls| &mut calls.resolve, self.inner.resolve(changes));
        self.script.run(RepositoryMethod::Resolve, call).await
    }

    async fn scopes(
        &self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ScopeId>> {
        let call = self.counted(
            |calls| &mut calls.scopes,
            self.inner.scopes(filter, after, limit),
        );
        self.script.run(RepositoryMethod::Scopes, call).await
    }

    async fn missing(
        &self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> Result<Vec<MissingKeys>> {
        let call = self.counted(
            |calls| &mut calls.missing,
            self.inner.missing(purposes, scopes),
        );
        self.script.run(RepositoryMethod::Missing, call).await
    }

    async fn copies(&self, scope: &ScopeId, keys: &[Vec<u8>]) -> Result<Vec<KeyVersionId>> {
        let call = self.counted(|calls| &mut calls.copies, self.inner.copies(scope, keys));
        self.script.run(RepositoryMethod::Copies, call).await
    }

    async fn root_checks(&self) -> Result<Vec<RootCheck>> {
        let call = self.counted(|calls| &mut calls.root_checks, self.inner.root_checks());
        self.script.run(RepositoryMethod::RootChecks, call).await
    }

    async fn store_root_check(&self, check: &RootCheck, former: Option<&[u8]>) -> Result<bool> {
        let call = self.counted(
            |calls| &mut calls.store_root_check,
            self.inner.store_root_check(check, former),
        );
        self.script
            .run(RepositoryMethod::StoreRootCheck, call)
            .await
    }

    async fn referencers(&self) -> Result<Vec<Referencer>> {
        let call = self.counted(|calls| &mut calls.referencers, self.inner.referencers());
        self.script.run(RepositoryMethod::Referencers, call).await
    }

    async fn count_scopes(&self, filter: &ScopeFilter) -> Result<u64> {
        let call = self.counted(
            |calls| &mut calls.count_scopes,
            self.inner.count_scopes(filter),
        );
        self.script.run(RepositoryMethod::CountScopes, call).await
    }
}

#[async_trait]
impl CampaignRepository for InstrumentedRepository {
    async fn start_campaign(&self, new: &NewCampaign, lease: &Lease) -> Result<CampaignState> {
        let call = self.counted(
            |calls| &mut calls.start_campaign,
            self.inner.start_campaign(new, lease),
        );
        self.script.run(RepositoryMethod::StartCampaign, call).await
    }

    async fn campaign(&self, id: &str) -> Result<Option<CampaignState>> {
        let call = self.counted(|calls| &mut calls.campaign, self.inner.campaign(id));
        self.script.run(RepositoryMethod::Campaign, call).await
    }

    async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        let call = self.counted(|calls| &mut calls.campaigns, self.inner.campaigns());
        self.script.run(RepositoryMethod::Campaigns, call).await
    }

    async fn hold_campaign(&self, campaign: &str, lease: &Lease, hold: Hold) -> Result<bool> {
        let call = self.counted(
            |calls| &mut calls.hold_campaign,
            self.inner.hold_campaign(campaign, lease, hold),
        );
        self.script.run(RepositoryMethod::HoldCampaign, call).await
    }

    async fn release_campaign(&self, campaign: &str, holder: &str) -> Result<()> {
        let call = self.counted(
            |calls| &mut calls.release_campaign,
            self.inner.release_campaign(campaign, holder),
        );
        self.script
            .run(RepositoryMethod::ReleaseCampaign, call)
            .await
    }

    async fn apply_step(
        &self,
        changes: Arc<[ChangeSet]>,
        step: CampaignStep,
    ) -> Result<Vec<Outcome>> {
        let call = self.counted(
            |calls| &mut calls.apply_step,
            self.inner.apply_step(changes, step),
        );
        self.script.run(RepositoryMethod::ApplyStep, call).await
    }
}
