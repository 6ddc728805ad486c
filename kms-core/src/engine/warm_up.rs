//! Filling the cache before it is used.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::Semaphore;

use super::loader::Loading;
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
        self.0.opener.roots.own()?;
        let end = Arc::<OnceLock<End>>::default();
        let batches = Batches {
            kms: self.clone(),
            source: Source::of(scopes),
            size: options.batch_size,
            room: self.0.cache.room(),
            end: Arc::clone(&end),
        };
        let root_calls = Arc::new(Semaphore::new(options.concurrency));
        // While the keys of one batch are opened, the rows of the next ones are read: as many as it takes to have
        // all calls under way.
        let at_once = 2 + options.concurrency.div_ceil(options.batch_size);
        let mut batches = batches
            .stream()
            .map(|batch| self.load_batch(batch, Arc::clone(&root_calls), &end))
            .buffered(at_once)
            .boxed();
        let mut warm_up = WarmUp::default();
        while let Some(loaded) = batches.next().await {
            for (scope, result) in loaded {
                warm_up.add(scope, result);
            }
        }
        drop(batches);
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

impl Kms {
    /// Loads a batch, and waits for it.
    async fn load_batch(
        &self,
        scopes: Vec<ScopeId>,
        root_calls: Arc<Semaphore>,
        end: &OnceLock<End>,
    ) -> Vec<(ScopeId, Result<KeyRing>)> {
        let found = match self.0.loader.find_together(&scopes, &root_calls).await {
            Ok(found) => found,
            Err(error) => {
                let _ = end.set(End::Failed(error));
                return Vec::new();
            }
        };
        let found = found.into_iter().map(|(scope, loading)| async move {
            let loaded = match loading {
                Loading::Ready(ring) => Some(Ok(Some(ring))),
                Loading::UnderWay(answer) => answer.wait().await,
                Loading::Alone => None,
            };
            let ring = match loaded {
                Some(loaded) => loaded.and_then(|ring| {
                    let unknown = || Error::new(ErrorKind::UnknownScope);
                    ring.ok_or_else(|| unknown().with_context("scope", &scope))
                }),
                None => self.0.loader.ring(&scope).await,
            };
            (scope, ring)
        });
        let all: Vec<_> = found.collect();
        join_all(all).await
    }
}

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
    /// One batch after the other. When the database fails, no more.
    fn stream(self) -> impl Stream<Item = Vec<ScopeId>> {
        stream::unfold(self, |mut batches| async move {
            if batches.end.get().is_some() {
                return None;
            }
            match batches.next().await {
                Ok(batch) => batch.map(|batch| (batch, batches)),
                Err(error) => {
                    let _ = batches.end.set(End::Failed(error));
                    None
                }
            }
        })
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
