//! A campaign over a fleet in which a customer's root is dead.

use kms_core::{CampaignOptions, ErrorKind, Rewrap};

use crate::customers::{Customer, Engine};
use crate::support::{OIDC, World, scope};

#[tokio::test]
async fn a_dead_root_of_a_customer_with_many_tenants_suspends_nothing_and_is_asked_a_few_dozen_times()
 {
    let world = World::new().await;
    let dead = Customer::new("dead");
    let well = Customer::new("well");
    let engine = Engine::new(&world, &[&dead, &well]).await;
    for n in 0..200 {
        let (fleet, of_dead, of_well) = (
            scope(&format!("a_{n:03}")),
            scope(&format!("b_{n:03}")),
            scope(&format!("c_{n:03}")),
        );
        engine.kms.create_keys(&fleet, &[OIDC]).await.unwrap();
        for (customer, id) in [(&dead, &of_dead), (&well, &of_well)] {
            engine
                .kms
                .create_keys_under(&customer.name, id, &[OIDC])
                .await
                .unwrap();
        }
    }
    let before = world.repository_rows(&scope("b_000")).await;
    let _ = dead.asked();
    for kind in [ErrorKind::RootKeyDisabled, ErrorKind::Unreachable] {
        dead.works_again();
        dead.fails(kind);
        let options = CampaignOptions::new(kind.name());
        let outcome = engine.kms.rotate_all(&options, Rewrap::No, |_| {}).await;
        let report = outcome.unwrap().report().unwrap().clone();
        assert_eq!((report.done, report.failures.len()), (400, 200));
        for failure in &report.failures {
            assert_eq!(failure.kind, kind.name());
            assert!(failure.scope.as_str().starts_with("b_"));
            assert!(
                failure.message.contains("root \"dead\""),
                "{}",
                failure.message
            );
        }
        assert!(
            world
                .repository_rows(&before.scope)
                .await
                .same_keys(&before)
        );
    }
    // Each call of a dead root is one that a fault answers; none came through.
    let asked = dead.asked();
    assert!((2..=2 * 4 * 24).contains(&asked), "{asked} calls");

    dead.works_again();
    let options = CampaignOptions::new(ErrorKind::Unreachable.name());
    let outcome = engine.kms.rotate_all(&options, Rewrap::No, |_| {}).await;
    let report = outcome.unwrap().report().unwrap().clone();
    assert_eq!((report.done, report.failures.len()), (600, 0));
}

#[tokio::test]
async fn the_common_root_still_suspends_a_campaign_when_it_is_dead_itself() {
    let world = World::new().await;
    let well = Customer::new("well");
    let own = Customer::new("own");
    let engine = Engine::with(&world, &[&well], |builder| {
        builder
            .root_wrapper(own.root.clone() as _)
            .root_may_be_new()
    })
    .await;
    for n in 0..100 {
        // Those of a customer whose root works are between them.
        let id = scope(&format!("o_{n:03}"));
        if n % 2 == 0 {
            engine.kms.create_keys(&id, &[OIDC]).await.unwrap();
        } else {
            engine
                .kms
                .create_keys_under(&well.name, &id, &[OIDC])
                .await
                .unwrap();
        }
    }
    own.fails(ErrorKind::Unreachable);
    let options = CampaignOptions::new("c");
    let outcome = engine.kms.rotate_all(&options, Rewrap::No, |_| {}).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::CampaignSuspended);
}
