//! Decorators that let calls fail, hang or wait as a script says.

use std::sync::Arc;

use async_trait::async_trait;
use kms_core::{
    Blob, CampaignState, CampaignStep, CampaignSummary, ChangeSet, Changes, Claim,
    CollectionVersion, Hold, KeyVersionId, Lease, MissingKeys, NewCampaign, Outcome, Ownership,
    Purpose, Referencer, Repository, Resolution, Result, RootCheck, ScopeFilter, ScopeId,
    SecretBytes, Snapshot, VersionAge, Wrapper,
};

use crate::fault::{Fault, Script, When};

/// A repository whose calls fail, hang or wait where a test says so.
///
/// ```
/// use std::sync::Arc;
///
/// use kms_core::{Error, ErrorKind, MemoryRepository, Repository};
/// use kms_testkit::{Fault, FaultyRepository, RepositoryMethod, When};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let repository = FaultyRepository::new(Arc::new(MemoryRepository::new()));
/// let down = Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
/// repository.inject(RepositoryMethod::Load, When::Next, down);
/// assert!(repository.load(&[]).await.is_err());
/// assert!(repository.load(&[]).await.is_ok());
/// # }
/// ```
#[derive(Debug)]
pub struct FaultyRepository {
    inner: Arc<dyn Repository>,
    script: Script<RepositoryMethod>,
}

/// The methods of [`Repository`], to say which one a fault happens to.
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

impl FaultyRepository {
    /// Decorates a repository. Without faults it does what that one does.
    #[must_use]
    pub fn new(inner: Arc<dyn Repository>) -> Self {
        Self {
            inner,
            script: Script::new(),
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
}

#[async_trait]
impl Repository for FaultyRepository {
    fn server_changes(&self) -> u64 {
        self.inner.server_changes()
    }

    async fn validate_schema(&self) -> Result<String> {
        let call = self.inner.validate_schema();
        self.script
            .run(RepositoryMethod::ValidateSchema, call)
            .await
    }

    async fn collection_version(&self, since: Option<CollectionVersion>) -> Result<Changes> {
        let call = self.inner.collection_version(since);
        self.script
            .run(RepositoryMethod::CollectionVersion, call)
            .await
    }

    async fn scramble_collection_version(&self) -> Result<()> {
        let call = self.inner.scramble_collection_version();
        self.script
            .run(RepositoryMethod::ScrambleCollectionVersion, call)
            .await
    }

    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot> {
        let call = self.inner.load(scopes);
        self.script.run(RepositoryMethod::Load, call).await
    }

    async fn scope_of(&self, id: &KeyVersionId) -> Result<Option<ScopeId>> {
        let call = self.inner.scope_of(id);
        self.script.run(RepositoryMethod::ScopeOf, call).await
    }

    async fn apply(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Outcome>> {
        let count = changes.len();
        let call = self.inner.apply(changes);
        self.script
            .run_or_refuse(RepositoryMethod::Apply, call, |error| {
                Ok(vec![Err(error); count])
            })
            .await
    }

    async fn resolve(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Resolution>> {
        let call = self.inner.resolve(changes);
        self.script.run(RepositoryMethod::Resolve, call).await
    }

    async fn scopes(
        &self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ScopeId>> {
        let call = self.inner.scopes(filter, after, limit);
        self.script.run(RepositoryMethod::Scopes, call).await
    }

    async fn missing(
        &self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> Result<Vec<MissingKeys>> {
        let call = self.inner.missing(purposes, scopes);
        self.script.run(RepositoryMethod::Missing, call).await
    }

    async fn copies(&self, scope: &ScopeId, keys: &[Vec<u8>]) -> Result<Vec<KeyVersionId>> {
        let call = self.inner.copies(scope, keys);
        self.script.run(RepositoryMethod::Copies, call).await
    }

    async fn root_checks(&self) -> Result<Vec<RootCheck>> {
        let call = self.inner.root_checks();
        self.script.run(RepositoryMethod::RootChecks, call).await
    }

    async fn store_root_check(&self, check: &RootCheck, former: Option<&[u8]>) -> Result<bool> {
        let call = self.inner.store_root_check(check, former);
        self.script
            .run(RepositoryMethod::StoreRootCheck, call)
            .await
    }

    async fn referencers(&self) -> Result<Vec<Referencer>> {
        let call = self.inner.referencers();
        self.script.run(RepositoryMethod::Referencers, call).await
    }

    async fn count_scopes(&self, filter: &ScopeFilter) -> Result<u64> {
        let call = self.inner.count_scopes(filter);
        self.script.run(RepositoryMethod::CountScopes, call).await
    }

    async fn start_campaign(&self, new: &NewCampaign, lease: &Lease) -> Result<CampaignState> {
        let call = self.inner.start_campaign(new, lease);
        self.script.run(RepositoryMethod::StartCampaign, call).await
    }

    async fn campaign(&self, id: &str) -> Result<Option<CampaignState>> {
        let call = self.inner.campaign(id);
        self.script.run(RepositoryMethod::Campaign, call).await
    }

    async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        let call = self.inner.campaigns();
        self.script.run(RepositoryMethod::Campaigns, call).await
    }

    async fn hold_campaign(&self, campaign: &str, lease: &Lease, hold: Hold) -> Result<bool> {
        let call = self.inner.hold_campaign(campaign, lease, hold);
        self.script.run(RepositoryMethod::HoldCampaign, call).await
    }

    async fn release_campaign(&self, campaign: &str, holder: &str) -> Result<()> {
        let call = self.inner.release_campaign(campaign, holder);
        self.script
            .run(RepositoryMethod::ReleaseCampaign, call)
            .await
    }

    async fn apply_step(
        &self,
        changes: Arc<[ChangeSet]>,
        step: CampaignStep,
    ) -> Result<Vec<Outcome>> {
        let call = self.inner.apply_step(changes, step);
        self.script.run(RepositoryMethod::ApplyStep, call).await
    }
}

/// A wrapper whose calls fail, hang or wait where a test says so.
///
/// What it tells without I/O ([`kind`](Wrapper::kind), [`key_id`](Wrapper::key_id), ownership) is the
/// decorated wrapper's.
#[derive(Debug)]
pub struct FaultyWrapper {
    inner: Arc<dyn Wrapper>,
    script: Script<WrapperMethod>,
}

/// The methods of [`Wrapper`] that may do I/O, to say which one a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named after its method")]
pub enum WrapperMethod {
    Encrypt,
    Decrypt,
    Preflight,
}

impl FaultyWrapper {
    /// Decorates a wrapper. Without faults it does what that one does.
    #[must_use]
    pub fn new(inner: Arc<dyn Wrapper>) -> Self {
        Self {
            inner,
            script: Script::new(),
        }
    }

    /// Adds a fault. Several that meet in one call happen in the order they were added.
    pub fn inject(&self, method: WrapperMethod, when: When, fault: Fault) {
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
}

#[async_trait]
impl Wrapper for FaultyWrapper {
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
        let call = self.inner.encrypt(plaintext, aad);
        self.script.run(WrapperMethod::Encrypt, call).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let call = self.inner.decrypt(blob, aad);
        self.script.run(WrapperMethod::Decrypt, call).await
    }

    async fn preflight(&self) -> Result<()> {
        let call = self.inner.preflight();
        self.script.run(WrapperMethod::Preflight, call).await
    }
}
