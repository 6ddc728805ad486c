//! Filling the cache before it is used.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Fuse, FuturesUnordered};
use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::loader::Together;
use super::{Kms, Scopes};
use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::KeyRing;
use crate::repository::ScopeFilter;
use crate::scope::ScopeId;

impl Kms {
    /// Loads the keys of these scopes into the cache, so that [`wrapper`](Self::wrapper) has them at once: one
    /// query for each batch, and calls to the root wrapper for as many scopes at once as the options allow.
    /// After a start, say; an engine works without.
    ///
    /// The keys are as fresh as if each scope had been asked for alone, from the moment at which the query was
    /// sent. What is cached and fresh stays as it is, so that calling again goes on where a call failed or was
    /// dropped, which may happen at any point. Whoever asks for a scope meanwhile shares its load.
    ///
    /// It ends where the cache is full, and says so, rather than displace what it loaded. (The cache is divided
    /// into parts, of which one may be full sooner than another: let
    /// [`cache_capacity`](crate::KmsBuilder::cache_capacity) be a tenth above the number of scopes.)
    ///
    /// ```
    /// use kms_core::{Kms, Result, Scopes, WarmUpOptions};
    ///
    /// async fn warm_up(kms: &Kms) -> Result<()> {
    ///     let options = WarmUpOptions::new().concurrency(16);
    ///     let warm_up = kms.warm_up(Scopes::All, &options).await?;
    ///     for (scope, error) in &warm_up.failed {
    ///         eprintln!("{scope}: {error}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoRootWrapper`]; [`ErrorKind::InvalidConfiguration`] for options of zero; those of the
    /// repository, and then what was loaded is in the cache all the same. What fails for single scopes is in
    /// the [`WarmUp`], and does not stop the others.
    pub async fn warm_up(&self, scopes: Scopes<'_>, options: &WarmUpOptions) -> Result<WarmUp> {
        self.run_warm_up(scopes, options)
            .await
            .map_err(|error| error.with_operation("warm_up"))
    }

    async fn run_warm_up(&self, scopes: Scopes<'_>, options: &WarmUpOptions) -> Result<WarmUp> {
        options.check()?;
        self.0.opener.root()?;
        let end = Arc::<OnceLock<End>>::default();
        let batches = Batches {
            kms: self.clone(),
            source: Source::of(scopes),
            size: options.batch_size,
            room: self.0.cache.room(),
            end: Arc::clone(&end),
        };
        let mut loading = Loading {
            kms: self.clone(),
            ahead: options.batch_size.max(options.concurrency),
            concurrency: options.concurrency,
            found: batches.found(),
            waiting: VecDeque::new(),
            under_way: FuturesUnordered::new(),
        };
        let mut warm_up = WarmUp::default();
        while let Some((scope, result)) = loading.next().await {
            warm_up.add(scope, result);
        }
        match end.get() {
            Some(End::Failed(error)) => return Err(error.clone()),
            Some(End::Full(first)) => warm_up.left_out = Some(first.clone()),
            None => {}
        }
        if matches!(scopes, Scopes::All) {
            // Deleted since they were listed.
            warm_up
                .failed
                .retain(|(_, error)| error.kind() != ErrorKind::UnknownScope);
        }
        Ok(warm_up)
    }
}

/// A scope's way into the cache.
type Load = BoxFuture<'static, (ScopeId, Result<KeyRing>)>;

/// Why it ended before all scopes were loaded.
enum End {
    /// The cache has no room for this scope.
    Full(ScopeId),
    /// The database can't be asked.
    Failed(Error),
}

/// The scopes, each once, in batches that the cache has room for.
struct Batches {
    kms: Kms,
    source: Source,
    size: usize,
    room: usize,
    end: Arc<OnceLock<End>>,
}

enum Source {
    List(std::vec::IntoIter<ScopeId>),
    /// The scopes of the database after this one.
    Database(Option<ScopeId>),
    Ended,
}

impl Source {
    fn of(scopes: Scopes<'_>) -> Self {
        match scopes {
            Scopes::All => Self::Database(None),
            Scopes::Only(scopes) => {
                let mut seen = HashSet::new();
                let each_once = scopes.iter().filter(|scope| seen.insert(*scope));
                Self::List(each_once.cloned().collect::<Vec<_>>().into_iter())
            }
        }
    }
}

