//! The rows, and what the databases' constraints and triggers see to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::SystemTime;

use rand::RngExt as _;

use super::campaign::Campaign;
use super::refused;
use crate::error::Result;
use crate::id::DataKeyVersionId;
use crate::random;
use crate::repository::{Changes, Referencer, RootCheck, SCHEMA_VERSION, Step};
use crate::rows::{CollectionVersion, ScopeRows};
use crate::scope::ScopeId;

/// So many moves of the collection version are remembered.
const MAX_STEPS: usize = 10_000;

#[derive(Debug)]
pub(super) struct State {
    pub(super) schema_version: String,
    pub(super) collection: CollectionVersion,
    /// How the collection version came to where it is, since the last time that it was scrambled.
    steps: VecDeque<Step>,
    pub(super) scopes: BTreeMap<ScopeId, ScopeRows>,
    /// Every id there is, and the scope it belongs to: the primary keys.
    pub(super) owners: HashMap<String, ScopeId>,
    pub(super) referencers: Vec<Referencer>,
    pub(super) references: Vec<Reference>,
    pub(super) campaigns: HashMap<String, Campaign>,
    /// The newest first.
    pub(super) root_checks: Vec<RootCheck>,
}

/// A row of the application that references a data key version.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) table: String,
    pub(super) id: DataKeyVersionId,
}

impl Default for State {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            collection: CollectionVersion {
                version: 1,
                update_time: SystemTime::now(),
            },
            steps: VecDeque::new(),
            scopes: BTreeMap::new(),
            owners: HashMap::new(),
            referencers: Vec::new(),
            references: Vec::new(),
            campaigns: HashMap::new(),
            root_checks: Vec::new(),
        }
    }
}

impl State {
    /// Moves the collection version, since these scopes are changed.
    pub(super) fn bump(&mut self, scopes: Vec<ScopeId>) {
        if self.steps.is_empty() {
            // Where the history begins.
            self.steps.push_back(Step {
                collection: self.collection,
                scopes: Vec::new(),
            });
        }
        self.move_collection_to(self.collection.version + 1);
        self.steps.push_back(Step {
            collection: self.collection,
            scopes,
        });
        if self.steps.len() > MAX_STEPS {
            self.steps.pop_front();
        }
    }

    /// What changed since.
    pub(super) fn changes(&self, since: Option<CollectionVersion>) -> Changes {
        let mut changes = Changes::untold(self.collection);
        if since == Some(self.collection) {
            changes.steps = Some(Vec::new());
        } else if let Some(position) = self
            .steps
            .iter()
            .position(|step| Some(step.collection) == since)
        {
            changes.steps = Some(self.steps.range(position + 1..).cloned().collect());
        }
        changes
    }

    pub(super) fn scramble(&mut self) {
        // The lower half, so that there is room to count on.
        let version = random::with_rng(|rng| rng.random_range(1..i64::MAX / 2));
        let same = version == self.collection.version;
        self.move_collection_to(version + i64::from(same));
        self.steps.clear();
    }

    fn move_collection_to(&mut self, version: i64) {
        self.collection = CollectionVersion {
            version,
            update_time: SystemTime::now(),
        };
    }

    pub(super) fn reference(&mut self, id: &DataKeyVersionId, table: &str) -> Result<()> {
        if !self.referencers.iter().any(|known| known.table == table) {
            return Err(refused("no such table was declared").with_context("table", table));
        }
        if !self.owners.contains_key(id.as_str()) {
            return Err(refused("no such data key version").with_context("key_version", id));
        }
        self.references.push(Reference {
            table: table.to_owned(),
            id: id.clone(),
        });
        Ok(())
    }

    /// Puts these rows in place of what the scope had.
    pub(super) fn put(&mut self, rows: ScopeRows) {
        self.take(&rows.scope);
        for id in ids(&rows) {
            self.owners.insert(id.to_owned(), rows.scope.clone());
        }
        self.scopes.insert(rows.scope.clone(), rows);
        self.drop_dangling_references();
    }

    /// Removes all rows of a scope, as a deletion of its root key does.
    pub(super) fn delete(&mut self, scope: &ScopeId) {
        if self.take(scope) {
            self.bump(vec![scope.clone()]);
            self.drop_dangling_references();
        }
    }

    /// Puts these rows in place of everything.
    pub(super) fn replace(&mut self, scopes: Vec<ScopeRows>) {
        let mut owners = HashMap::new();
        let mut by_scope = BTreeMap::new();
        for mut rows in scopes {
            rows.sort();
            for id in ids(&rows) {
                let other = owners.insert(id.to_owned(), rows.scope.clone());
                assert!(other.is_none(), "the id {id} is there twice");
            }
            let scope = rows.scope.clone();
            let other = by_scope.insert(scope.clone(), rows);
            assert!(other.is_none(), "the scope {scope} is there twice");
        }
        let gone: Vec<_> = self
            .scopes
            .values()
            .filter(|before| {
                by_scope
                    .get(&before.scope)
                    .is_none_or(|after| after.root_key != before.root_key)
            })
            .map(|before| before.scope.clone())
            .collect();
        self.owners = owners;
        self.scopes = by_scope;
        self.drop_dangling_references();
        if !gone.is_empty() {
            self.bump(gone);
        }
    }

    pub(super) fn take(&mut self, scope: &ScopeId) -> bool {
        let Some(rows) = self.scopes.remove(scope) else {
            return false;
        };
        for id in ids(&rows) {
            self.owners.remove(id);
        }
        true
    }

    fn drop_dangling_references(&mut self) {
        self.references
            .retain(|row| self.owners.contains_key(row.id.as_str()));
    }
}

/// Every primary key of these rows.
pub(super) fn ids(rows: &ScopeRows) -> impl Iterator<Item = &str> {
    let root = std::iter::once(rows.root_key.as_str());
    let root_versions = rows.root_key_versions.iter().map(|row| row.id.as_str());
    let data = rows.data_keys.iter().flat_map(|key| {
        std::iter::once(key.id.as_str()).chain(key.versions.iter().map(|row| row.id.as_str()))
    });
    root.chain(root_versions).chain(data)
}
