//! From the cache, or from the database: getting a scope's keys within the promised freshness.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};

use super::{Freshness, PARALLEL_ROOT_CALLS};
use crate::cache::{Bound, Cache, Entry, Sent};
use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::KeyRing;
use crate::opener::Opener;
use crate::repository::Repository;
use crate::rows::ScopeRows;
use crate::scope::ScopeId;

mod together;

pub(super) use together::Together;

/// When a version that did not open is tried again: soon after a passing failure, a little later after another.
/// Somebody may be about to mend it, and the root wrapper's service may charge for each call.
const RETRY_PASSING: Duration = Duration::from_secs(1);
const RETRY_LASTING: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) freshness: Freshness,
    pub(super) recheck: Duration,
    pub(super) lookup_interval: Duration,
    pub(super) grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            freshness: Freshness::default(),
            recheck: Duration::from_secs(300),
            lookup_interval: Duration::from_millis(100),
            grace: Duration::ZERO,
        }
    }
}

type Question = BoxFuture<'static, Result<()>>;

#[derive(Debug)]
pub(super) struct Loader {
    repository: Arc<dyn Repository>,
    opener: Arc<Opener>,
    cache: Arc<Cache>,
    settings: Settings,
    /// The query for the collection version that is under way.
    asking: Mutex<Option<(Sent, WeakShared<Question>)>>,
}

impl Loader {
    pub(super) fn new(
        repository: Arc<dyn Repository>,
        opener: Arc<Opener>,
        cache: Arc<Cache>,
        settings: Settings,
    ) -> Self {
        Self {
            repository,
            opener,
            cache,
            settings,
            asking: Mutex::default(),
        }
    }

    /// The keys of a scope, as fresh as promised.
    pub(super) async fn ring(self: &Arc<Self>, scope: &ScopeId) -> Result<KeyRing> {
        if let Freshness::Within(within) = self.settings.freshness
            && let Some(ring) = self.cache.fresh(scope, within)
        {
            return Ok(ring);
        }
        self.confirm_or_load(scope, self.promised()).await
    }

    /// How recent the knowledge must be that a call uses which begins now.
    fn promised(&self) -> Bound {
        match self.settings.freshness {
            Freshness::Within(within) => Bound::At(self.cache.now().saturating_sub(within)),
            Freshness::Always => Bound::After(self.cache.stamp().order),
        }
    }

    /// The keys of a scope by a query that is sent after this call began.
    pub(super) async fn reload(self: &Arc<Self>, scope: &ScopeId) -> Result<KeyRing> {
        let bound = Bound::After(self.cache.stamp().order);
        self.load(scope, bound).await
    }

