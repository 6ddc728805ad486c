//! What a cached scope takes of memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kms_bench::database::Database;
use kms_bench::world::{PURPOSES, builder, builder_on, create_together, local_root};
use kms_kit::core::{Aead, Repository};
use kms_kit::{CampaignOptions, Freshness, Kms, Rewrap, ScopeId};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Counts the bytes that are in use, as glibc's allocator hands them out: 8 more each, in steps of 16.
struct Counting;

fn taken(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(taken(size), Ordering::Relaxed);
        LIVE.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, size) }
    }
}

const SCOPES: usize = 2000;

/// Three purposes, each with two versions; and what each version encrypted.
async fn world(repository: &Arc<dyn Repository>, kms: &Kms) -> Vec<(ScopeId, Vec<Vec<u8>>)> {
    let mut scopes = Vec::new();
    for first in (0..SCOPES).step_by(100) {
        let created = create_together(kms, repository, first..=first + 99).await;
        scopes.extend(
            created
                .unwrap()
                .into_iter()
                .map(|scope| (scope, Vec::new())),
        );
    }
    for round in 0..2 {
        for (scope, blobs) in &mut scopes {
            for purpose in &PURPOSES {
                let wrapper = kms.wrapper(scope, purpose).await.unwrap();
                blobs.push(wrapper.encrypt_to_vec(b"secret", b"").unwrap());
            }
        }
        if round == 0 {
            let options = CampaignOptions::new("second-version").batch_size(200);
            let outcome = kms.rotate_all(&options, Rewrap::Yes, |_| {}).await.unwrap();
            let outcome = outcome.report().unwrap();
            assert_eq!(outcome.done, SCOPES as u64);
        }
    }
    scopes
}

/// Bytes for each scope that an engine caches, when all of its purposes were used for both versions. From a
/// database: what a repository in memory hands out shares its texts with the rows that it keeps.
async fn bytes_per_scope(aead: Arc<dyn Aead>) -> usize {
    let database = Database::sqlite().unwrap();
    let repository = database.repository().unwrap();
    let root = local_root("root").unwrap();
    let maker = builder(Arc::clone(&repository), &root).cache_capacity(SCOPES * 2);
    let maker = maker.build().await.unwrap();
    let scopes = world(&repository, &maker).await;
    drop(maker);
    let kms = builder_on(aead, repository, &root)
        .cache_capacity(SCOPES * 2)
        .freshness(Freshness::Within(Duration::from_secs(3600)))
        .build()
        .await
        .unwrap();
    // What an engine has once.
    use_all(&kms, &scopes[0]).await;
    let before = LIVE.load(Ordering::SeqCst);
    for scope in &scopes[1..] {
        use_all(&kms, scope).await;
    }
    let taken = LIVE.load(Ordering::SeqCst) - before;
    taken / (SCOPES - 1)
}

/// Decrypts with each version of each purpose, and encrypts with the newest. The second time the thread's own copy
/// of the cache has the scope, too.
async fn use_all(kms: &Kms, (scope, blobs): &(ScopeId, Vec<Vec<u8>>)) {
    for _ in 0..2 {
        for (blob, purpose) in blobs.iter().zip(PURPOSES.iter().cycle()) {
            let wrapper = kms.wrapper(scope, purpose).await.unwrap();
            assert_eq!(
                wrapper.decrypt_encoded(blob, b"").unwrap().expose(),
                b"secret"
            );
            wrapper.encrypt_to_vec(b"secret", b"").unwrap();
        }
    }
}

#[tokio::test]
async fn a_cached_scope_takes_less_than_4_kib_whatever_the_primitive() {
    for aead in [
        Arc::new(kms_kit::aead::Ring) as Arc<dyn Aead>,
        Arc::new(kms_kit::aead::AesGcm),
    ] {
        let name = aead.name();
        let bytes = bytes_per_scope(aead).await;
        println!("{name}: {bytes} bytes for each cached scope of 3 purposes and 2 versions");
        assert!(bytes < 4096, "{name}: {bytes}");
    }
}
