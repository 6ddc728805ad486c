//! Planning ahead: while a batch is applied, the root wrapper is called for the next ones.
//!
//! Batches are applied one after the other, since each moves the cursor from where the one before it left it. The
//! calls for their scopes know no such border: as many as the options allow are under way all the time. A batch's
//! transaction waits for none of them; its own calls were over before it began.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::*;

/// Batches beside the one that is applied, and beside those that it takes to have as many calls under way as the
/// options allow: one waits to be applied, and of one the rows are read.
const BATCHES_AHEAD: usize = 2;

/// The batches after some place, in their order.
pub(super) struct Ahead<'a> {
    campaign: &'a Campaign<'a>,
    /// Those that were read and not taken yet.
    pages: VecDeque<Page>,
    /// How many were taken.
    taken: usize,
    /// Where the next page begins. `None` if there is none.
    next: Option<Option<ScopeId>>,
    reading: Option<BoxFuture<'a, Result<Page>>>,
    waiting: VecDeque<(usize, Job)>,
    planning: FuturesUnordered<BoxFuture<'a, Planned>>,
    failure: Option<Error>,
}

/// The scopes of a batch.
struct Page {
    advance: Advance,
    scopes: Vec<ScopeId>,
    /// What is read, until it is waiting to be planned.
    jobs: Vec<Job>,
    plans: Vec<Option<Plan>>,
    /// Plans that are missing yet.
    open: usize,
}

/// A scope to be planned: its place in its page, and its rows, if it was not deleted since the page was read.
type Job = (usize, Option<ScopeRows>);

/// The page's number, the place in it, and what is to be done.
type Planned = (usize, usize, Plan);

impl<'a> Ahead<'a> {
    pub(super) fn of(campaign: &'a Campaign<'a>, cursor: Option<ScopeId>) -> Self {
        Self {
            campaign,
            pages: VecDeque::new(),
            taken: 0,
            next: Some(cursor),
            reading: None,
            waiting: VecDeque::new(),
            planning: FuturesUnordered::new(),
            failure: None,
        }
    }

    /// The next batch, ready to be applied.
    pub(super) async fn next(&mut self) -> Result<(Batch, Advance)> {
        loop {
            if self.pages.front().is_some_and(|page| page.open == 0)
                && let Some(page) = self.pages.pop_front()
            {
                self.taken += 1;
                return Ok(page.into_batch());
            }
            if self.pages.is_empty()
                && let Some(error) = self.failure.take()
            {
                return Err(error);
            }
            self.turn().await;
        }
    }

    /// Plans ahead while this is done.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let turn = pin!(self.turn());
            if let Either::Left((result, _)) = select(work.as_mut(), turn).await {
                return result;
            }
        }
    }

    /// Begins what can be begun, and waits for one thing to end. Nothing is lost if it is dropped.
    async fn turn(&mut self) {
        self.begin();
        poll_fn(|context| {
            if let Some(reading) = &mut self.reading
                && let Poll::Ready(read) = reading.poll_unpin(context)
            {
                self.reading = None;
                self.take_page(read);
                return Poll::Ready(());
            }
            match self.planning.poll_next_unpin(context) {
                Poll::Ready(Some(planned)) => {
                    self.take_plan(planned);
                    Poll::Ready(())
                }
                // Nothing is being planned: there is nothing to wait for but the reading.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }

    fn begin(&mut self) {
        let campaign = self.campaign;
        let options = campaign.options;
        let pages = BATCHES_AHEAD + options.concurrency.div_ceil(options.batch_size);
        if self.reading.is_none()
            && self.pages.len() < pages
            && let Some(from) = self.next.take()
        {
            self.reading = Some(campaign.read(from).boxed());
        }
        while self.planning.len() < options.concurrency
            && let Some((page, (place, rows))) = self.waiting.pop_front()
        {
            let plan = async move {
                let plan = campaign.plan_scope(rows).await;
                (page, place, plan)
            };
            self.planning.push(plan.boxed());
        }
    }

    fn take_page(&mut self, read: Result<Page>) {
        match read {
            // What was planned before is still to be applied.
            Err(error) => self.failure = Some(error),
            Ok(mut page) => {
                if let Advance::To { to, .. } = &page.advance {
                    self.next = Some(Some(to.clone()));
                }
                let number = self.taken + self.pages.len();
                let jobs = page.jobs.drain(..);
                self.waiting.extend(jobs.map(|job| (number, job)));
                self.pages.push_back(page);
            }
        }
    }

    fn take_plan(&mut self, (page, place, plan): Planned) {
        // No page is taken while plans of it are open.
        if let Some(page) = self.pages.get_mut(page - self.taken) {
            page.plans[place] = Some(plan);
            page.open -= 1;
        }
    }
}

impl Campaign<'_> {
    /// The scopes after this one, and their rows.
    async fn read(&self, from: Option<ScopeId>) -> Result<Page> {
        let repository = &self.kms.0.repository;
        let filter = self.options.scope_filter();
        let size = self.options.batch_size;
        let scopes = persist(|| repository.scopes(&filter, from.as_ref(), size)).await?;
        let Some(last) = scopes.last() else {
            return Ok(Page::of(scopes, Vec::new(), Advance::Finish { from }));
        };
        let to = last.clone();
        let mut rows = self.rows(&scopes).await?;
        let jobs = scopes.iter().map(|scope| rows.remove(scope)).enumerate();
        let jobs = jobs.collect();
        Ok(Page::of(scopes, jobs, Advance::To { from, to }))
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

    fn into_batch(self) -> (Batch, Advance) {
        let mut batch = Batch::default();
        for (scope, plan) in self
            .scopes
            .into_iter()
            .zip(self.plans.into_iter().flatten())
        {
            batch.add(scope, plan);
        }
        (batch, self.advance)
    }
}
