//! A database of so many scopes, and what is done there once for a case.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kms_kit::{
    CampaignOptions, Freshness, Kms, Repository, Rewrap, RewrapKeys, ScopeId, Scopes, Wrapper,
};
use kms_testkit::{InstrumentedRepository, ManualClock};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::pages::Pages;
use super::{Case, heap};
use crate::database::{CONNECTIONS, Database};
use crate::many;
use crate::measure::batches;
use crate::world::{PURPOSES, builder, local_root, scope};

/// Versions of each key.
const VERSIONS: usize = 10;
/// Scopes that are used one by one, spread over the world.
pub(super) const SAMPLE: usize = 100;
/// Scopes that are timed together.
const TOGETHER: usize = 10;
/// How long a campaign goes on.
const CAMPAIGN: Duration = Duration::from_secs(40);
/// Scopes in a cache at most: with ten versions of each key, 100,000 would take gigabytes.
const MOST_CACHED: usize = 20_000;
/// Fresh for as long as a case takes.
const AN_HOUR: Duration = Duration::from_secs(3600);

pub(super) struct World {
    size: usize,
    sample: Vec<ScopeId>,
    root: Arc<dyn Wrapper>,
    repository: Arc<dyn Repository>,
    /// What a cold load took, once that was measured.
    pub(super) cold: Option<f64>,
    /// Dropped last.
    _database: Database,
}