    /// As [`reload`](Self::reload), not sooner after the last query for the scope was sent than the
    /// interval allows, whether it was answered or not. All who wait meanwhile share one load.
    pub(super) async fn reload_spaced(self: &Arc<Self>, scope: &ScopeId) -> Result<KeyRing> {
        let bound = Bound::After(self.cache.stamp().order);
        if let Some(last) = self.cache.last_asked(scope) {
            let next = last.saturating_add(self.settings.lookup_interval);
            let wait = next.saturating_sub(self.cache.now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            if let Some(ring) = self.found_meanwhile(scope, bound) {
                return Ok(ring);
            }
        }
        self.load(scope, bound).await
    }

    /// What somebody else's load, recent enough, found while this caller waited.
    fn found_meanwhile(&self, scope: &ScopeId, bound: Bound) -> Option<KeyRing> {
        let entry = self.cache.entry(scope)?;
        let usable = bound.admits(entry.sent) && !self.cache.is_overtaken(&entry);
        usable.then_some(entry.ring)
    }

    async fn confirm_or_load(self: &Arc<Self>, scope: &ScopeId, bound: Bound) -> Result<KeyRing> {
        let cached = self
            .cache
            .entry(scope)
            .filter(|entry| !self.cache.is_overtaken(entry));
        let result = match &cached {
            Some(entry) if self.cache.now() < entry.recheck => {
                match self.is_current(entry, bound).await {
                    Ok(true) => return Ok(entry.ring.clone()),
                    Ok(false) => self.load(scope, bound).await,
                    Err(error) => Err(error),
                }
            }
            _ => self.load(scope, bound).await,
        };
        match (result, cached) {
            (Err(error), Some(entry)) if can_not_be_asked(&error) => self.in_grace(&entry, error),
            (result, _) => result,
        }
    }

    /// Asks for the collection version, if what is known of it is too old.
    async fn is_current(self: &Arc<Self>, entry: &Entry, bound: Bound) -> Result<bool> {
        if self.cache.is_confirmed(entry, bound) {
            return Ok(true);
        }
        // Somebody may have asked already, and found that the collection version is not the entry's.
        if !self.cache.view.is_recent(bound) {
            self.ask(bound).await?;
        }
        Ok(self.cache.view.confirms(entry.generation, bound))
    }

    fn in_grace(&self, entry: &Entry, error: Error) -> Result<KeyRing> {
        let promised = match self.settings.freshness {
            Freshness::Within(within) => within,
            Freshness::Always => Duration::ZERO,
        };
        let last = self.cache.confirmed_at(entry);
        let age = self.cache.now().saturating_sub(last);
        let limit = promised.saturating_add(self.settings.grace);
        // Somebody's receipt may have overtaken the entry while the database was asked.
        let overtaken = self
            .cache
            .entry(entry.ring.scope())
            .is_none_or(|entry| self.cache.is_overtaken(&entry));
        if !self.settings.grace.is_zero() && !overtaken && age <= limit {
            return Ok(entry.ring.clone());
        }
        Err(Error::new(ErrorKind::Stale)
            .with_context("scope", entry.ring.scope())
            .with_source(error))
    }

    /// Reads the collection version, together with all who may share the answer.
    async fn ask(self: &Arc<Self>, bound: Bound) -> Result<()> {
        let asked = {
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = asking
                .as_ref()
                .filter(|(sent, _)| bound.admits(*sent))
                .and_then(|(_, question)| question.upgrade());
            match shared {
                Some(question) => question,
                None => {
                    let sent = self.cache.stamp();
                    let this = Arc::clone(self);
                    let question = async move {
                        let found = this.repository.collection_version(None).await?;
                        this.cache.observe(found.collection, sent);
                        Ok(())
                    }
                    .boxed()
                    .shared();
                    *asking = question.downgrade().map(|question| (sent, question));
                    question
                }
            }
        };
        asked.await
    }

    async fn load(self: &Arc<Self>, scope: &ScopeId, bound: Bound) -> Result<KeyRing> {
        // One at a time: whoever comes during a load that began too early waits for it, and then one more
        // serves all of them. Each of their own would ask the root wrapper for the same new keys.
        while let Some(earlier) = self.cache.too_early(scope, bound) {
            let _ = earlier.await;
            if let Some(ring) = self.found_meanwhile(scope, bound) {
                return Ok(ring);
            }
        }
        let load = self.cache.join(scope, bound, |sent, guard| {
            let this = Arc::clone(self);
            let scope = scope.clone();
            async move {
                let _guard = guard;
                this.run(&scope, sent).await
            }
            .boxed()
        });
        load.await?
            .ok_or_else(|| Error::new(ErrorKind::UnknownScope).with_context("scope", scope))
    }

    async fn run(&self, scope: &ScopeId, sent: Sent) -> Result<Option<KeyRing>> {
        let snapshot = self.repository.load(std::slice::from_ref(scope)).await?;
        let found = Found {
            sent,
            generation: self.cache.observe(snapshot.collection, sent),
            rows: snapshot
                .scopes
                .into_iter()
                .find(|rows| rows.scope == *scope),
        };
        Ok(self.take_in(scope, found, PARALLEL_ROOT_CALLS).await)
    }

    /// Opens what a query found, and puts it into the cache unless something newer is known.
    async fn take_in(&self, scope: &ScopeId, found: Found, parallel: usize) -> Option<KeyRing> {
        let Found {
            sent,
            generation,
            rows,
        } = found;
        let Some(rows) = rows else {
            self.cache.insert_absence(scope, sent);
            return None;
        };
        let known = self.cache.entry(scope).map(|entry| entry.ring);
        let ring = self.opener.open(&rows, known.as_ref(), parallel).await;
        let entry = Entry {
            recheck: sent.at.saturating_add(self.recheck_after(&ring)),
            ring: ring.clone(),
            sent,
            generation,
            overtaken: false,
        };
        self.cache.insert(scope, entry);
        Some(ring)
    }

    fn recheck_after(&self, ring: &KeyRing) -> Duration {
        ring.failures()
            .map(|(_, error)| {
                if error.is_retryable() {
                    RETRY_PASSING
                } else {
                    RETRY_LASTING
                }
            })
            .fold(self.settings.recheck, Duration::min)
    }
}

/// What a query found of one scope.
struct Found {
    /// When the query was sent.
    sent: Sent,
    /// The view's generation that the rows belong to.
    generation: u64,
    rows: Option<ScopeRows>,
}

/// Whether the failure says that the database can't be asked, rather than that it answered.
fn can_not_be_asked(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DatabaseUnreachable | ErrorKind::DatabaseBusy
    )
}
