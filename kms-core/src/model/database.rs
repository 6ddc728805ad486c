//! The database of a model as the loader asks it.

use std::sync::Arc;

use async_trait::async_trait;
use shuttle::rand::{Rng as _, thread_rng};

use super::World;
use crate::change::ChangeSet;
use crate::error::{ErrorKind, Result};
use crate::id::{KeyVersionId, RootKeyId, RootKeyVersionId};
use crate::repository::{CampaignRepository, Changes, Outcome, Repository, RootCheck, ScopeFilter};
use crate::rows::{CollectionVersion, RootKeyVersionRow, ScopeRows, Snapshot};
use crate::scope::ScopeId;

/// Answers what the loader asks; nobody asks it for more.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) world: Arc<World>,
    /// Whether some of its answers are failures.
    pub(crate) fails: bool,
}

impl Database {
    fn answer(&self) -> Result<()> {
        self.world.step();
        if self.fails && thread_rng().gen_ratio(1, 3) {
            return Err(ErrorKind::DatabaseUnreachable.into());
        }
        Ok(())
    }
}

const NOBODY: &str = "the loader does not ask that";

#[async_trait]
impl Repository for Database {
    async fn collection_version(&self, since: Option<CollectionVersion>) -> Result<Changes> {
        let changes = self.world.changes(since);
        self.answer().map(|()| changes)
    }

    /// Rows in which nothing is to be opened, so that no root wrapper is needed.
    async fn load(&self, scopes: &[ScopeId]) -> Result<Snapshot> {
        let (collection, numbers) = self.world.read_all(scopes);
        let rows = |(scope, number): (&ScopeId, i64)| ScopeRows {
            scope: scope.clone(),
            root_key: RootKeyId::generate(),
            create_time: collection.update_time,
            root_key_versions: vec![RootKeyVersionRow {
                id: RootKeyVersionId::generate(),
                version: number,
                key: Vec::new(),
                create_time: collection.update_time,
            }],
            data_keys: Vec::new(),
            root: None,
        };
        self.answer().map(|()| Snapshot {
            collection,
            scopes: scopes.iter().zip(numbers).map(rows).collect(),
        })
    }

    async fn scramble_collection_version(&self) -> Result<()> {
        unreachable!("{NOBODY}")
    }

    async fn scope_of(&self, _: &KeyVersionId) -> Result<Option<ScopeId>> {
        unreachable!("{NOBODY}")
    }

    async fn apply(&self, _: Arc<[ChangeSet]>) -> Result<Vec<Outcome>> {
        unreachable!("{NOBODY}")
    }

    async fn scopes(&self, _: &ScopeFilter, _: Option<&ScopeId>, _: usize) -> Result<Vec<ScopeId>> {
        unreachable!("{NOBODY}")
    }

    async fn root_checks(&self) -> Result<Vec<RootCheck>> {
        unreachable!("{NOBODY}")
    }

    async fn store_root_check(&self, _: &RootCheck, _: Option<&[u8]>) -> Result<bool> {
        unreachable!("{NOBODY}")
    }
}

impl CampaignRepository for Database {}
