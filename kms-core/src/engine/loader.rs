//! From the cache, or from the database: getting a scope's keys within the promised freshness.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::executor::{Ended, Executor};
use super::outage::Outage;
use super::{Freshness, PARALLEL_ROOT_CALLS};
use crate::cache::{
    Answer, Cache, Entry, Joined, Known, Moment, Promise, Sent, Since, Ticket, Verdict, answer,
};
use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::KeyRing;
use crate::opener::{Opener, Opening};
use crate::repository::Repository;
use crate::rows::{CollectionVersion, ScopeRows};
use crate::scope::ScopeId;
use crate::sync::{AtomicU64, Mutex};

#[cfg(all(test, shuttle))]
mod model;
mod together;

pub(super) use together::Loading;

/// How long a caller with a grace period waits for an answer before it takes the database for down.
const PATIENCE_IN_GRACE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) freshness: Freshness,
    pub(super) recheck: Duration,
    pub(super) lookup_interval: Duration,
    pub(super) grace: Duration,
    pub(super) load_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            freshness: Freshness::default(),
            recheck: Duration::from_secs(300),
            lookup_interval: Duration::from_millis(100),
            grace: Duration::ZERO,
            load_timeout: Duration::from_secs(30),
        }
    }
}

/// A question for the collection version: when it was sent, and where the answer will be.
type Question = (Sent, Answer<Result<()>>);

#[derive(Debug)]
pub(super) struct Loader {
    repository: Arc<dyn Repository>,
    opener: Arc<Opener>,
    cache: Arc<Cache>,
    settings: Settings,
    executor: Executor,
    outage: Outage,
    /// How many of the repository's changes of servers are known.
    server_changes: AtomicU64,
    /// The question that is under way. Nothing is dropped, woken or called under this lock.
    asking: Mutex<Option<Question>>,
}

impl Loader {
    pub(super) fn new(
        repository: Arc<dyn Repository>,
        opener: Arc<Opener>,
        cache: Arc<Cache>,
        settings: Settings,
        executor: Executor,
    ) -> Self {
        let server_changes = AtomicU64::new(repository.server_changes());
        Self {
            repository,
            opener,
            cache,
            settings,
            executor,
            outage: Outage::default(),
            server_changes,
            asking: Mutex::default(),
        }
    }

    /// The keys of a scope, as fresh as promised.
    pub(super) async fn ring(self: &Arc<Self>, scope: &ScopeId) -> Result<KeyRing> {
        match self.at_hand(scope) {
            Some(ring) => Ok(ring),
            // On the heap, so that the future of the hot path stays small: it is moved with every call.
            None => Box::pin(self.find(scope, self.promised())).await,
        }
    }

    /// The hot path: the keys of a scope, if the cache has them as fresh as promised.
    #[inline]
    pub(super) fn at_hand(&self, scope: &ScopeId) -> Option<KeyRing> {
        match self.settings.freshness {
            Freshness::Within(within) => self.cache.usable(scope, within),
            Freshness::Always => None,
        }
    }

    /// What a call is promised that begins now.
    fn promised(&self) -> Promise {
        self.promise(match self.settings.freshness {
            Freshness::Within(within) => Since::Moment(self.cache.now().saturating_sub(within)),
            Freshness::Always => self.asked_after_now(),
        })
    }

    fn promise(&self, since: Since) -> Promise {
        let promised = match self.settings.freshness {
            Freshness::Within(within) => within,
            Freshness::Always => Duration::ZERO,
        };
        Promise {
            since,
            rows_only: false,
            oldest_in_grace: if self.settings.grace.is_zero() {
                Duration::ZERO
            } else {
                promised.saturating_add(self.settings.grace)
            },
        }
    }

    fn asked_after_now(&self) -> Since {
        Since::Order(self.cache.stamp().order)
    }

    /// The keys of a scope from rows that were asked for after this call began.
    pub(super) async fn reload(self: &Arc<Self>, scope: &ScopeId) -> Result<KeyRing> {
        let promise = Promise {
            rows_only: true,
            oldest_in_grace: Duration::ZERO,
            ..self.promise(self.asked_after_now())
        };
        self.find(scope, promise).await
    }