impl Batches {
    /// Asks for the rows of one batch after the other. When that fails, no more are asked for.
    fn found(self) -> Fuse<BoxStream<'static, Together>> {
        stream::unfold(self, |mut batches| async move {
            let found = async {
                match batches.next().await? {
                    None => Ok(None),
                    Some(batch) => batches.kms.0.loader.find_together(&batch).await.map(Some),
                }
            };
            match found.await {
                Ok(found) => found.map(|together| (together, batches)),
                Err(error) => {
                    let _ = batches.end.set(End::Failed(error));
                    None
                }
            }
        })
        .boxed()
        .fuse()
    }

    async fn next(&mut self) -> Result<Option<Vec<ScopeId>>> {
        let mut batch = self.take_from_source().await?;
        let cache = &self.kms.0.cache;
        let beyond = batch.iter().position(|scope| {
            // One that is cached takes no more room than it has.
            if cache.entry(scope).is_some() {
                return false;
            }
            let full = self.room == 0;
            self.room = self.room.saturating_sub(1);
            full
        });
        if let Some(beyond) = beyond {
            if let Some(first) = batch.drain(beyond..).next() {
                let _ = self.end.set(End::Full(first));
            }
            self.source = Source::Ended;
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    async fn take_from_source(&mut self) -> Result<Vec<ScopeId>> {
        match &mut self.source {
            Source::Ended => Ok(Vec::new()),
            Source::List(scopes) => Ok(scopes.take(self.size).collect()),
            Source::Database(after) => {
                let repository = &self.kms.0.repository;
                let page = repository
                    .scopes(&ScopeFilter::default(), after.as_ref(), self.size)
                    .await?;
                self.source = match page.last() {
                    Some(last) if page.len() == self.size => Source::Database(Some(last.clone())),
                    _ => Source::Ended,
                };
                Ok(page)
            }
        }
    }
}

/// The loads, so many at once. While those of one batch are under way, the rows of the next one are read.
struct Loading {
    kms: Kms,
    /// With so many loads waiting, no more rows are asked for.
    ahead: usize,
    concurrency: usize,
    found: Fuse<BoxStream<'static, Together>>,
    waiting: VecDeque<Load>,
    under_way: FuturesUnordered<Load>,
}

impl Loading {
    /// The next load that ends. `None` when all have, or when no more can be begun.
    async fn next(&mut self) -> Option<(ScopeId, Result<KeyRing>)> {
        poll_fn(|context| {
            // Before the last loads are under way, so that no call waits for a query.
            let mut all_found = false;
            while self.waiting.len() <= self.ahead {
                match self.found.poll_next_unpin(context) {
                    Poll::Ready(Some(together)) => self.take(together),
                    Poll::Ready(None) => {
                        all_found = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            while self.under_way.len() < self.concurrency
                && let Some(load) = self.waiting.pop_front()
            {
                self.under_way.push(load);
            }
            match self.under_way.poll_next_unpin(context) {
                // A query is under way.
                Poll::Ready(None) if !all_found => Poll::Pending,
                other => other,
            }
        })
        .await
    }

    fn take(&mut self, together: Together) {
        let Together {
            fresh,
            loads,
            elsewhere,
        } = together;
        for ring in fresh {
            let loaded = std::future::ready((ring.scope().clone(), Ok(ring)));
            self.waiting.push_back(loaded.boxed());
        }
        for (scope, load) in loads {
            let load = async move {
                let unknown = || Error::new(ErrorKind::UnknownScope).with_context("scope", &scope);
                let ring = load.await.and_then(|ring| ring.ok_or_else(unknown));
                (scope, ring)
            };
            self.waiting.push_back(load.boxed());
        }
        for scope in elsewhere {
            let kms = self.kms.clone();
            let load = async move {
                let ring = kms.0.loader.ring(&scope).await;
                (scope, ring)
            };
            self.waiting.push_back(load.boxed());
        }
    }
}

/// How [`Kms::warm_up`] goes about it.
#[derive(Clone, Debug)]
pub struct WarmUpOptions {
    batch_size: usize,
    concurrency: usize,
}

impl WarmUpOptions {
    /// Batches of 100 scopes, with 8 scopes calling the root wrapper at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            batch_size: 100,
            concurrency: 8,
        }
    }

    /// Scopes whose rows are read with one query.
    #[must_use]
    pub fn batch_size(mut self, scopes: usize) -> Self {
        self.batch_size = scopes;
        self
    }

    /// Scopes that call the root wrapper at once, with one call each.
    #[must_use]
    pub fn concurrency(mut self, scopes: usize) -> Self {
        self.concurrency = scopes;
        self
    }

    fn check(&self) -> Result<()> {
        if self.batch_size == 0 || self.concurrency == 0 {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_detail("batch size and concurrency are at least 1"));
        }
        Ok(())
    }
}

impl Default for WarmUpOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`Kms::warm_up`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct WarmUp {
    /// Scopes that are in the cache with all of their keys.
    pub loaded: usize,
    /// Scopes that are not, and why: `UnknownScope` for one without keys, and where key versions do not open
    /// the first one's failure. What does open of such a scope is in the cache, and works.
    pub failed: Vec<(ScopeId, Error)>,
    /// The first scope that was left out, with all after it, since the cache has no room for it.
    pub left_out: Option<ScopeId>,
}

impl WarmUp {
    fn add(&mut self, scope: ScopeId, loaded: Result<KeyRing>) {
        let failure = match loaded {
            Err(error) => Some(error),
            Ok(ring) => ring.failures().next().map(|(_, error)| error.clone()),
        };
        match failure {
            None => self.loaded += 1,
            Some(error) => {
                let error = error.with_context("scope", &scope);
                self.failed.push((scope, error));
            }
        }
    }
}
