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

use super::pages::{Job, Page, Source};
use super::*;

/// Batches beside the one that is applied, and beside those that it takes to have as many calls under way as the
/// options allow: one waits to be applied, and of one the rows are read.
const BATCHES_AHEAD: usize = 2;

/// The batches of a source, in their order.
pub(super) struct Ahead<'a> {
    campaign: &'a Campaign<'a>,
    source: Source,
    /// Those that were read and not taken yet.
    pages: VecDeque<Page>,
    /// How many were taken.
    taken: usize,
    reading: Option<BoxFuture<'a, Result<Option<Page>>>>,
    waiting: VecDeque<(usize, Job)>,
    planning: FuturesUnordered<BoxFuture<'a, Planned>>,
    failure: Option<Error>,
}

/// The page's number, the place in it, and what is to be done.
type Planned = (usize, usize, Plan);

impl<'a> Ahead<'a> {
    pub(super) fn of(campaign: &'a Campaign<'a>, source: Source) -> Self {
        Self {
            campaign,
            source,
            pages: VecDeque::new(),
            taken: 0,
            reading: None,
            waiting: VecDeque::new(),
            planning: FuturesUnordered::new(),
            failure: None,
        }
    }

    /// The next batch, ready to be applied. `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(Batch, Advance)>> {
        loop {
            if self.pages.front().is_some_and(Page::is_planned)
                && let Some(page) = self.pages.pop_front()
            {
                self.taken += 1;
                return Ok(Some(page.into_batch()));
            }
            if let Some(error) = self.campaign.breaker.error() {
                return Err(error);
            }
            if self.pages.is_empty() {
                if let Some(error) = self.failure.take() {
                    return Err(error);
                }
                if self.reading.is_none() && self.source.is_empty() {
                    return Ok(None);
                }
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
        if campaign.breaker.error().is_some() {
            return;
        }
        if self.reading.is_none()
            && self.failure.is_none()
            && self.pages.len() < pages
            && let Some(order) = self.source.take()
        {
            self.reading = Some(campaign.read(order).boxed());
        }
        while self.planning.len() < options.concurrency
            && let Some((page, (place, rows))) = self.waiting.pop_front()
        {
            let plan = async move {
                let root = rows.as_ref().and_then(|rows| rows.root.clone());
                let plan = campaign.plan_scope(rows).await;
                campaign.breaker.note(root.as_ref(), &plan);
                (page, place, plan)
            };
            self.planning.push(plan.boxed());
        }
    }

    fn take_page(&mut self, read: Result<Option<Page>>) {
        match read {
            // What was planned before is still to be applied.
            Err(error) => self.failure = Some(error),
            Ok(None) => {}
            Ok(Some(mut page)) => {
                self.source.go_on_after(page.advance());
                let number = self.taken + self.pages.len();
                let jobs = page.take_jobs();
                self.waiting.extend(jobs.map(|job| (number, job)));
                self.pages.push_back(page);
            }
        }
    }

    fn take_plan(&mut self, (page, place, plan): Planned) {
        // No page is taken while plans of it are open.
        if let Some(page) = self.pages.get_mut(page - self.taken) {
            page.set_plan(place, plan);
        }
    }
}
