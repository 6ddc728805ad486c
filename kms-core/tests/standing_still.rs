//! Nothing that callers, keys or clocks do makes an engine stand still.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use kms_core::{Clock, Kms, KmsBuilder, Rewrap, ScopeId, Scopes, SystemClock, WarmUpOptions};
use kms_wrapper_aead::fastest;
use support::meddling::Meddling;
use support::{DATABASE, OIDC, World, scope};

/// How long the loops run; `KMS_TEST_SECONDS` makes it longer.
fn test_length() -> Duration {
    let seconds = std::env::var("KMS_TEST_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

/// Longer than any single call takes on a busy machine, and shorter than for ever.
const STANDSTILL: Duration = Duration::from_secs(30);

/// Runs the work on a thread, and panics if it has not ended after this time.
fn in_time(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (ended, end) = std::sync::mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        let _ = ended.send(());
    });
    if end.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("it stands still");
    }
    worker.join().unwrap();
}

#[test]
fn calls_and_warm_ups_that_are_dropped_midway_never_bring_the_engine_to_a_halt() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (kms, ids) = runtime.block_on(async {
        let world = World::new().await;
        let ids: Vec<_> = (0..100).map(|n| scope(&format!("o_{n:03}"))).collect();
        for id in &ids {
            world.kms.create_keys(id, &[OIDC]).await.unwrap();
        }
        // Nothing stays fresh for long, and not all fits in.
        let kms = world
            .builder_in_any_runtime()
            .freshness(kms_core::Freshness::Within(Duration::from_micros(200)))
            .cache_capacity(60)
            .build()
            .await
            .unwrap();
        (kms, Arc::new(ids))
    });
    let ended = Arc::new(AtomicBool::new(false));
    let progress: Vec<_> = (0..4).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let threads: Vec<_> = progress
        .iter()
        .enumerate()
        .map(|(number, progress)| {
            let (kms, ids) = (kms.clone(), Arc::clone(&ids));
            let (ended, progress) = (Arc::clone(&ended), Arc::clone(progress));
            let handle = runtime.handle().clone();
            thread::spawn(move || {
                let _inside = handle.enter();
                let mut turn = number;
                while !ended.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        turn = (turn + 7) % ids.len();
                        let _ = kms.wrapper(&ids[turn], &OIDC).now_or_never();
                    } else {
                        let options = WarmUpOptions::new().batch_size(10);
                        let _ = kms.warm_up(Scopes::Only(&ids), &options).now_or_never();
                    }
                    progress.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let end = Instant::now() + test_length();
    let mut last = vec![0; progress.len()];
    let mut moved = vec![Instant::now(); progress.len()];
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
        for (number, progress) in progress.iter().enumerate() {
            let now = progress.load(Ordering::Relaxed);
            if now != last[number] {
                (last[number], moved[number]) = (now, Instant::now());
            }
            assert!(
                moved[number].elapsed() < STANDSTILL,
                "thread {number} stands still"
            );
        }
    }
    ended.store(true, Ordering::Relaxed);
    for thread in threads {
        in_time(STANDSTILL, || thread.join().unwrap());
    }
    assert!(last.iter().all(|calls| *calls > 0), "{last:?}");
    // And whoever waits is still served.
    runtime.block_on(async {
        for id in ids.iter() {
            let wrapper = tokio::time::timeout(STANDSTILL, kms.wrapper(id, &OIDC)).await;
            wrapper.expect("it stands still").unwrap();
        }
    });
}

/// A clock of the application's own, which uses the engine too.
#[derive(Debug)]
struct MeddlingClock {
    engine: Arc<OnceLock<(Kms, ScopeId)>>,
    busy: AtomicBool,
}

impl Clock for MeddlingClock {
    fn now(&self) -> Duration {
        if let Some((kms, id)) = self.engine.get()
            && !self.busy.swap(true, Ordering::Relaxed)
        {
            let _ = kms.wrapper(id, &OIDC).now_or_never();
            self.busy.store(false, Ordering::Relaxed);
        }
        SystemClock.now()
    }
}

#[test]
fn keys_and_clocks_of_the_application_that_use_the_engine_never_bring_it_to_a_halt() {
    in_time(STANDSTILL, || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let engine = Arc::<OnceLock<_>>::default();
            let destroyed = Arc::<AtomicU64>::default();
            let kms = KmsBuilder::new(
                Arc::new(world.repository.clone()),
                Arc::new(Meddling {
                    inner: fastest(),
                    engine: Arc::downgrade(&engine),
                    destroyed: Arc::clone(&destroyed),
                }),
            )
            .purposes([DATABASE, OIDC])
            .root_wrapper(Arc::clone(&world.root))
            .clock(Arc::new(MeddlingClock {
                engine: Arc::clone(&engine),
                busy: AtomicBool::new(false),
            }))
            .cache_capacity(2)
            .build()
            .await
            .unwrap();
            let ids: Vec<_> = (0..10).map(|n| scope(&format!("o_{n}"))).collect();
            for id in &ids {
                kms.create_keys(id, &[DATABASE, OIDC]).await.unwrap();
            }
            // One that is never cached.
            engine.set((kms.clone(), scope("nobody"))).unwrap();
            for _ in 0..10 {
                // Evicted, replaced, overtaken, forgotten.
                for id in &ids {
                    kms.wrapper(id, &OIDC).await.unwrap();
                }
                kms.rotate_keys(&ids[0], Rewrap::Yes).await.unwrap();
                kms.wrapper(&ids[0], &OIDC).await.unwrap();
                kms.dangerous().delete_keys(&ids[9]).await.unwrap();
                kms.create_keys(&ids[9], &[OIDC]).await.unwrap();
                kms.announce_restore().await.unwrap();
            }
            assert!(destroyed.load(Ordering::Relaxed) > 100);
        });
    });
}
