//! What callers see when callers go away, runtimes end, the database hangs and root wrappers misbehave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kms_core::{
    Binding, Blob, DataKeyVersionId, Error, ErrorKind, Ownership, PooledWrapper, Result, Rewrap,
    RewrapKeys, SecretBytes, Wrapper,
};
use kms_testkit::{Fault, Gate, RepositoryCalls, RepositoryMethod, When, WrapperMethod};
use support::instrumented::{Process, newest};
use support::{DATABASE, OIDC, World, root, scope};

const WINDOW: Duration = Duration::from_secs(1);

fn down() -> Fault {
    Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable))
}

fn calls(collection_version: u64, load: u64) -> RepositoryCalls {
    RepositoryCalls {
        collection_version,
        load,
        ..RepositoryCalls::default()
    }
}

// The database.

#[tokio::test]
async fn a_database_that_never_answers_makes_nobody_wait_longer_than_a_load_may_take() {
    let world = World::with_scope("o_1").await;
    let process = Process::with(&world, |builder| {
        builder.load_timeout(Duration::from_millis(100))
    })
    .await;
    let id = scope("o_1");
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::Load,
        When::Always,
        Fault::PauseBefore(gate.clone()),
    );
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
    // The next one does not ask, since it would not be answered either.
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
    assert_eq!(gate.arrivals(), 1);

    process.repository.clear();
    process.clock.advance(WINDOW);
    newest(&process, &id).await;
}

