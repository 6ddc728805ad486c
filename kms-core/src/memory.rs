//! A repository in memory: for tests of applications, and the smallest example of the contract.

mod apply;
mod campaign;
mod renaming;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;

use self::state::State;
use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyVersionId, KeyVersionId};
use crate::repository::{
    CampaignRepository, CampaignState, CampaignStep, CampaignSummary, Changes, Hold, Lease,
    NewCampaign, Outcome, Referencer, Repository, Resolution, RootCheck, SCHEMA_VERSION,
    ScopeFilter, schema_mismatch,
};
use crate::rows::{CollectionVersion, ScopeRows, Snapshot};
use crate::scope::ScopeId;

/// Keeps everything in memory, with the semantics of the databases. A clone is another handle to the
/// same rows, as another process would have.
///
/// The tables that an application has beside ours are played by
/// [`declare_referencer`](Self::declare_referencer) and [`reference`](Self::reference), so that a test
/// of an application sees a revocation refused or granted for the same reasons as in production.
///
/// ```
/// use kms_core::{MemoryRepository, OnDelete, Referencer};
///
/// let repository = MemoryRepository::new();
/// repository.declare_referencer(Referencer {
///     schema: None,
///     table: "oidc_client".into(),
///     column: "key_version_id".into(),
///     on_delete: OnDelete::NoAction,
/// });
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryRepository {
    state: Arc<Mutex<State>>,
}

impl MemoryRepository {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a table of the application with a foreign key to the data key versions.
    pub fn declare_referencer(&self, referencer: Referencer) {
        self.state().referencers.push(referencer);
    }

    /// Drops a table of the application, rows and all.
    pub fn drop_referencer(&self, table: &str) {
        let mut state = self.state();
        state.referencers.retain(|known| known.table != table);
        state.references.retain(|row| row.table != table);
    }

    /// Inserts a row into the application's table that references this data key version.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Database`] if the table was not declared, or there is no such version: the foreign
    /// key would refuse it.
    pub fn reference(&self, id: &DataKeyVersionId, table: &str) -> Result<()> {
        self.state().reference(id, table)
    }

    /// Deletes one such row. Gives whether there was one.
    #[must_use = "whether there was such a row"]
    pub fn release(&self, id: &DataKeyVersionId, table: &str) -> bool {
        let references = &mut self.state().references;
        let position = references
            .iter()
            .position(|row| row.id == *id && row.table == table);
        position.map(|row| references.swap_remove(row)).is_some()
    }

    /// Does what somebody with access to the database could do: edits rows by hand, with no check but
    /// the uniqueness of scopes and ids, which every database sees to. Rows taken out count as deleted;
    /// if a whole scope goes, the collection version moves, as the trigger sees to.
    ///
    /// ```
    /// # use kms_core::MemoryRepository;
    /// # let repository = MemoryRepository::new();
    /// repository.tamper(|scopes| {
    ///     for version in scopes.iter_mut().flat_map(|rows| &mut rows.root_key_versions) {
    ///         version.key[0] ^= 1;
    ///     }
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// If a scope or an id is then there twice. The closure must not use the repository: that would wait
    /// for itself.
    pub fn tamper(&self, edit: impl FnOnce(&mut Vec<ScopeRows>)) {
        let mut state = self.state();
        let mut scopes = state.scopes.values().cloned().collect();
        edit(&mut scopes);
        state.replace(scopes);
    }

