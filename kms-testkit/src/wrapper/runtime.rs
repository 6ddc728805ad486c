//! The runtimes that properties run on.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Far above what any property takes, so that a call without bound fails instead of hanging.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a property on a runtime of one thread.
///
/// # Panics
///
/// If the property panics or takes longer than two minutes.
pub fn on_current_thread(property: impl Future<Output = ()>) {
    run(&mut Builder::new_current_thread(), property);
}

/// Runs a property on a runtime of four threads.
///
/// # Panics
///
/// If the property panics or takes longer than two minutes.
pub fn on_many_threads(property: impl Future<Output = ()>) {
    run(Builder::new_multi_thread().worker_threads(4), property);
}

fn run(builder: &mut Builder, property: impl Future<Output = ()>) {
    let runtime: Runtime = builder
        .enable_all()
        .build()
        .expect("the system lets a test start a runtime");
    runtime.block_on(async {
        timeout(LIMIT, property)
            .await
            .expect("the property ends within two minutes");
    });
}
