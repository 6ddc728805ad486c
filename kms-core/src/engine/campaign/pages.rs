//! The scopes of a campaign, batch by batch, and their rows.

use std::collections::{HashMap, HashSet, VecDeque};

use super::patience::persist;
use super::{Batch, Campaign, CampaignOptions, Plan};
use crate::error::Result;
use crate::repository::{Advance, CampaignFailure, ScopeFilter};
use crate::rows::ScopeRows;
use crate::scope::ScopeId;

/// Where batches come from.
pub(super) enum Source {
    /// All scopes after this one, page by page. `None` while a page is read, and after the last one.
    Database(Option<Option<ScopeId>>),
    /// Scopes that are known by name.
    Listed(VecDeque<(Vec<ScopeId>, Advance)>),
}

/// A page to be read.
pub(super) enum Order {
    After(Option<ScopeId>),
    Listed(Vec<ScopeId>, Advance),
}

impl Source {
    /// What the options want, from the cursor on.
    pub(super) fn from(options: &CampaignOptions, cursor: Option<ScopeId>) -> Self {
        let Some(scopes) = &options.scopes else {
            return Self::Database(Some(cursor));
        };
        // The list is in order, and its order is the campaign's.
        let rest = match &cursor {
            Some(cursor) => &scopes[scopes.partition_point(|scope| scope <= cursor)..],
            None => scopes,
        };
        let mut from = cursor;
        let pages = rest.chunks(options.batch_size).map(|page| {
            let to = page[page.len() - 1].clone();
            let advance = Advance::To {
                from: from.replace(to.clone()),
                to,
            };
            (page.to_vec(), advance)
        });
        Self::Listed(pages.collect())
    }

    /// The scopes that failed, once more.
    pub(super) fn again(options: &CampaignOptions, failures: &[CampaignFailure]) -> Self {
        let pages = failures.chunks(options.batch_size).map(|failures| {
            let scopes = failures.iter().map(|failure| failure.scope.clone());
            (scopes.collect(), Advance::Retry)
        });
        Self::Listed(pages.collect())
    }

    pub(super) fn take(&mut self) -> Option<Order> {
        match self {
            Self::Database(next) => next.take().map(Order::After),
            Self::Listed(pages) => {
                let (scopes, advance) = pages.pop_front()?;
                Some(Order::Listed(scopes, advance))
            }
        }
    }

    /// A page was read.
    pub(super) fn go_on_after(&mut self, advance: &Advance) {
        if let (Self::Database(next), Advance::To { to, .. }) = (self, advance) {
            *next = Some(Some(to.clone()));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Database(next) => next.is_none(),
            Self::Listed(pages) => pages.is_empty(),
        }
    }
}

/// The scopes of a batch.
pub(super) struct Page {
    advance: Advance,
    scopes: Vec<ScopeId>,
    /// What is read, until it is waiting to be planned.
    jobs: Vec<Job>,
    plans: Vec<Option<Plan>>,
    /// Plans that are missing yet.
    open: usize,
}

/// A scope to be planned: its place in its page, and its rows, if it has any and the filter wants it.
pub(super) type Job = (usize, Option<ScopeRows>);

impl Campaign<'_> {
    /// The scopes of a page and their rows. `None` after the last page.
    pub(super) async fn read(&self, order: Order) -> Result<Option<Page>> {
        let repository = &self.kms.0.repository;
        let options = self.options;
        let (scopes, wanted, advance) = match order {
            Order::After(from) => {
                let filter = options.age_filter();
                let scopes = persist(options.patience, || {
                    repository.scopes(&filter, from.as_ref(), options.batch_size)
                });
                let scopes = scopes.await?;
                let Some(to) = scopes.last().cloned() else {
                    return Ok(None);
                };
                (scopes, None, Advance::To { from, to })
            }
            Order::Listed(scopes, advance) if options.older_than.is_some() => {
                let filter = ScopeFilter {
                    scopes: Some(scopes.clone()),
                    ..options.age_filter()
                };
                let wanted = persist(options.patience, || {
                    repository.scopes(&filter, None, scopes.len())
                });
                let wanted: HashSet<_> = wanted.await?.into_iter().collect();
                (scopes, Some(wanted), advance)
            }
            Order::Listed(scopes, advance) => (scopes, None, advance),
        };
        let mut rows = self.rows(&scopes).await?;
        let jobs = scopes.iter().map(|scope| {
            let wants = wanted.as_ref().is_none_or(|wanted| wanted.contains(scope));
            rows.remove(scope).filter(|_| wants)
        });
        let jobs = jobs.enumerate().collect();
        Ok(Some(Page::of(scopes, jobs, advance)))
    }

    /// The rows of these scopes; those that have none are absent.
    async fn rows(&self, scopes: &[ScopeId]) -> Result<HashMap<ScopeId, ScopeRows>> {
        let repository = &self.kms.0.repository;
        let snapshot = persist(self.options.patience, || repository.load(scopes)).await?;
        let rows = snapshot.scopes.into_iter();
        Ok(rows.map(|rows| (rows.scope.clone(), rows)).collect())
    }
}

impl Page {
    fn of(scopes: Vec<ScopeId>, jobs: Vec<Job>, advance: Advance) -> Self {
        Self {
            advance,
            plans: scopes.iter().map(|_| None).collect(),
            open: scopes.len(),
            scopes,
            jobs,
        }
    }

    pub(super) fn advance(&self) -> &Advance {
        &self.advance
    }

    pub(super) fn take_jobs(&mut self) -> impl Iterator<Item = Job> {
        std::mem::take(&mut self.jobs).into_iter()
    }

    pub(super) fn set_plan(&mut self, place: usize, plan: Plan) {
        self.plans[place] = Some(plan);
        self.open -= 1;
    }

    pub(super) fn is_planned(&self) -> bool {
        self.open == 0
    }

    pub(super) fn into_batch(self) -> (Batch, Advance) {
        let mut batch = Batch::default();
        let plans = self.plans.into_iter().flatten();
        for (scope, plan) in self.scopes.into_iter().zip(plans) {
            batch.add(scope, plan);
        }
        (batch, self.advance)
    }
}
