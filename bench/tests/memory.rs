//! What a cached scope takes of memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kms_bench::world::{PURPOSES, builder, builder_on, create_together, local_root};
use kms_kit::core::{Aead, MemoryRepository, Repository};
use kms_kit::{Kms, Rewrap, ScopeId};

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

/// Three purposes, each with two versions.
async fn world(repository: &Arc<dyn Repository>, kms: &Kms) -> Vec<ScopeId> {
    let mut scopes = Vec::new();
    for first in (0..SCOPES).step_by(100) {
        scopes.extend(
            create_together(kms, repository, first..=first + 99)
                .await
                .unwrap(),
        );
    }
    for scope in &scopes {
        kms.rotate_keys(scope, Rewrap::Yes).await.unwrap();
    }
    scopes
}

/// Bytes for each scope that an engine caches, when all of its purposes were used for both versions.
async fn bytes_per_scope(aead: Arc<dyn Aead>) -> usize {
    let repository: Arc<dyn Repository> = Arc::new(MemoryRepository::new());
    let root = local_root("root").unwrap();
    let maker = builder(Arc::clone(&repository), &root)
        .build()
        .await
        .unwrap();
    let scopes = world(&repository, &maker).await;
    drop(maker);
    let kms = builder_on(aead, repository, &root)
        .cache_capacity(SCOPES * 2)
        .build()
        .await
        .unwrap();
    // What an engine has once.
    kms.wrapper(&scopes[0], &PURPOSES[0]).await.unwrap();
    let before = LIVE.load(Ordering::SeqCst);
    for scope in &scopes[1..] {
        for purpose in &PURPOSES {
            kms.wrapper(scope, purpose).await.unwrap();
        }
    }
    let taken = LIVE.load(Ordering::SeqCst) - before;
    taken / (SCOPES - 1)
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