    /// As [`reload`](Self::reload), not sooner after the last query for the scope was sent than the
    /// interval allows, whether it was answered or not. All who wait meanwhile share one load.
    pub(super) async fn reload_spaced(self: &Arc<Self>, scope: &ScopeId) -> Result<KeyRing> {
        let since = self.asked_after_now();
        if let Some(last) = self.cache.last_asked(scope) {
            let next = last.saturating_add(self.settings.lookup_interval);
            let wait = next.saturating_sub(self.cache.now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        let promise = Promise {
            rows_only: true,
            oldest_in_grace: Duration::ZERO,
            ..self.promise(since)
        };
        self.find(scope, promise).await
    }

    /// Loads the scope in the background, for the sake of what did not open.
    pub(super) fn retry(self: &Arc<Self>, scope: &ScopeId) {
        let (this, scope) = (Arc::clone(self), scope.clone());
        let begun = self.executor.spawn(async move {
            // What fails is in the ring, or remembered as an outage.
            let _ = this.reload(&scope).await;
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "keys can't be loaded in the background");
        }
    }

    /// Does what the verdict says until there are keys, or a reason why not.
    async fn find(self: &Arc<Self>, scope: &ScopeId, promise: Promise) -> Result<KeyRing> {
        let mut failure: Option<Error> = None;
        loop {
            let down = failure.clone().or_else(|| self.outage.error());
            let (mut verdict, mut ring) = self.cache.verdict(scope, &promise, down.is_some());
            if verdict == Verdict::Refused && failure.is_none() && self.may_ask() {
                // This caller is the one to find out whether it is over.
                (verdict, ring) = self.cache.verdict(scope, &promise, false);
            }
            let asked = match (verdict, ring) {
                (Verdict::Usable, Some(ring)) => return Ok(ring),
                (Verdict::Grace, Some(ring)) => {
                    self.ask_in_background();
                    return Ok(ring);
                }
                (Verdict::Refused, ring) => return Err(refused(scope, ring.is_some(), down)),
                (Verdict::Ask, _) => self.ask_patiently(&promise).await,
                _ => match self.load(scope, promise.since).await {
                    Ok(found) => return found.ok_or_else(|| unknown(scope)),
                    Err(error) => Err(error),
                },
            };
            match asked {
                Ok(()) => {}
                Err(error) if Outage::is_one(&error) && failure.is_none() => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether this caller may ask the database, since nobody knows of an outage, or since it is this one's turn.
    fn may_ask(&self) -> bool {
        let patience = self.settings.load_timeout;
        self.outage.may_ask(self.cache.now(), patience)
    }

    /// Waits for the answer, but where old keys may be served not for long.
    async fn ask_patiently(self: &Arc<Self>, promise: &Promise) -> Result<()> {
        let asked = self.ask(promise.since);
        if promise.oldest_in_grace.is_zero() {
            return asked.await;
        }
        tokio::time::timeout(PATIENCE_IN_GRACE, asked)
            .await
            .unwrap_or_else(|_| {
                let error = Error::new(ErrorKind::DatabaseUnreachable)
                    .with_detail(format!("it did not answer within {PATIENCE_IN_GRACE:?}"));
                self.outage.failed(error.clone(), self.cache.now());
                Err(error)
            })
    }

    /// While old keys are served: one caller at a time finds out whether the database is back, and nobody waits.
    fn ask_in_background(self: &Arc<Self>) {
        if self.may_ask()
            && let Err(error) = self.begin_question(self.asked_after_now())
        {
            tracing::warn!(%error, "the database can't be asked in the background");
        }
    }

    /// Reads the collection version, together with all who may share the answer.
    async fn ask(self: &Arc<Self>, since: Since) -> Result<()> {
        for _ in 0..2 {
            if let Some(answer) = self.begin_question(since)?.wait().await {
                return answer;
            }
        }
        Err(Error::new(ErrorKind::Internal).with_detail(Ended.to_string()))
    }

    /// Joins the question that is under way, or begins one.
    fn begin_question(self: &Arc<Self>, since: Since) -> Result<Answer<Result<()>>> {
        let sent = self.cache.stamp();
        let (publisher, shared) = answer();
        let replaced = {
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((under_way, answer)) = &*asking
                && since.admits(*under_way)
                && answer.is_coming()
            {
                return Ok(answer.clone());
            }
            asking.replace((sent, shared.clone()))
        };
        drop(replaced);
        let this = Arc::clone(self);
        self.executor.spawn(async move {
            let answer = this.question(sent).await;
            publisher.publish(answer);
        })?;
        Ok(shared)
    }

    async fn question(&self, sent: Sent) -> Result<()> {
        let since = self.cache.collection().known_version();
        let asked = self
            .query(self.repository.collection_version(since))
            .await?;
        self.cache.collection().learn(since, &asked, sent);
        Ok(())
    }

    /// A query with a bound on its time, whose failure is remembered if the database can't be asked.
    async fn query<T>(&self, query: impl Future<Output = Result<T>>) -> Result<T> {
        let bound = self.settings.load_timeout;
        let answer = AssertUnwindSafe(tokio::time::timeout(bound, query))
            .catch_unwind()
            .await;
        let result = match answer {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::new(ErrorKind::DatabaseUnreachable)
                .with_detail(format!("it did not answer within {bound:?}"))),
            Err(_) => Err(Error::new(ErrorKind::Internal).with_detail("the repository panicked")),
        };
        match &result {
            Err(error) if self.is_remembered(error) => {
                self.outage.failed(error.clone(), self.cache.now());
            }
            Err(error) if Outage::is_one(error) => {}
            // An answer, if not the one that was wished for.
            _ => self.outage.is_over(),
        }
        self.notice_server_changes();
        result
    }

    /// To be called after each call of the repository: if that was connected to the wrong server until now, nothing
    /// in the cache counts as confirmed any more.
    pub(super) fn notice_server_changes(&self) {
        let changes = self.repository.server_changes();
        // Read first: calls on all threads share it.
        if self.server_changes.load(Ordering::Acquire) < changes
            && self.server_changes.fetch_max(changes, Ordering::AcqRel) < changes
        {
            tracing::warn!(
                "the repository was connected to the wrong server; all cached keys are compared with their rows"
            );
            self.cache.overtake_all();
        }
    }

    /// A busy database is one that others may still be served by, unless nobody needs it to be served.
    fn is_remembered(&self, error: &Error) -> bool {
        Outage::is_one(error)
            && (error.kind() != ErrorKind::DatabaseBusy || !self.settings.grace.is_zero())
    }

    /// Loads the scope, together with all who may share the load.
    async fn load(self: &Arc<Self>, scope: &ScopeId, since: Since) -> Result<Option<KeyRing>> {
        let mut ended = false;
        loop {
            let answer = match self.cache.join(scope, since) {
                Joined::Found(ring) => return Ok(Some(ring)),
                Joined::UnderWay(answer) => answer,
                // One at a time: whoever comes during a load that began too early waits for it, and then one more
                // serves all of them. Each of their own would ask the root wrapper for the same new keys.
                Joined::TooEarly(answer) => {
                    let _ = answer.wait().await;
                    continue;
                }
                Joined::Begin(ticket, answer) => {
                    let this = Arc::clone(self);
                    let load = async move { this.run(ticket).await };
                    if ended {
                        Executor::spawn_for_good(load)?;
                    } else {
                        self.executor.spawn(load)?;
                    }
                    answer
                }
            };
            match answer.wait().await {
                Some(loaded) => return loaded,
                None if ended => {
                    return Err(Error::new(ErrorKind::Internal).with_detail(Ended.to_string()));
                }
                // The runtime in which it ran is gone, and ours may be about to be.
                None => ended = true,
            }
        }
    }

    async fn run(&self, ticket: Ticket) {
        let deadline = Instant::now() + self.settings.load_timeout;
        let scope = ticket.scope().clone();
        let query = self.query(self.repository.load(std::slice::from_ref(&scope)));
        let found = query.await.map(|snapshot| Found {
            sent: ticket.sent,
            collection: snapshot.collection,
            rows: snapshot.scopes.into_iter().find(|rows| rows.scope == scope),
        });
        match found {
            Ok(found) => {
                self.take_in(ticket, found, PARALLEL_ROOT_CALLS, deadline)
                    .await;
            }
            Err(error) => ticket.failed(error),
        }
    }

    /// Opens what a query found, and puts it into the cache unless something newer is known.
    async fn take_in(&self, ticket: Ticket, found: Found, parallel: usize, deadline: Instant) {
        let Found {
            sent,
            collection,
            rows,
        } = found;
        let generation = self.cache.collection().observe(collection, sent);
        let Some(rows) = rows else {
            ticket.found(None);
            return;
        };
        let now = self.cache.now();
        let known = self.cache.entry(&rows.scope);
        let keep = known.as_ref().filter(|known| known.is_good_for(&rows, now));
        let proof_end = match (keep, &rows.root) {
            (Some(known), _) => known.known.proof_end,
            (None, Some(_)) => {
                let recheck = self.opener.roots.limits().recheck;
                sent.at.saturating_add(recheck)
            }
            (None, None) => Moment::MAX,
        };
        let opening = Opening {
            parallel,
            now,
            keep: keep.is_some(),
            deadline: Some(deadline),
        };
        let known = known.map(|known| known.ring);
        let opened = self.opener.open(&rows, known.as_ref(), opening);
        match AssertUnwindSafe(opened).catch_unwind().await {
            Ok(ring) => ticket.found(Some(Entry::new(
                ring,
                Known {
                    sent,
                    generation,
                    recheck: sent.at.saturating_add(self.settings.recheck),
                    proof_end,
                    overtaken: false,
                },
                collection,
            ))),
            Err(_) => ticket.failed(
                Error::new(ErrorKind::Internal)
                    .with_detail("opening the keys panicked")
                    .with_context("scope", &rows.scope),
            ),
        }
    }
}

/// What a query found of one scope.
struct Found {
    /// When the query was sent.
    sent: Sent,
    /// The collection version that came with the rows.
    collection: CollectionVersion,
    rows: Option<ScopeRows>,
}

fn unknown(scope: &ScopeId) -> Error {
    Error::new(ErrorKind::UnknownScope).with_context("scope", scope)
}

/// The error for somebody who can't have keys since the database can't be asked.
fn refused(scope: &ScopeId, cached: bool, down: Option<Error>) -> Error {
    let down = down.unwrap_or_else(|| ErrorKind::DatabaseUnreachable.into());
    if cached {
        Error::new(ErrorKind::Stale)
            .with_context("scope", scope)
            .with_source(down)
    } else {
        down.with_context("scope", scope)
    }
}
