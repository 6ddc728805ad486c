//! Getting a wrapper that is in the cache: what every request does.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::Result;
use kms_kit::{Freshness, Kms, ScopeId};
use tokio::runtime::Handle;

use crate::allocations;
use crate::database::Database;
use crate::measure::{Measurement, Run, processor_time};
use crate::statements;
use crate::world::{PURPOSES, SCOPES, builder, create, local_root};

/// Callers at once, on however many processors there are.
const CALLERS: usize = 8;

/// Measures on this database.
///
/// # Errors
///
/// Those of the engine.
pub async fn run(database: &Database, run: &mut Run) -> Result<()> {
    let root = local_root("bench-root")?;
    // Fresh for as long as the case takes: the question that is asked once per window is another case.
    let kms = builder(database.repository()?, &root)
        .freshness(Freshness::Within(Duration::from_secs(3600)))
        .recheck_interval(Duration::from_secs(7200))
        .build()
        .await?;
    let scopes = create(&kms, 0..SCOPES).await?;
    for scope in &scopes {
        kms.wrapper(scope, &PURPOSES[1]).await?;
    }
    let kind = database.kind();
    one_caller(run, &format!("wrapper_cached_{kind}"), &kms, &scopes);
    if kind == "postgres" {
        row(run, &kms, &scopes);
        callers(run, "wrapper_cached_8_callers", &kms, &scopes);
        machine(run);
        callers(
            run,
            "wrapper_cached_8_callers_one_scope",
            &kms,
            &scopes[..1],
        );
        // Within the default window, questions included.
        let kms = builder(database.repository()?, &root).build().await?;
        for scope in &scopes {
            kms.wrapper(scope, &PURPOSES[1]).await?;
        }
        one_caller(run, "wrapper_cached_default_freshness", &kms, &scopes);
    }
    Ok(())
}

fn one_caller(run: &mut Run, case: &str, kms: &Kms, scopes: &[ScopeId]) {
    let handle = Handle::current();
    tokio::task::block_in_place(|| {
        run.quick(case, |count| handle.block_on(take(kms, scopes, count)));
        let calls = scopes.len() as u64;
        let each = |all: u64| (all as f64 / calls as f64).into();
        run.note(case, "allocations", || {
            let round = || handle.block_on(take(kms, scopes, calls));
            each(allocations::of(round))
        });
        run.note(case, "queries", || {
            let before = statements::sent();
            handle.block_on(take(kms, scopes, calls));
            each(statements::sent() - before)
        });
    });
}

/// Takes wrappers of one scope after the other.
async fn take(kms: &Kms, scopes: &[ScopeId], count: u64) {
    let mut scopes = scopes.iter().cycle();
    for _ in 0..count {
        let scope = scopes.next().expect("it goes round");
        black_box(
            kms.wrapper(scope, &PURPOSES[1])
                .await
                .expect("it is cached"),
        );
    }
}

/// A row of 1 KiB: wrapper, encrypted, serialized.
fn row(run: &mut Run, kms: &Kms, scopes: &[ScopeId]) {
    let handle = Handle::current();
    let plaintext = vec![7; 1024];
    tokio::task::block_in_place(|| {
        run.quick("row_1024", |count| {
            handle.block_on(async {
                let mut scopes = scopes.iter().cycle();
                for _ in 0..count {
                    let scope = scopes.next().expect("it goes round");
                    let wrapper = kms
                        .wrapper(scope, &PURPOSES[1])
                        .await
                        .expect("it is cached");
                    black_box(
                        wrapper
                            .encrypt_to_vec(&plaintext, b"client:7")
                            .expect("it encrypts"),
                    );
                }
            });
        });
    });
}

/// What the machine gives to two threads that share nothing, beside one: without other work on it, half the time.
fn machine(run: &mut Run) {
    /// Arithmetic in registers: about a hundred microseconds.
    fn work() {
        let mut state = black_box(1_u64);
        for _ in 0..100_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
        }
        black_box(state);
    }
    run.quick_elsewhere("machine_1_thread", |count| (0..count).for_each(|_| work()));
    run.quick_elsewhere("machine_2_threads", |count| {
        std::thread::scope(|threads| {
            threads.spawn(|| (0..count / 2).for_each(|_| work()));
            (0..count - count / 2).for_each(|_| work());
        });
    });
}

/// Several callers at once. The figure is the time per call of all together: the less, the more throughput.
/// It counts from the first that begins to the last that ends.
fn callers(run: &mut Run, case: &str, kms: &Kms, scopes: &[ScopeId]) {
    const CALLS: u64 = 10_000;
    if !run.wants(case) {
        return;
    }
    let handle = Handle::current();
    let mut samples = Vec::new();
    let mut processor = Vec::new();
    let deadline = Instant::now() + run.budget;
    let each = (CALLERS as u64 * CALLS) as f64;
    while samples.len() < 5 || Instant::now() < deadline {
        let together = Arc::new(Barrier::new(CALLERS));
        let used = processor_time();
        let threads: Vec<_> = (0..CALLERS)
            .map(|number| {
                let (kms, handle) = (kms.clone(), handle.clone());
                let together = Arc::clone(&together);
                let mut scopes = scopes.to_vec();
                // Each begins elsewhere, as requests would.
                let start = number * scopes.len() / CALLERS;
                scopes.rotate_left(start);
                std::thread::spawn(move || {
                    together.wait();
                    let start = Instant::now();
                    handle.block_on(take(&kms, &scopes, CALLS));
                    (start, Instant::now())
                })
            })
            .collect();
        let spans: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("it got its wrappers"))
            .collect();
        let first = spans.iter().map(|(start, _)| *start).min();
        let last = spans.iter().map(|(_, end)| *end).max();
        let (first, last) = first.zip(last).expect("there were callers");
        samples.push((last - first).as_secs_f64() * 1e9 / each);
        processor.push((processor_time() - used).as_secs_f64() * 1e9 / each);
    }
    let cpu = Measurement::of("", processor);
    run.keep(Measurement::of(case, samples).with("processor_ns", cpu.ns));
}
