//! What a campaign is to do, and how.

use std::time::Duration;

use super::CampaignId;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::ScopeFilter;
use crate::scope::ScopeId;

/// What [`Kms::rotate_all`](crate::Kms::rotate_all) and [`Kms::rewrap_all`](crate::Kms::rewrap_all) are
/// to work on, and how.
///
/// Without an id (`CampaignOptions::default()`) the campaign gets one made of the kind of work, the date in UTC and a
/// digest of the filters: the same call on the same day carries it on, and the next day's is a new campaign. With
/// [`CampaignId::monthly`] it is the same campaign all month.
///
/// The filters, whether the engine binds keys, and the root key that a rewrap moves to belong to the campaign and must
/// be the same when it is carried on. The rest may change.
///
/// ```
/// use std::time::Duration;
///
/// use kms_core::{CampaignId, CampaignOptions};
///
/// let whatever_is_old = CampaignOptions::default().older_than(Duration::from_secs(90 * 24 * 3600));
/// let once_a_month = CampaignOptions::new(CampaignId::monthly()).concurrency(16);
/// ```
#[derive(Clone, Debug)]
pub struct CampaignOptions {
    pub(super) id: CampaignId,
    pub(super) older_than: Option<Duration>,
    pub(super) scopes: Option<Vec<ScopeId>>,
    pub(super) root_key_id: Option<String>,
    pub(super) batch_size: usize,
    pub(super) concurrency: usize,
    pub(super) lease: Duration,
    pub(super) patience: Duration,
}

impl CampaignOptions {
    /// All scopes, in batches of 50, with 8 scopes calling the root wrapper at once.
    #[must_use]
    pub fn new(id: impl Into<CampaignId>) -> Self {
        Self {
            id: id.into(),
            older_than: None,
            scopes: None,
            root_key_id: None,
            batch_size: 50,
            concurrency: 8,
            lease: Duration::from_secs(10),
            patience: Duration::from_secs(600),
        }
    }

    /// Only scopes whose newest root key version is at least this old, by the database's clock.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Only these scopes. Those that have no keys count as scopes that need no change.
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

    /// How long other processes wait, after the process that works on the campaign was last heard of, before one of
    /// them carries it on: 10 seconds if not set. Only the time after a crash is meant; a process that ends, or drops
    /// the call, lets the next one begin at once.
    #[must_use]
    pub fn lease(mut self, length: Duration) -> Self {
        self.lease = length;
        self
    }

    /// How long the campaign waits for a database that can't be reached, or is busy, before it ends with that error:
    /// 10 minutes if not set.
    #[must_use]
    pub fn patience(mut self, length: Duration) -> Self {
        self.patience = length;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let fault = if !self.id.is_valid() {
            "a campaign's id has 1 to 255 bytes and is not blank"
        } else if self.batch_size == 0 || self.concurrency == 0 {
            "batch size and concurrency are at least 1"
        } else if self.lease < Duration::from_millis(1) {
            "a campaign's lease is at least a millisecond"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidConfiguration).with_detail(fault))
    }

    /// The part of the filter that says nothing about single scopes.
    pub(super) fn age_filter(&self) -> ScopeFilter {
        ScopeFilter {
            older_than: self.older_than,
            scopes: None,
        }
    }
}

impl Default for CampaignOptions {
    /// As [`new`](Self::new), with an id that is made of the kind of work, the date and the filters.
    fn default() -> Self {
        Self::new(CampaignId::made())
    }
}
