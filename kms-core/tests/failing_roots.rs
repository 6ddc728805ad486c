//! What callers see when the root wrapper is away, moved, dead, panics or never returns.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kms_core::{
    Blob, Claim, Error, ErrorKind, Ownership, PooledWrapper, Result, Rewrap, RewrapKeys,
    SecretBytes, Wrapper,
};
use kms_testkit::{Fault, Gate, RepositoryCalls, When, WrapperMethod};
use support::instrumented::{Process, newest};
use support::{DATABASE, OIDC, World, root, scope};

const WINDOW: Duration = Duration::from_secs(1);

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
    assert_eq!(
        process.queries(),
        RepositoryCalls {
            collection_version: 1,
            load: 200,
            ..RepositoryCalls::default()
        }
    );
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

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.inner.is_current(blob)
    }

    fn claims(&self) -> Vec<Claim> {
        self.inner.claims()
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
        .root_checked_later()
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