/// Nanoseconds for each scope, and what else is worth knowing.
#[derive(Default)]
pub(super) struct Sampled {
    pub(super) times: Vec<f64>,
    pub(super) notes: Vec<(&'static str, Value)>,
}

impl World {
    pub(super) async fn new(database: Database, size: usize) -> Result<Self> {
        let root = local_root("bench-root")?;
        let Database::Postgres { url, .. } = &database else {
            bail!("many scopes are for Postgres");
        };
        let start = Instant::now();
        many::fill(url, &root, size, VERSIONS).await?;
        let took = start.elapsed();
        eprintln!("scale: {size} scopes of {VERSIONS} versions of each key made in {took:.1?}");
        let sample = (0..SAMPLE).map(|number| scope(number * size / SAMPLE));
        Ok(Self {
            size,
            sample: sample.collect(),
            root,
            repository: database.repository()?,
            cold: None,
            _database: database,
        })
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Does a case once.
    pub(super) async fn sample(&self, case: Case, budget: Duration) -> Result<Sampled> {
        match case {
            Case::Cached => self.cached(budget).await,
            Case::Cold => self.cold().await,
            Case::SmallCache => self.small_cache().await,
            Case::AfterAChange => self.after_a_change().await,
            Case::List => self.list().await,
            Case::ReconcileNothingMissing => self.reconcile().await,
            Case::Census => self.census().await,
            Case::AllCached => self.all_cached(budget).await,
            Case::RotateAll => self.rotate_all("rotate", Rewrap::No).await,
            Case::RotateAllWithRewrap => self.rotate_all("rotate-rewrap", Rewrap::Yes).await,
        }
    }

    /// An engine with so much cache, which asks nobody for as long as it is measured.
    async fn engine(&self, repository: &Arc<dyn Repository>, capacity: usize) -> Result<Kms> {
        Ok(builder(Arc::clone(repository), &self.root)
            .cache_capacity(capacity)
            .freshness(Freshness::Within(AN_HOUR))
            .recheck_interval(AN_HOUR * 2)
            .build()
            .await?)
    }

    async fn cached(&self, budget: Duration) -> Result<Sampled> {
        let kms = self.engine(&self.repository, SAMPLE * 10).await?;
        use_each(&kms, &self.sample).await?;
        Ok(Sampled {
            times: vec![again_and_again(&kms, &self.sample, budget)],
            ..Sampled::default()
        })
    }

    async fn cold(&self) -> Result<Sampled> {
        let kms = self.engine(&self.repository, SAMPLE * 10).await?;
        self.few_by_few(async |scopes| use_each(&kms, scopes).await)
            .await
    }

    async fn small_cache(&self) -> Result<Sampled> {
        let queries = Arc::new(InstrumentedRepository::new(Arc::clone(&self.repository)));
        let counted = Arc::clone(&queries) as Arc<dyn Repository>;
        let kms = self.engine(&counted, SAMPLE / 10).await?;
        use_each(&kms, &self.sample).await?;
        let mut sampled = Sampled::default();
        let mut misses = 0;
        for scopes in self.sample.chunks(TOGETHER) {
            let _ = queries.take();
            let start = Instant::now();
            use_each(&kms, scopes).await?;
            let missed = queries.calls().load;
            if missed > 0 {
                sampled.times.push(per(start, usize::try_from(missed)?));
            }
            misses += missed;
        }
        sampled.notes = vec![("uses", SAMPLE.into()), ("misses", misses.into())];
        Ok(sampled)
    }

    async fn after_a_change(&self) -> Result<Sampled> {
        let clock = Arc::new(ManualClock::new());
        let kms = builder(Arc::clone(&self.repository), &self.root)
            .clock(Arc::clone(&clock) as _)
            .build()
            .await?;
        use_each(&kms, &self.sample).await?;
        // The last one, which is not in the sample.
        let other = self.engine(&self.repository, 10).await?;
        let last = scope(self.size - 1);
        other.rewrap_keys(&last, RewrapKeys::All).await?;
        clock.advance(Duration::from_secs(2));
        self.few_by_few(async |scopes| use_each(&kms, scopes).await)
            .await
    }

    async fn list(&self) -> Result<Sampled> {
        let kms = self.engine(&self.repository, 10).await?;
        self.few_by_few(async |scopes| {
            for scope in scopes {
                black_box(kms.list_keys(scope).await?);
            }
            Ok(())
        })
        .await
    }

    async fn reconcile(&self) -> Result<Sampled> {
        let kms = self.engine(&self.repository, 10).await?;
        let start = Instant::now();
        let outcome = kms.reconcile_keys(Scopes::All, &PURPOSES).await?;
        ensure!(outcome.created.is_empty(), "something was missing");
        Ok(Sampled {
            times: vec![per(start, self.size)],
            ..Sampled::default()
        })
    }

    async fn census(&self) -> Result<Sampled> {
        let pages = Arc::new(Pages::new(Arc::clone(&self.repository)));
        let kms = self
            .engine(&(Arc::clone(&pages) as Arc<dyn Repository>), 10)
            .await?;
        let start = Instant::now();
        let census = kms.census().await?;
        let mean = per(start, self.size);
        let found = usize::try_from(census.scopes)?;
        ensure!(found == self.size, "{found} scopes of {}", self.size);
        ensure!(census.unreadable == 0, "{} unreadable", census.unreadable);
        Ok(Sampled {
            times: pages.times(),
            notes: vec![("mean_ns", mean.round().into())],
        })
    }

    async fn all_cached(&self, budget: Duration) -> Result<Sampled> {
        let count = self.size.min(MOST_CACHED);
        let kms = self.engine(&self.repository, count * 2).await?;
        // What an engine has once.
        use_each(&kms, &self.sample[..1]).await?;
        let before = heap::in_use();
        let start = Instant::now();
        let callers = usize::try_from(CONNECTIONS)?;
        let mut loading = JoinSet::new();
        for caller in 0..callers {
            let kms = kms.clone();
            loading.spawn(async move {
                for number in (caller..count).step_by(callers) {
                    kms.wrapper(&scope(number), &PURPOSES[1]).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = loading.join_next().await {
            ended??;
        }
        let load = per(start, count);
        let bytes = heap::in_use()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before) / (count - 1));
        // In an order in which no processor can read ahead.
        let all: Vec<_> = (0..count).map(|n| scope(n * 7_919 % count)).collect();
        Ok(Sampled {
            times: vec![again_and_again(&kms, &all, budget)],
            notes: vec![
                ("cached", count.into()),
                ("bytes_per_scope", bytes.into()),
                ("load_by_4_callers_ns", load.round().into()),
            ],
        })
    }

    /// A new version of every key, until it has taken long enough. Each batch is a sample.
    async fn rotate_all(&self, name: &'static str, rewrap: Rewrap) -> Result<Sampled> {
        let kms = self.engine(&self.repository, 10).await?;
        let options = CampaignOptions::new(name);
        let mut sampled = Sampled::default();
        let begin = Instant::now();
        let (mut before, mut done) = (begin, 0);
        let campaign = kms.rotate_all(&options, rewrap, |progress| {
            if let Ok(batch @ 1..) = usize::try_from(progress.done - done) {
                sampled.times.push(per(before, batch));
            }
            (before, done) = (Instant::now(), progress.done);
        });
        // Whoever drops a campaign can carry it on; here that is enough.
        if let Ok(outcome) = tokio::time::timeout(CAMPAIGN, campaign).await {
            let outcome = outcome?;
            let failures = &outcome.report().context("it was finished before")?.failures;
            ensure!(failures.is_empty(), "{} scopes failed", failures.len());
        }
        ensure!(done > 0, "nothing was done within {CAMPAIGN:?}");
        let mean = (before - begin).as_secs_f64() * 1e9 / done as f64;
        sampled.notes = vec![("done", done.into()), ("mean_ns", mean.round().into())];
        Ok(sampled)
    }

    /// Times work on the sample, a few scopes at a time.
    async fn few_by_few(
        &self,
        mut work: impl AsyncFnMut(&[ScopeId]) -> Result<()>,
    ) -> Result<Sampled> {
        let mut sampled = Sampled::default();
        for scopes in self.sample.chunks(TOGETHER) {
            let start = Instant::now();
            work(scopes).await?;
            sampled.times.push(per(start, scopes.len()));
        }
        Ok(sampled)
    }
}

async fn use_each(kms: &Kms, scopes: &[ScopeId]) -> Result<()> {
    for scope in scopes {
        let wrapper = kms.wrapper(scope, &PURPOSES[1]).await;
        black_box(wrapper.with_context(|| format!("{scope} opens"))?);
    }
    Ok(())
}

/// Nanoseconds for a wrapper of one scope after the other, all of them cached.
fn again_and_again(kms: &Kms, scopes: &[ScopeId], budget: Duration) -> f64 {
    let handle = Handle::current();
    let mut next = scopes.iter().cycle();
    tokio::task::block_in_place(|| {
        let measurement = batches("", budget, |count| {
            handle.block_on(async {
                for _ in 0..count {
                    let scope = next.next().expect("it goes round");
                    let wrapper = kms.wrapper(scope, &PURPOSES[1]).await;
                    black_box(wrapper.expect("it is cached"));
                }
            });
        });
        measurement.ns
    })
}

/// Nanoseconds for each since then.
fn per(start: Instant, count: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / count as f64
}
