//! Running one property, on a runtime of its own, in bounded time.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// No property takes this long unless something waits without bound.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a property on a multi-thread runtime.
///
/// # Panics
///
/// If the property does, or takes longer than two minutes.
pub fn run(property: impl Future<Output = ()>) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    finish(&runtime.expect("a runtime can be built"), property);
}

/// Runs a property on a current-thread runtime, where a repository that blocks its thread gets stuck.
///
/// # Panics
///
/// If the property does, or takes longer than two minutes.
pub fn run_on_one_thread(property: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    finish(&runtime.expect("a runtime can be built"), property);
}

fn finish(runtime: &Runtime, property: impl Future<Output = ()>) {
    runtime
        .block_on(async { timeout(LIMIT, property).await })
        .expect("the property ends in time: something waits without bound");
}
