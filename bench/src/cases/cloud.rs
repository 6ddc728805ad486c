//! A root of trust that is far away: what a start and a rotation of everything take, against what the calls take.
//!
//! The bound is latency × calls ÷ concurrency: nobody can be faster without making fewer calls. The cases print the
//! ratio to it, and the calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kms_kit::core::MemoryRepository;
use kms_kit::{CampaignOptions, Kms, Repository, Rewrap, ScopeId, Scopes, WarmUpOptions, Wrapper};
use kms_testkit::{CountingWrapper, WrapperCalls};

use crate::database::Database;
use crate::latency::Distant;
use crate::measure::{Measurement, Run};
use crate::world::{PURPOSES, builder, create_together, local_root};

mod localstack;

pub use localstack::localstack;

/// Scopes of a case.
const SCOPES: usize = 1_000;

/// Latencies in milliseconds, and calls at once: the default, and what a large quota allows.
const DISTANCES: [(u64, usize); 3] = [(2, 8), (50, 8), (50, 64)];

/// Measures with an injected latency, on databases that `make` makes, and without one.
///
/// # Errors
///
/// Those of the engine.
pub async fn run(make: impl Fn() -> Result<Database>, run: &mut Run) -> Result<()> {
    let root = local_root("bench-root")?;
    for (milliseconds, concurrency) in DISTANCES {
        let distance = Distance {
            root: Arc::clone(&root),
            name: format!("{milliseconds}ms_x{concurrency}"),
            latency: Duration::from_millis(milliseconds),
            concurrency,
            scopes: SCOPES,
        };
        // The time is that of the calls: waiting for them once more would not make it truer.
        let repetitions = if milliseconds < 10 {
            run.repetitions
        } else {
            1
        };
        for _ in 0..repetitions {
            let memory: Arc<dyn Repository> = Arc::new(MemoryRepository::new());
            distance.measure("memory", memory, run).await?;
            let database = make()?;
            distance
                .measure(database.kind(), database.repository()?, run)
                .await?;
        }
    }
    keep_the_fastest(&mut run.measurements);
    Ok(())
}

/// Of several measurements of one case.
fn keep_the_fastest(measurements: &mut Vec<Measurement>) {
    measurements.sort_by(|a, b| a.case.cmp(&b.case).then(a.ns.total_cmp(&b.ns)));
    let medians: Vec<_> = measurements
        .chunk_by(|a, b| a.case == b.case)
        .map(|same| same[same.len() / 2].ns)
        .collect();
    measurements.dedup_by(|later, first| later.case == first.case);
    for (measurement, median) in measurements.iter_mut().zip(medians) {
        measurement.median_ns = median;
    }
}

/// A root wrapper, and how it is called.
struct Distance {
    root: Arc<dyn Wrapper>,
    name: String,
    /// Injected. Zero for a service that has its own: then the bound is by what its calls took in that same run.
    latency: Duration,
    concurrency: usize,
    scopes: usize,
}

/// An engine whose root wrapper is far away.
struct Process {
    kms: Kms,
    distant: Arc<Distant>,
    calls: Arc<CountingWrapper>,
}

impl Distance {
    /// A cold start in both ways, and then a rotation of everything.
    async fn measure(
        &self,
        kind: &str,
        repository: Arc<dyn Repository>,
        run: &mut Run,
    ) -> Result<()> {
        let cases = ["warm_up", "cold_wrappers", "rotate_all_rewrap"]
            .map(|case| format!("cloud_{case}_{kind}_{}", self.name));
        if !cases.iter().any(|case| run.wants(case)) {
            return Ok(());
        }
        let scopes = self.create(&repository).await?;
        let [warm_up, cold, rotate] = &cases;
        if run.wants(warm_up) {
            let process = self.process(&repository).await?;
            let start = Instant::now();
            let options = WarmUpOptions::new().concurrency(self.concurrency);
            let outcome = process.kms.warm_up(Scopes::Only(&scopes), &options).await?;
            let elapsed = start.elapsed();
            ensure!(outcome.loaded == scopes.len(), "{:?}", outcome.failed);
            self.keep(warm_up, elapsed, &process, run);
        }
        if run.wants(cold) {
            let process = self.process(&repository).await?;
            let [purpose, ..] = &PURPOSES;
            let start = Instant::now();
            stream::iter(&scopes)
                .map(|scope| process.kms.wrapper(scope, purpose))
                .buffer_unordered(self.concurrency)
                .try_for_each(async |_| Ok(()))
                .await?;
            self.keep(cold, start.elapsed(), &process, run);
        }
        if run.wants(rotate) {
            let process = self.process(&repository).await?;
            let start = Instant::now();
            let options = CampaignOptions::new("bench").concurrency(self.concurrency);
            let outcome = process
                .kms
                .rotate_all(&options, Rewrap::Yes, |_| {})
                .await?;
            let outcome = outcome.report().context("it was finished before")?;
            let elapsed = start.elapsed();
            ensure!(outcome.failures.is_empty(), "{:?}", outcome.failures);
            self.keep(rotate, elapsed, &process, run);
        }
        Ok(())
    }

    async fn process(&self, repository: &Arc<dyn Repository>) -> Result<Process> {
        let distant = Arc::new(Distant::new(Arc::clone(&self.root), self.latency));
        let calls = Arc::new(CountingWrapper::new(
            Arc::clone(&distant) as Arc<dyn Wrapper>
        ));
        let root = Arc::clone(&calls) as Arc<dyn Wrapper>;
        let kms = builder(Arc::clone(repository), &root).build().await?;
        Ok(Process {
            kms,
            distant,
            calls,
        })
    }

    /// Scopes, made without the distance.
    async fn create(&self, repository: &Arc<dyn Repository>) -> Result<Vec<ScopeId>> {
        let kms = builder(Arc::clone(repository), &self.root).build().await?;
        let mut scopes = Vec::new();
        for first in (0..self.scopes).step_by(100) {
            let last = (first + 99).min(self.scopes - 1);
            scopes.extend(create_together(&kms, repository, first..=last).await?);
        }
        Ok(scopes)
    }

    fn keep(&self, case: &str, elapsed: Duration, process: &Process, run: &mut Run) {
        let WrapperCalls {
            encrypt,
            decrypt,
            most_at_once,
            ..
        } = process.calls.calls();
        let mean = process.distant.take_mean();
        let latency = if self.latency.is_zero() {
            mean
        } else {
            self.latency
        };
        let rounds = (encrypt + decrypt) as f64 / self.concurrency as f64;
        let bound = latency.mul_f64(rounds);
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
        let ratio = elapsed.as_secs_f64() / bound.as_secs_f64();
        let per_scope = |time: Duration| vec![time.as_secs_f64() * 1e9 / self.scopes as f64];
        run.keep(Measurement::of(format!("floor_{case}"), per_scope(bound)));
        run.keep(
            Measurement::of(case, per_scope(elapsed))
                .with("scopes", self.scopes)
                .with("elapsed_ms", milliseconds(elapsed))
                .with("root_encrypts", encrypt)
                .with("root_decrypts", decrypt)
                .with("most_at_once", most_at_once)
                .with("mean_call_ms", milliseconds(mean))
                .with("bound_ms", milliseconds(bound))
                .with("ratio_to_bound", (ratio * 1000.0).round() / 1000.0),
        );
    }
}
