//! A customer's root is disabled, away, slow: that tenant notices within the stated time, and no other one ever.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kms_core::{ErrorKind, NamedRootLimits, Repository};
use kms_testkit::{Fault, Gate, InstrumentedRepository, RepositoryMethod, When, WrapperMethod};

use crate::customers::{Customer, Engine, RECHECK, one_of_two};
use crate::support::{DATABASE, OIDC, World, scope};

const WINDOW: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_customer_who_disables_the_key_is_obeyed_within_the_recheck_time_and_nobody_else_notices()
{
    let (_world, customer, engine) = one_of_two().await;
    let (id, other) = (scope("o_1"), scope("o_2"));
    let blob = engine.encrypt(&id).await.unwrap();
    engine.encrypt(&other).await.unwrap();
    let _ = (engine.own_calls(), customer.calls());
    for kind in [
        ErrorKind::RootKeyDisabled,
        ErrorKind::Denied,
        ErrorKind::Unreachable,
    ] {
        customer.fails(kind);
        engine.clock.advance(RECHECK - Duration::from_millis(1));
        assert!(engine.opens(&id, &blob).await, "the time is not over");
        engine.clock.advance(Duration::from_millis(1));
        for _ in 0..3 {
            let error = engine.encrypt(&id).await.unwrap_err();
            assert_eq!(error.kind(), kind);
            assert_eq!(error.named_root(), Some("customer-1"));
            assert_eq!(error.context("scope"), Some("o_1"));
            assert!(!engine.opens(&id, &blob).await);
            engine.encrypt(&other).await.unwrap();
            engine.clock.advance(WINDOW);
        }
        customer.works_again();
        // The pause between two tries is over by then.
        engine.clock.advance(Duration::from_secs(300));
        let _ = engine.encrypt(&id).await;
        assert!(engine.opens(&id, &blob).await);
    }
    assert_eq!(engine.own_calls(), 0, "the other tenant's keys were cached");
}

#[tokio::test]
async fn a_tenant_in_use_costs_its_root_one_call_in_each_recheck_time() {
    let (_world, customer, engine) = one_of_two().await;
    let (id, other) = (scope("o_1"), scope("o_2"));
    engine.encrypt(&other).await.unwrap();
    let _ = engine.own_calls();
    let steps = 10 * RECHECK.as_secs();
    for _ in 0..steps {
        engine.encrypt(&id).await.unwrap();
        engine.encrypt(&other).await.unwrap();
        engine.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(customer.calls(), 10);
    assert_eq!(engine.own_calls(), 0);
}

#[tokio::test]
async fn changes_of_other_tenants_do_not_put_off_the_recheck() {
    let (world, customer, engine) = one_of_two().await;
    let (id, other) = (scope("o_1"), scope("o_2"));
    engine.encrypt(&id).await.unwrap();
    customer.fails(ErrorKind::RootKeyDisabled);
    for _ in 0..(RECHECK.as_secs() / WINDOW.as_secs()) {
        // The tenant's own rows are read again too: its keys are kept, their time is not prolonged.
        world
            .kms
            .rotate_keys(&other, kms_core::Rewrap::No)
            .await
            .unwrap();
        world
            .repository
            .scramble_collection_version()
            .await
            .unwrap();
        engine.encrypt(&id).await.unwrap();
        engine.clock.advance(WINDOW);
    }
    let error = engine.encrypt(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RootKeyDisabled);
}

#[tokio::test]
async fn no_grace_period_serves_keys_that_their_root_has_not_opened_in_time() {
    let (world, customer, _) = one_of_two().await;
    let database = Arc::new(InstrumentedRepository::new(Arc::new(
        world.repository.clone(),
    )));
    let clock = Arc::new(kms_testkit::ManualClock::new());
    let kms = crate::support::on(Arc::clone(&database) as _)
        .root_wrapper(Arc::clone(&world.root))
        .root_resolver(crate::customers::Customers::of(&[&customer]) as _)
        .named_root_limits(NamedRootLimits::default().with_recheck(RECHECK))
        .grace_period(Duration::from_secs(3600))
        .clock(Arc::clone(&clock) as _)
        .build()
        .await
        .unwrap();
    let (id, other) = (scope("o_1"), scope("o_2"));
    for scope in [&id, &other] {
        kms.wrapper(scope, &OIDC).await.unwrap();
    }
    for method in [RepositoryMethod::CollectionVersion, RepositoryMethod::Load] {
        let away = Fault::FailBefore(ErrorKind::DatabaseUnreachable.into());
        database.inject(method, When::Always, away);
    }
    clock.advance(WINDOW);
    kms.wrapper(&id, &OIDC).await.unwrap();
    clock.advance(RECHECK);
    kms.wrapper(&other, &OIDC).await.unwrap();
    let error = kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale);
    // Nor are they kept for what a caller read itself.
    customer.fails(ErrorKind::RootKeyDisabled);
    let ring = kms.open(&world.repository_rows(&id).await).await;
    assert!(ring.wrapper(&OIDC).is_err());
}

#[tokio::test]
async fn a_root_that_hangs_fails_its_own_tenants_by_its_deadline_and_slows_no_other() {
    const DEADLINE: Duration = Duration::from_millis(200);
    let world = World::new().await;
    let customer = Customer::new("slow");
    let engine = Engine::with(&world, &[&customer], |builder| {
        let limits = NamedRootLimits::default();
        builder.named_root_limits(limits.with_concurrency(2).with_deadline(DEADLINE))
    })
    .await;
    let slow: Vec<_> = (0..20).map(|n| scope(&format!("slow_{n:02}"))).collect();
    for id in &slow {
        engine
            .kms
            .create_keys_under(&customer.name, id, &[OIDC])
            .await
            .unwrap();
    }
    let other = scope("o_1");
    engine
        .kms
        .create_keys(&other, &[DATABASE, OIDC])
        .await
        .unwrap();
    let gate = Gate::new();
    let hang = Fault::PauseBefore(gate.clone());
    customer
        .root
        .inject(WrapperMethod::Decrypt, When::Always, hang);

    let loads = slow.iter().map(|id| engine.encrypt(id));
    let loads = join_all(loads);
    let meanwhile = async {
        gate.reached().await;
        engine.encrypt(&other).await.unwrap();
        engine
            .kms
            .rotate_keys(&other, kms_core::Rewrap::Yes)
            .await
            .unwrap();
        // As many as may call it are on their way, and no more.
        gate.arrivals()
    };
    let (results, arrivals) = tokio::join!(loads, meanwhile);
    assert!(arrivals <= 2, "{arrivals} calls at once");
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.context("root"), Some("slow"));
    }
}