    /// Sets the schema version, to see how an application meets a database of another one.
    pub fn set_schema_version(&self, version: &str) {
        version.clone_into(&mut self.state().schema_version);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic can only come from a closure given to `tamper`, before anything is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Repository for MemoryRepository {
    async fn validate_schema(&self) -> Result<String> {
        let found = self.state().schema_version.clone();
        if found == SCHEMA_VERSION {
            Ok(found)
        } else {
            Err(schema_mismatch(SCHEMA_VERSION, Some(&found)))
        }
    }

    async fn collection_version(&self, since: Option<CollectionVersion>) -> Result<Changes> {
        Ok(self.state().changes(since))
    }

    async fn scramble_collection_version(&self) -> Result<()> {
        self.state().scramble();
        Ok(())
    }

    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot> {
        let state = self.state();
        let mut wanted: Vec<_> = scopes.iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        Ok(Snapshot {
            collection: state.collection,
            scopes: wanted
                .into_iter()
                .filter_map(|scope| state.scopes.get(scope).cloned())
                .collect(),
        })
    }

    async fn scope_of(&self, id: &KeyVersionId) -> Result<Option<ScopeId>> {
        Ok(self.state().owners.get(id.as_str()).cloned())
    }

    async fn apply(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Outcome>> {
        Ok(self.state().apply(&changes))
    }

    async fn resolve(&self, changes: Arc<[ChangeSet]>) -> Result<Vec<Resolution>> {
        let state = self.state();
        Ok(changes
            .iter()
            .map(|change| change.resolution(state.scopes.get(change.scope_after())))
            .collect())
    }

    async fn scopes(
        &self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: usize,
    ) -> Result<Vec<ScopeId>> {
        let now = SystemTime::now();
        Ok(self
            .state()
            .scopes
            .values()
            .filter(|rows| after.is_none_or(|after| rows.scope > *after))
            .filter(|rows| passes(filter, rows, now))
            .take(limit)
            .map(|rows| rows.scope.clone())
            .collect())
    }

    async fn root_checks(&self) -> Result<Vec<RootCheck>> {
        Ok(self.state().root_checks.clone())
    }

    async fn store_root_check(&self, check: &RootCheck, former: Option<&[u8]>) -> Result<bool> {
        let checks = &mut self.state().root_checks;
        let place = checks.iter().position(|known| known.key_id == check.key_id);
        if place.map(|place| &*checks[place].blob) != former {
            return Ok(false);
        }
        if let Some(place) = place {
            checks.remove(place);
        }
        checks.insert(0, check.clone());
        Ok(true)
    }

    async fn referencers(&self) -> Result<Vec<Referencer>> {
        Ok(self.state().referencers.clone())
    }
}

#[async_trait]
impl CampaignRepository for MemoryRepository {
    async fn start_campaign(&self, new: &NewCampaign, lease: &Lease) -> Result<CampaignState> {
        Ok(self.state().start_campaign(new, lease))
    }

    async fn campaign(&self, id: &str) -> Result<Option<CampaignState>> {
        Ok(self.state().campaign(id))
    }

    async fn campaigns(&self) -> Result<Vec<CampaignSummary>> {
        Ok(self.state().campaigns())
    }

    async fn hold_campaign(&self, campaign: &str, lease: &Lease, hold: Hold) -> Result<bool> {
        Ok(self.state().hold_campaign(campaign, lease, hold))
    }

    async fn release_campaign(&self, campaign: &str, holder: &str) -> Result<()> {
        self.state().release_campaign(campaign, holder);
        Ok(())
    }

    async fn apply_step(
        &self,
        changes: Arc<[ChangeSet]>,
        step: CampaignStep,
    ) -> Result<Vec<Outcome>> {
        self.state().apply_step(&changes, &step)
    }
}

fn passes(filter: &ScopeFilter, rows: &ScopeRows, now: SystemTime) -> bool {
    let old_enough = filter.older_than.is_none_or(|age| {
        rows.root_key_versions
            .last()
            .is_some_and(|newest| now.duration_since(newest.create_time).unwrap_or_default() >= age)
    });
    let listed = filter
        .scopes
        .as_ref()
        .is_none_or(|scopes| scopes.contains(&rows.scope));
    old_enough && listed
}

/// What the databases say of a foreign key or a check that is broken.
fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::Database).with_detail(detail)
}
