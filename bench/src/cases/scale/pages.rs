//! When each page of work over all scopes began.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use kms_kit::core::{
    CampaignRepository, CampaignState, CampaignStep, CampaignSummary, ChangeSet, Changes,
    CollectionVersion, Hold, Lease, MissingKeys, NewCampaign, Outcome, Referencer, Resolution,
    RootCheck, ScopeFilter, Snapshot,
};
use kms_kit::{KeyVersionId, Purpose, Repository, Result, ScopeId};

/// A repository that notes when it is asked for a page of scopes, and how many the page before had.
#[derive(Debug)]
pub(super) struct Pages {
    inner: Arc<dyn Repository>,
    asked: Mutex<Vec<(Instant, usize)>>,
}

impl Pages {
    pub(super) fn new(inner: Arc<dyn Repository>) -> Self {
        Self {
            inner,
            asked: Mutex::default(),
        }
    }

    /// Nanoseconds for each scope, page by page, of what asks for the next page when it is done with one.
    pub(super) fn times(&self) -> Vec<f64> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .windows(2)
            .map(|pages| {
                let ((begin, count), (end, _)) = (pages[0], pages[1]);
                (end - begin).as_secs_f64() * 1e9 / count.max(1) as f64
            })
            .collect()
    }
}

#[async_trait]
impl Repository for Pages {
    async fn scopes(
        &self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ScopeId>> {
        let asked = Instant::now();
        let page = self.inner.scopes(filter, after, limit).await?;
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((asked, page.len()));
        Ok(page)
    }

    async fn validate_schema(&self) -> Result<String> {
        self.inner.validate_schema().await
    }

    async fn collection_version(&self, since: Option<CollectionVersion>) -> Result<Changes> {
        self.inner.collection_version(since).await
    }

    async fn scramble_collection_version(&self) -> Result<()> {
        self.inner.scramble_collection_version().await
    }

    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot> {
        self.inner.load(scopes).await
    }

    async fn scope_of(&self, id: &KeyVersionId) -> Result<Option<ScopeId>> {
        self.inner.scope_of(id).await
    }

    async fn apply(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Outcome>> {
        self.inner.apply(changes).await
    }

    async fn resolve(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Resolution>> {
        self.inner.resolve(changes).await
    }

    async fn missing(
        &self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> Result<Vec<MissingKeys>> {
        self.inner.missing(purposes, scopes).await
    }

    async fn copies(&self, scope: &ScopeId, ciphertexts: &[Vec<u8>]) -> Result<Vec<KeyVersionId>> {
        self.inner.copies(scope, ciphertexts).await
    }

    async fn root_checks(&self) -> Result<Vec<RootCheck>> {
        self.inner.root_checks().await
    }

    async fn store_root_check(&self, check: &RootCheck, former: Option<&[u8]>) -> Result<bool> {
        self.inner.store_root_check(check, former).await
    }

    async fn referencers(&self) -> Result<Vec<Referencer>> {
        self.inner.referencers().await
    }

    async fn count_scopes(&self, filter: &ScopeFilter) -> Result<u64> {
        self.inner.count_scopes(filter).await
    }
}

#[async_trait]
impl CampaignRepository for Pages {
    async fn start_campaign(&self, new: &NewCampaign, lease: &Lease) -> Result<CampaignState> {
        self.inner.start_campaign(new, lease).await
    }

    async fn campaign(&self, id: &str) -> Result<Option<CampaignState>> {
        self.inner.campaign(id).await
    }

    async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        self.inner.campaigns().await
    }

    async fn hold_campaign(&self, campaign: &str, lease: &Lease, hold: Hold) -> Result<bool> {
        self.inner.hold_campaign(campaign, lease, hold).await
    }

    async fn release_campaign(&self, campaign: &str, holder: &str) -> Result<()> {
        self.inner.release_campaign(campaign, holder).await
    }

    async fn apply_step(
        &self,
        changes: Arc<[ChangeSet]>,
        step: CampaignStep,
    ) -> Result<Vec<Outcome>> {
        self.inner.apply_step(changes, step).await
    }
}
