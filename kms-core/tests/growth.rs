//! Scopes with thousands of versions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kms_core::{Binding, DataKeyVersionId, RewrapKeys};
use support::{OIDC, World, scope};

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
