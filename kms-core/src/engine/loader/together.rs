//! Getting the keys of many scopes with one query, as carefully as those of one.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::Semaphore;

use super::*;
use crate::cache::Loaded;

/// A scope whose keys are here, or on their way into the cache.
pub(in crate::engine) enum Loading {
    Ready(KeyRing),
    UnderWay(Answer<Loaded>),
    /// Somebody else's load has to end first.
    Alone,
}

impl Loader {
    /// Finds the rows of those of these scopes that are not in the cache, or not fresh, with one query, and opens
    /// them in a task of its own. `root_calls` bounds how many scopes call the root wrapper at once, one call each.
    ///
    /// Ends when the rows are found; the keys come as they are opened.
    pub(in crate::engine) async fn find_together(
        self: &Arc<Self>,
        scopes: &[ScopeId],
        root_calls: &Arc<Semaphore>,
    ) -> Result<Vec<(ScopeId, Loading)>> {
        let promise = self.promised();
        let (mut found, missing) = self.parted(scopes, &promise).await?;
        let (sent, joined) = self.cache.join_together(&missing, promise.since);
        let mut tickets = Vec::new();
        for (scope, joined) in missing.into_iter().zip(joined) {
            let loading = match joined {
                Joined::Found(ring) => Loading::Ready(ring),
                Joined::UnderWay(answer) => Loading::UnderWay(answer),
                Joined::TooEarly(_) => Loading::Alone,
                Joined::Begin(ticket, answer) => {
                    tickets.push(ticket);
                    Loading::UnderWay(answer)
                }
            };
            found.push((scope, loading));
        }
        if !tickets.is_empty() {
            let (publisher, rows_found) = answer();
            let (this, root_calls) = (Arc::clone(self), Arc::clone(root_calls));
            self.executor.spawn(async move {
                let openings = match this.rows_of(tickets, sent).await {
                    Ok(openings) => openings,
                    Err(error) => return publisher.publish(Err(error)),
                };
                publisher.publish(Ok(()));
                this.open_all(openings, &root_calls).await;
            })?;
            rows_found.wait().await.unwrap_or_else(|| {
                Err(Error::new(ErrorKind::Internal).with_detail(Ended.to_string()))
            })?;
        }
        Ok(found)
    }

    /// Parts the scopes into those whose keys are here, and those that are to be loaded. The collection version is
    /// asked for if that can confirm any.
    async fn parted(
        self: &Arc<Self>,
        scopes: &[ScopeId],
        promise: &Promise,
    ) -> Result<(Vec<(ScopeId, Loading)>, Vec<ScopeId>)> {
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        let (mut asked, mut is_our_turn) = (false, false);
        for scope in scopes {
            loop {
                let down = self.outage.error();
                let (mut verdict, mut ring) = self.cache.verdict(scope, promise, down.is_some());
                if verdict == Verdict::Refused && (is_our_turn || self.may_ask()) {
                    is_our_turn = true;
                    (verdict, ring) = self.cache.verdict(scope, promise, false);
                }
                match (verdict, ring) {
                    (Verdict::Usable | Verdict::Grace, Some(ring)) => {
                        here.push((scope.clone(), Loading::Ready(ring)));
                    }
                    (Verdict::Refused, ring) => return Err(refused(scope, ring.is_some(), down)),
                    (Verdict::Ask, _) if !asked => {
                        asked = true;
                        self.ask(promise.since).await?;
                        continue;
                    }
                    _ => missing.push(scope.clone()),
                }
                break;
            }
        }
        Ok((here, missing))
    }

    /// Asks for the rows of all of them.
    async fn rows_of(&self, tickets: Vec<Ticket>, sent: Sent) -> Result<Vec<(Ticket, Found)>> {
        let scopes: Vec<_> = tickets
            .iter()
            .map(|ticket| ticket.scope().clone())
            .collect();
        let snapshot = match self.query(self.repository.load(&scopes)).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                for ticket in tickets {
                    ticket.failed(error.clone());
                }
                return Err(error);
            }
        };
        let rows = snapshot.scopes.into_iter();
        let mut rows: HashMap<_, _> = rows.map(|rows| (rows.scope.clone(), rows)).collect();
        let openings = tickets.into_iter().map(|ticket| {
            let found = Found {
                sent,
                collection: snapshot.collection,
                rows: rows.remove(ticket.scope()),
            };
            (ticket, found)
        });
        Ok(openings.collect())
    }

    async fn open_all(&self, openings: Vec<(Ticket, Found)>, root_calls: &Semaphore) {
        let openings = openings.into_iter().map(|(ticket, found)| async move {
            // It is never closed.
            let _permit = root_calls.acquire().await;
            let deadline = Instant::now() + self.settings.load_timeout;
            self.take_in(ticket, found, 1, deadline).await;
        });
        let openings: BoxStream<'_, ()> = stream::iter(openings)
            .buffer_unordered(root_calls.available_permits().max(64))
            .boxed();
        openings.collect::<()>().await;
    }
}
