//! What a campaign is to do, and what it did.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::repository::{CampaignFailure, CampaignState, ScopeFilter};
use crate::scope::ScopeId;

/// What [`Kms::rotate_all`](crate::Kms::rotate_all) and [`Kms::rewrap_all`](crate::Kms::rewrap_all) are
/// to work on, and how.
///
/// The id names the campaign in the database. Starting one with the same id carries it on, from any
/// process; a new round wants a new id ("rotate-2027-01", say). The filters belong to the campaign and
/// must be the same when it is carried on; batch size and concurrency may change.
#[derive(Clone, Debug)]
pub struct CampaignOptions {
    pub(super) id: String,
    pub(super) older_than: Option<Duration>,
    pub(super) scopes: Option<Vec<ScopeId>>,
    pub(super) root_key_id: Option<String>,
    pub(super) batch_size: usize,
    pub(super) concurrency: usize,
}

impl CampaignOptions {
    /// All scopes, in batches of 50, with 8 scopes calling the root wrapper at once.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            older_than: None,
            scopes: None,
            root_key_id: None,
            batch_size: 50,
            concurrency: 8,
        }
    }

    /// Only scopes whose newest root key version is at least this old, by the database's clock.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Only these scopes.
    #[must_use]
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = ScopeId>) -> Self {
        let mut scopes: Vec<_> = scopes.into_iter().collect();
        scopes.sort();
        scopes.dedup();
        self.scopes = Some(scopes);
        self
    }

    /// Only scopes of which a root key version is wrapped by the root key of this id (as
    /// [`Census::by_root_key`](crate::Census::by_root_key) names it).
    #[must_use]
    pub fn wrapped_by(mut self, root_key_id: impl Into<String>) -> Self {
        self.root_key_id = Some(root_key_id.into());
        self
    }

    /// Scopes in one transaction.
    #[must_use]
    pub fn batch_size(mut self, scopes: usize) -> Self {
        self.batch_size = scopes;
        self
    }

    /// Scopes that call the root wrapper at once, with one call each. They go on doing so while a batch is
    /// written, for the next batches.
    #[must_use]
    pub fn concurrency(mut self, scopes: usize) -> Self {
        self.concurrency = scopes;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let fault = if self.id.trim().is_empty() || self.id.len() > 255 {
            "a campaign's id has 1 to 255 bytes and is not blank"
        } else if self.batch_size == 0 || self.concurrency == 0 {
            "batch size and concurrency are at least 1"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidConfiguration).with_detail(fault))
    }

    pub(super) fn scope_filter(&self) -> ScopeFilter {
        ScopeFilter {
            older_than: self.older_than,
            scopes: self.scopes.clone(),
        }
    }

    /// What must be the same when the campaign is carried on, in one canonical form.
    pub(super) fn parameters(&self, work: &str) -> String {
        let Self {
            older_than,
            scopes,
            root_key_id,
            ..
        } = self;
        format!(
            "work={work} older_than_ms={:?} wrapped_by={root_key_id:?} scopes={:?}",
            older_than.map(|age| age.as_millis()),
            scopes
                .as_ref()
                .map(|scopes| scopes.iter().map(ScopeId::as_str).collect::<Vec<_>>()),
        )
    }
}

/// How far a campaign is, after a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CampaignProgress {
    /// Scopes done since the campaign began, in whatever process.
    pub done: u64,
    /// Scopes that failed and were not done since.
    pub failed: usize,
    /// The last scope of the last batch.
    pub cursor: Option<ScopeId>,
}

/// What a campaign did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CampaignOutcome {
    /// Scopes done since the campaign began, in whatever process.
    pub done: u64,
    /// Scopes that could not be done. Carrying on the campaign tries them again.
    pub failures: Vec<CampaignFailure>,
}

impl CampaignProgress {
    pub(super) fn of(state: &CampaignState) -> Self {
        Self {
            done: state.done,
            failed: state.failures.len(),
            cursor: state.cursor.clone(),
        }
    }
}

impl CampaignOutcome {
    pub(super) fn of(state: CampaignState) -> Self {
        Self {
            done: state.done,
            failures: state.failures,
        }
    }
}