#[tokio::test]
async fn for_a_moment_after_a_failure_others_fail_at_once_and_the_database_is_left_alone() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let gate = Gate::new();
    gate.open();
    for fault in [Fault::PauseBefore(gate.clone()), down()] {
        process
            .repository
            .inject(RepositoryMethod::Load, When::Always, fault);
    }
    for _ in 0..50 {
        let error = process.kms.wrapper(&scope("o_1"), &OIDC).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::DatabaseUnreachable);
    }
    assert_eq!(gate.arrivals(), 1);
    // Then one of all callers finds out for the others.
    for asked in 2..5 {
        process.clock.advance(WINDOW);
        for _ in 0..50 {
            assert!(process.kms.wrapper(&scope("o_1"), &OIDC).await.is_err());
        }
        assert_eq!(gate.arrivals(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn within_the_grace_period_keys_are_served_at_once_while_one_caller_asks_in_the_background() {
    let world = World::with_scope("o_1").await;
    let minute = Duration::from_secs(60);
    let process = Process::with(&world, |builder| builder.grace_period(minute)).await;
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::CollectionVersion,
        When::Always,
        Fault::PauseBefore(gate.clone()),
    );
    process.clock.advance(WINDOW * 2);
    let start = tokio::time::Instant::now();
    assert_eq!(newest(&process, &id).await, before);
    // This one has found out that nobody answers.
    assert!(start.elapsed() < Duration::from_secs(1));
    let start = tokio::time::Instant::now();
    for _ in 0..1000 {
        assert_eq!(newest(&process, &id).await, before);
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(gate.arrivals(), 1);
    for asked in 2..6 {
        process.clock.advance(WINDOW);
        for _ in 0..100 {
            assert_eq!(newest(&process, &id).await, before);
        }
        tokio::task::yield_now().await;
        assert!(
            gate.arrivals() <= asked,
            "{} after {asked}",
            gate.arrivals()
        );
    }
    assert_eq!(start.elapsed(), Duration::ZERO);

    // The database is back: what changed meanwhile is seen.
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    gate.open();
    process.repository.clear();
    process.clock.advance(WINDOW * 2);
    let _ = newest(&process, &id).await;
    tokio::task::yield_now().await;
    process.clock.advance(WINDOW * 2);
    assert_ne!(newest(&process, &id).await, before);
}

// Runtimes.

/// An engine of the default settings, whose next load stops at the gate.
fn held_process(world: &World, gate: &Gate) -> Process {
    let process = block_on(Process::in_any_runtime(world));
    process.root.inject(
        WrapperMethod::Decrypt,
        When::Next,
        Fault::PauseBefore(gate.clone()),
    );
    process
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    current_thread().block_on(work)
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_load_begun_in_a_runtime_that_stands_still_hangs_no_caller_of_another() {
    let world = block_on(World::with_scope("o_1"));
    let gate = Gate::new();
    let process = held_process(&world, &gate);
    let id = scope("o_1");
    let first = current_thread();
    first.block_on(async {
        let purpose = OIDC;
        let call = process.kms.wrapper(&id, &purpose);
        tokio::select! {
            biased;
            () = gate.reached() => {}
            _ = call => panic!("it was to wait"),
        }
    });
    // From here on nobody blocks on the first runtime, and it is not dropped either.
    gate.open();
    let wrapper = block_on(async {
        tokio::time::timeout(Duration::from_secs(20), process.kms.wrapper(&id, &OIDC)).await
    });
    wrapper.expect("it hangs").unwrap();
    assert_eq!(process.queries(), calls(0, 1));
    drop(first);
}

#[test]
fn a_load_begun_in_a_runtime_that_ends_is_begun_again_by_those_who_wait_for_it() {
    let world = block_on(World::with_scope("o_1"));
    let gate = Gate::new();
    let process = Arc::new(held_process(&world, &gate));
    let id = scope("o_1");
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    first.spawn({
        let (process, id) = (Arc::clone(&process), id.clone());
        async move { process.kms.wrapper(&id, &OIDC).await.map(drop) }
    });
    second.block_on(gate.reached());
    let waiting = second.spawn({
        let (process, id) = (Arc::clone(&process), id.clone());
        async move { process.kms.wrapper(&id, &OIDC).await.map(drop) }
    });
    first.shutdown_timeout(Duration::from_secs(5));
    let waited =
        second.block_on(async { tokio::time::timeout(Duration::from_secs(20), waiting).await });
    waited.expect("it hangs").unwrap().unwrap();
}

#[test]
fn callers_without_any_runtime_get_keys_too() {
    let world = block_on(World::with_scope("o_1"));
    let process = block_on(Process::in_any_runtime(&world));
    let wrapper = without_runtime(process.kms.wrapper(&scope("o_1"), &OIDC));
    wrapper.unwrap().encrypt(b"x", b"").unwrap();
}

/// Blocks on a future with no runtime around it.
fn without_runtime<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut work = std::pin::pin!(work);
    loop {
        if let std::task::Poll::Ready(done) = work.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park_timeout(Duration::from_secs(20));
    }
}

// The root wrapper.

#[tokio::test]
async fn a_move_to_another_root_costs_a_process_that_has_the_tenants_cached_no_root_call_and_no_outage()
 {
    let world = World::new().await;
    let ids: Vec<_> = (0..200).map(|n| scope(&format!("o_{n:03}"))).collect();
    for id in &ids {
        world.kms.create_keys(id, &[OIDC]).await.unwrap();
    }
    let process = Process::new(&world).await;
    let mut blobs = Vec::new();
    for id in &ids {
        let wrapper = process.kms.wrapper(id, &OIDC).await.unwrap();
        blobs.push(wrapper.encrypt(b"before", b"").unwrap());
    }
    let _ = (process.queries(), process.root_calls());

    // Another process moves all of them, and this one can't reach the new root.
    let pool = PooledWrapper::new(root("new"))
        .with_decrypting(Arc::clone(&world.root))
        .unwrap();
    let mover = world.builder().root_wrapper(Arc::new(pool)).build().await;
    let options = kms_core::CampaignOptions::new("move");
    let moved = mover
        .unwrap()
        .rewrap_all(&options, RewrapKeys::ForeignRoot, |_| {})
        .await
        .unwrap();
    assert_eq!(moved.report().unwrap().done, 200);
    let throttled = Fault::FailBefore(Error::new(ErrorKind::Throttled));
    process
        .root
        .inject(WrapperMethod::Decrypt, When::Always, throttled);
    process.clock.advance(WINDOW * 2);
    for (id, blob) in ids.iter().zip(&blobs) {
        let wrapper = process.kms.wrapper(id, &OIDC).await.unwrap();
        wrapper.encrypt(b"after", b"").unwrap();
        let plain = process.kms.decrypt(id, &OIDC, blob, b"").await.unwrap();
        assert_eq!(plain.expose(), b"before");
    }
    assert_eq!(process.root_calls(), (0, 0));
    assert_eq!(process.queries(), calls(1, 200));
}

#[tokio::test]
async fn an_old_root_key_version_that_is_dead_and_that_nobody_needs_is_asked_for_once() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    let old = world.encrypt(&id, b"old").await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    world
        .repository
        .tamper(|scopes| scopes[0].root_key_versions[0].key[20] ^= 1);
    let process = Process::new(&world).await;
    for _ in 0..200 {
        newest(&process, &id).await;
        process.clock.advance(Duration::from_secs(60));
    }
    let (_, decrypts) = process.root_calls();
    assert_eq!(decrypts, 2, "the newest, and the dead one");

    // Somebody needs it: it is tried again, less and less often.
    let mut tries = Vec::new();
    for _ in 0..600 {
        let error = process
            .kms
            .decrypt(&id, &OIDC, &old, b"")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TamperedKey);
        tries.push(process.root_calls().1);
        process.clock.advance(Duration::from_secs(1));
    }
    let tried: u64 = tries.iter().sum();
    assert!((2..=10).contains(&tried), "{tried} times in ten minutes");

    // Mended, it opens; and the new keys worked all the time.
    world
        .repository
        .tamper(|scopes| scopes[0].root_key_versions[0].key[20] ^= 1);
    process.clock.advance(Duration::from_secs(301));
    process.kms.decrypt(&id, &OIDC, &old, b"").await.unwrap();
}

#[tokio::test]
async fn a_purpose_that_works_does_not_wait_for_one_that_does_not_open() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    let old = world.encrypt(&id, b"old").await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let process = Process::new(&world).await;
    let refused = Fault::FailBefore(Error::new(ErrorKind::Unreachable));
    process
        .root
        .inject(WrapperMethod::Decrypt, When::Nth(2), refused);
    let wrapper = process.kms.wrapper(&id, &OIDC).await.unwrap();
    assert!(wrapper.decrypt(&old, b"").is_err());
    process.clock.advance(WINDOW * 2);
    let gate = Gate::new();
    let hang = Fault::PauseBefore(gate.clone());
    process
        .root
        .inject(WrapperMethod::Decrypt, When::Next, hang);
    for _ in 0..10 {
        process.kms.wrapper(&id, &DATABASE).await.unwrap();
    }
    gate.reached().await;
    process.kms.wrapper(&id, &DATABASE).await.unwrap();
    gate.open();
    // In the background it has opened.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let wrapper = process.kms.wrapper(&id, &OIDC).await.unwrap();
        if wrapper.decrypt(&old, b"").is_ok() {
            break;
        }
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

/// Panics when it is to decrypt.
#[derive(Debug)]
struct Panicking {
    inner: Arc<dyn Wrapper>,
    panics: AtomicU64,
}

#[async_trait]
impl Wrapper for Panicking {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn key_id(&self) -> Option<String> {
        self.inner.key_id()
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        self.inner.owns(blob)
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.inner.encrypt(plaintext, aad).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let left = self
            .panics
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        assert!(left.is_err(), "the application's wrapper has a bug");
        self.inner.decrypt(blob, aad).await
    }
}

#[tokio::test]
async fn a_panic_in_the_application_s_root_wrapper_is_an_error_of_the_keys_asked_for() {
    let world = World::with_scope("o_1").await;
    let other = scope("o_2");
    world.kms.create_keys(&other, &[OIDC]).await.unwrap();
    let root = Arc::new(Panicking {
        inner: Arc::clone(&world.root),
        panics: AtomicU64::new(1),
    });
    let kms = world
        .builder()
        .root_wrapper(Arc::clone(&root) as Arc<dyn Wrapper>)
        .build()
        .await
        .unwrap();
    let id = scope("o_1");
    let calls = (0..8).map(|_| async { kms.wrapper(&id, &OIDC).await });
    for result in futures_util::future::join_all(calls).await {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            source.contains("the application's wrapper has a bug"),
            "{source}"
        );
    }
    kms.wrapper(&other, &OIDC).await.unwrap();
    kms.rotate_keys(&id, Rewrap::Yes).await.unwrap();
    kms.wrapper(&id, &OIDC).await.unwrap();
}

