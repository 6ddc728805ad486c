//! Names become wrappers: on demand, once for all who wait, in bounded number, and not for longer than they are needed.

use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use kms_core::{ErrorKind, NamedRootLimits, ResolverError, RootName, RootResolver, Wrapper};

use crate::customers::{Customer, Engine, name, one_of_two};
use crate::support::{OIDC, World, root, scope};

#[tokio::test]
async fn a_root_is_resolved_on_demand_and_once_for_all_who_wait() {
    let world = World::new().await;
    let customer = Customer::new("customer-1");
    let engine = Engine::new(&world, &[&customer]).await;
    let ids: Vec<_> = (0..20).map(|n| scope(&format!("o_{n}"))).collect();
    for id in &ids {
        engine
            .kms
            .create_keys_under(&customer.name, id, &[OIDC])
            .await
            .unwrap();
    }
    let another = Engine::new(&world, &[&customer]).await;
    assert_eq!(another.customers.asked(), 0);
    for result in join_all(ids.iter().map(|id| another.encrypt(id))).await {
        result.unwrap();
    }
    assert_eq!(another.customers.asked(), 1);
}

#[tokio::test]
async fn a_name_that_nobody_knows_and_a_resolver_that_fails_are_errors_of_their_own() {
    let (_world, customer, engine) = one_of_two().await;
    let unknown = name("nobody");
    let error = engine
        .kms
        .assign_root(&scope("o_2"), &unknown)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownRootName);
    assert_eq!(error.context("root"), Some("nobody"));

    let another = Engine::new(&_world, &[&customer]).await;
    another.customers.down.store(true, Ordering::SeqCst);
    let error = another.encrypt(&scope("o_1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RootNotResolved);
    assert!(error.is_retryable());
    let source = error.source().unwrap().to_string();
    assert_eq!(source, "the application's table can't be read");
    another.encrypt(&scope("o_2")).await.unwrap();
    // What failed is not kept.
    another.customers.down.store(false, Ordering::SeqCst);
    another.clock.advance(Duration::from_secs(2));
    another.encrypt(&scope("o_1")).await.unwrap();
}

/// Panics, or never comes back.
#[derive(Debug)]
struct Broken {
    panics: bool,
}

#[async_trait]
impl RootResolver for Broken {
    async fn resolve(&self, _: &RootName) -> Result<Option<Arc<dyn Wrapper>>, ResolverError> {
        assert!(!self.panics, "the application's resolver has a bug");
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_resolver_that_panics_or_hangs_fails_one_root_and_in_time() {
    let (world, ..) = one_of_two().await;
    for (panics, expected) in [
        (true, ErrorKind::Internal),
        (false, ErrorKind::RootNotResolved),
    ] {
        let limits = NamedRootLimits::default().with_deadline(Duration::from_millis(50));
        let kms = world
            .builder()
            .root_resolver(Arc::new(Broken { panics }))
            .named_root_limits(limits)
            .build()
            .await
            .unwrap();
        let error = kms.wrapper(&scope("o_1"), &OIDC).await.unwrap_err();
        assert_eq!(error.kind(), expected);
        kms.wrapper(&scope("o_2"), &OIDC).await.unwrap();
    }
}

#[tokio::test]
async fn no_more_wrappers_are_kept_than_the_capacity_allows() {
    const CAPACITY: usize = 10;
    let world = World::new().await;
    let engine = Engine::with(&world, &[], |builder| {
        builder.named_root_limits(NamedRootLimits::default().with_capacity(CAPACITY))
    })
    .await;
    let mut made: Vec<Weak<dyn Wrapper>> = Vec::new();
    for n in 0..50 {
        let name = name(&format!("customer-{n}"));
        let root = root(name.as_str());
        made.push(Arc::downgrade(&root));
        engine.customers.set(&name, root);
        let id = scope(&format!("o_{n}"));
        engine
            .kms
            .create_keys_under(&name, &id, &[OIDC])
            .await
            .unwrap();
        // The application does not keep it either.
        engine.customers.roots.lock().unwrap().remove(&name);
        let kept = made.iter().filter(|root| root.strong_count() > 0).count();
        assert!(kept <= CAPACITY, "{kept} after {n}");
    }
    let kept = made.iter().filter(|root| root.strong_count() > 0).count();
    assert!(kept > 0);
}

#[tokio::test]
async fn a_wrapper_is_dropped_when_its_time_is_over_and_a_changed_url_is_seen_then() {
    let world = World::new().await;
    let engine = Engine::with(&world, &[], |builder| {
        builder.named_root_limits(NamedRootLimits::default().with_keep(Duration::from_millis(20)))
    })
    .await;
    let customer = name("customer-1");
    let first = root("old-address");
    let dropped = Arc::downgrade(&first);
    engine.customers.set(&customer, first);
    engine
        .kms
        .create_keys_under(&customer, &scope("o_1"), &[OIDC])
        .await
        .unwrap();
    let new = Customer::new("new-address");
    engine.customers.set(&customer, Arc::clone(&new.root) as _);
    let begin = Instant::now();
    while dropped.strong_count() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is kept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    engine
        .kms
        .create_keys_under(&customer, &scope("o_2"), &[OIDC])
        .await
        .unwrap();
    assert_eq!(new.calls(), 1);
}

#[tokio::test]
async fn limits_of_nothing_are_refused_at_the_build() {
    let limits = NamedRootLimits::default();
    for wrong in [
        limits.with_capacity(0),
        limits.with_concurrency(0),
        limits.with_keep(Duration::ZERO),
        limits.with_recheck(Duration::ZERO),
        limits.with_deadline(Duration::ZERO),
    ] {
        let world = World::new().await;
        let built = world.builder().named_root_limits(wrong).build().await;
        assert_eq!(built.unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    }
}
