//! One of the processes that work at the same time: random operations for a bounded time, then a report.

mod freshness;
mod worker;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use kms_kit::prelude::*;
use kms_kit::{Binding, PostgresRepository};

use crate::concurrent::Report;
use crate::engine::{LocalRoot, PURPOSES};
use worker::Worker;

pub(crate) use freshness::{SAW_GO_ROTATE, WATCHED};

/// What this process promises: a change that another one made is seen at most this much later.
const FRESHNESS: Duration = Duration::from_millis(250);

/// The scope that this side doesn't change, so that what changes there was changed by Go.
pub(crate) const OF_GO_ALONE: &str = "stable_0";

/// What it works on. Scopes named `stable_N` are only ever rotated and rewrapped, the first one by Go alone; those
/// named `volatile_N` are also deleted and made anew.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Plan {
    #[arg(long)]
    pub(crate) address: String,
    #[arg(long)]
    root_hex: String,
    #[arg(long)]
    name: String,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    pub(crate) stable: usize,
    #[arg(long)]
    pub(crate) volatile: usize,
    #[arg(long, default_value_t = 2)]
    workers: u64,
}

/// What all workers of this process share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) kms: Kms,
    pub(crate) until: Instant,
    report: Mutex<Report>,
}

pub(crate) async fn run(plan: &Plan) -> Result<()> {
    let repository = PostgresRepository::builder(&plan.address)
        .pool_size(4)
        .build()?;
    let kms = kms_kit::builder(Arc::new(repository))
        .root_wrapper(LocalRoot::from_hex(&plan.root_hex).wrapper()?)
        .purposes(PURPOSES.clone())
        .binding(Binding::GoCompatible)
        .freshness(Freshness::Within(FRESHNESS))
        .build()
        .await?;
    let shared = Arc::new(Shared {
        kms,
        until: Instant::now() + Duration::from_secs_f64(plan.seconds),
        report: Mutex::new(Report {
            name: plan.name.clone(),
            ..Report::default()
        }),
        plan: plan.clone(),
    });
    let mut tasks = Vec::new();
    for number in 0..plan.workers {
        let worker = Worker::new(Arc::clone(&shared), plan.seed * 1000 + number)?;
        tasks.push(tokio::spawn(worker.run()));
    }
    tasks.push(tokio::spawn(freshness::watch(
        Arc::clone(&shared),
        plan.seed,
    )));
    for task in tasks {
        task.await??;
    }
    let report = shared.report.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", serde_json::to_string(&*report)?);
    Ok(())
}

impl Shared {
    pub(crate) fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    pub(crate) fn did(&self, operation: &str) {
        self.take_down(|report| *report.did.entry(operation.to_owned()).or_default() += 1);
    }

    pub(crate) fn rotated(&self, scope: &str) {
        self.take_down(|report| *report.rotated.entry(scope.to_owned()).or_default() += 1);
    }

    pub(crate) fn retried(&self) {
        self.take_down(|report| report.retries += 1);
    }

    pub(crate) fn failed(&self, operation: &str, scope: &str, why: impl std::fmt::Display) {
        self.take_down(|report| report.failures.push(format!("{operation} {scope}: {why}")));
    }

    /// The promise of freshness was broken.
    pub(crate) fn stale(&self, scope: &str, why: impl std::fmt::Display) {
        self.take_down(|report| report.stale.push(format!("{scope}: {why}")));
    }

    fn take_down(&self, what: impl FnOnce(&mut Report)) {
        what(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