#[tokio::test]
async fn a_root_wrapper_that_never_returns_fails_its_own_keys_in_time() {
    let world = World::with_scope("o_1").await;
    let process = Process::with(&world, |builder| {
        builder.load_timeout(Duration::from_millis(100))
    })
    .await;
    let gate = Gate::new();
    process.root.inject(
        WrapperMethod::Decrypt,
        When::Next,
        Fault::PauseBefore(gate.clone()),
    );
    let error = process.kms.wrapper(&scope("o_1"), &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

// What changes elsewhere.

#[tokio::test]
async fn after_a_change_elsewhere_the_rows_of_the_tenants_that_changed_are_read_and_no_others() {
    let world = World::new().await;
    let ids: Vec<_> = (0..50).map(|n| scope(&format!("o_{n:02}"))).collect();
    for id in &ids {
        world.kms.create_keys(id, &[OIDC]).await.unwrap();
    }
    let process = Process::new(&world).await;
    let mut seen = Vec::new();
    for id in &ids {
        seen.push(newest(&process, id).await);
    }
    let _ = (process.queries(), process.root_calls());
    for round in 0..5 {
        let changed = [round, 20 + round, 40 + round];
        for number in changed {
            world
                .kms
                .rotate_keys(&ids[number], Rewrap::No)
                .await
                .unwrap();
        }
        process.clock.advance(WINDOW * 2);
        for (number, id) in ids.iter().enumerate() {
            let now = newest(&process, id).await;
            assert_eq!(now != seen[number], changed.contains(&number), "{id}");
            seen[number] = now;
        }
        assert_eq!(process.queries(), calls(1, 3));
    }
    // What nobody told is read, as ever.
    world.kms.announce_restore().await.unwrap();
    process.clock.advance(WINDOW * 2);
    for id in &ids {
        newest(&process, id).await;
    }
    assert_eq!(process.queries(), calls(1, 50));
}

// Usage, hostile blobs, receipts.

#[tokio::test]
async fn encryptions_are_counted_by_key_version_whatever_becomes_of_the_keys_in_memory() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let wrapper = world.wrapper(&id).await;
    for _ in 0..2000 {
        wrapper.encrypt(b"x", b"").unwrap();
    }
    assert_eq!(wrapper.encryptions(), 2000);
    world.kms.rewrap_keys(&id, RewrapKeys::All).await.unwrap();
    assert_eq!(world.wrapper(&id).await.encryptions(), 2000);
    let keys = world.kms.list_keys(&id).await.unwrap();
    let old = keys[0].versions[0].id.clone();
    world.kms.revoke_key_version(&old).await.unwrap();
    let wrapper = world.wrapper(&id).await;
    wrapper.encrypt(b"x", b"").unwrap();
    assert_eq!(wrapper.encryptions(), 2001);
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    assert_eq!(
        world.wrapper(&id).await.encryptions(),
        0,
        "of the new version"
    );
}

#[tokio::test]
async fn a_blob_with_a_key_id_of_ten_megabytes_gives_a_short_error() {
    let world = World::with_scope("o_1").await;
    let blob = Blob::new(vec![0; 40], "x".repeat(10_000_000));
    let wrapper = world.wrapper(&scope("o_1")).await;
    for error in [
        wrapper.decrypt(&blob, b"").unwrap_err(),
        world
            .kms
            .decrypt(&scope("o_1"), &OIDC, &blob, b"")
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
        assert!(error.to_string().len() < 1000);
        assert!(format!("{error:?}").len() < 2000);
    }
}

#[tokio::test]
async fn a_receipt_is_not_to_be_had_for_what_the_database_did_not_number() {
    let world = World::with_scope("o_1").await;
    let prepared = world
        .kms
        .prepare_rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap();
    let change = prepared.change_set();
    let numbers = |id: &str| {
        let root = change.insert.root_key_versions.iter();
        let data = change.insert.data_key_versions.iter();
        root.map(|new| (new.id.as_str(), new.version))
            .chain(data.map(|new| (new.id.as_str(), new.version)))
            .find(|(known, _)| *known == id)
            .map(|(_, number)| number)
    };
    let receipt = change.applied(numbers).unwrap();
    assert_eq!(receipt.scope(), &scope("o_1"));
    for assigned in [None, Some(1), Some(7)] {
        let error = change.applied(|_| assigned).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
}

#[tokio::test]
async fn a_scope_with_thousands_of_versions_lets_other_tasks_run_while_it_is_rewrapped() {
    let world = World::new().await;
    // A mode in which copies of a key are keys like others.
    let kms = world
        .builder()
        .binding(Binding::GoCompatible)
        .build()
        .await
        .unwrap();
    let id = scope("o_1");
    kms.create_keys(&id, &[OIDC]).await.unwrap();
    world.repository.tamper(|scopes| {
        let versions = &mut scopes[0].data_keys[0].versions;
        let first = versions[0].clone();
        versions.extend((2..=3000).map(|number| {
            let mut version = first.clone();
            version.id = DataKeyVersionId::generate();
            version.version = number;
            version
        }));
    });
    let ticks = Arc::new(AtomicU64::new(0));
    let ticking = tokio::spawn({
        let ticks = Arc::clone(&ticks);
        async move {
            loop {
                ticks.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let prepared = kms.prepare_rewrap_keys(&id, RewrapKeys::All).await.unwrap();
    let change = prepared.unwrap().into_change_set();
    assert_eq!(change.update.data_key_versions.len(), 3000);
    let ticks = ticks.load(Ordering::Relaxed);
    assert!(ticks >= 20, "others ran {ticks} times");
    ticking.abort();
}
