//! A tenant comes under a root of its own, stays there whatever is done to its keys, and goes back on purpose only.

use std::sync::Arc;

use async_trait::async_trait;
use kms_core::{
    Binding, Blob, CampaignOptions, Claim, ErrorKind, Ownership, Result, Rewrap, RewrapKeys,
    Scopes, SecretBytes, Wrapper,
};

use crate::customers::{Customer, Engine, is_unchanged, name, one_of_two};
use crate::support::{DATABASE, OIDC, World, root, scope};

#[tokio::test]
async fn an_assigned_tenant_opens_with_its_own_root_and_with_no_other() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    let customer = Customer::new("customer-1");
    let engine = Engine::new(&world, &[&customer]).await;
    let before = engine.encrypt(&id).await.unwrap();
    engine.kms.assign_root(&id, &customer.name).await.unwrap();
    assert_eq!(
        engine.kms.root_of(&id).await.unwrap(),
        Some(customer.name.clone())
    );
    let after = engine.encrypt(&id).await.unwrap();
    let another = Engine::new(&world, &[&customer]).await;
    assert!(another.opens(&id, &before).await && another.opens(&id, &after).await);
    assert_eq!(another.own_calls(), 0);

    // The fleet's root alone opens nothing, nor does another one of that name.
    let error = world
        .another_process()
        .await
        .wrapper(&id, &OIDC)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRootResolver);
    assert_eq!(error.context("root"), Some("customer-1"));
    assert_eq!(error.context("scope"), Some("o_1"));
    let stranger = Engine::new(&world, &[]).await;
    stranger.customers.set(&customer.name, root("stranger"));
    let error = stranger.encrypt(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
    assert_eq!(error.context("root"), Some("customer-1"));
    assert_eq!(stranger.own_calls(), 0);
}

#[tokio::test]
async fn whatever_is_done_to_a_tenant_uses_its_own_root_alone() {
    let (world, customer, engine) = one_of_two().await;
    let id = scope("o_1");
    let kms = &engine.kms;
    let more = kms_core::Purpose::from_static("more");
    let with_more = Engine::with(&world, &[&customer], |builder| {
        builder.purposes([DATABASE, OIDC, more.clone()])
    })
    .await;
    kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    kms.rotate_keys(&id, Rewrap::Yes).await.unwrap();
    kms.rewrap_keys(&id, RewrapKeys::All).await.unwrap();
    kms.rewrap_keys(&id, RewrapKeys::ForeignRoot).await.unwrap();
    let only = [id.clone()];
    let more = [more];
    let reconciled = with_more.kms.reconcile_keys(Scopes::Only(&only), &more);
    assert_eq!(reconciled.await.unwrap().created.len(), 1);
    engine.encrypt(&id).await.unwrap();
    let root_key = kms.root_key_wrapper(&id).await.unwrap();
    root_key.encrypt(b"", b"").await.unwrap();
    assert_eq!((engine.own_calls(), with_more.own_calls()), (0, 0));
    assert!(customer.calls() > 0);
    assert_eq!(world.repository_rows(&id).await.root, Some(customer.name));
}

/// Whoever can write to the database could take the assignment away.
#[tokio::test]
async fn a_tenant_whose_assignment_was_deleted_gets_no_new_keys_under_the_fleet_s_root() {
    let (world, _customer, engine) = one_of_two().await;
    let id = scope("o_1");
    world.repository.tamper(|scopes| {
        for rows in scopes.iter_mut().filter(|rows| rows.scope == id) {
            rows.root = None;
        }
    });
    let rows = world.repository_rows(&id).await;
    for rewrap in [Rewrap::No, Rewrap::Yes] {
        let error = engine.kms.rotate_keys(&id, rewrap).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ForeignRootKey, "{rewrap:?}");
    }
    let options = CampaignOptions::new("fleet");
    let outcome = engine.kms.rotate_all(&options, Rewrap::No, |_| {}).await;
    let outcome = outcome.unwrap();
    let report = outcome.report().unwrap();
    assert_eq!((report.done, report.failures.len()), (1, 1));
    assert_eq!(report.failures[0].kind, "ForeignRootKey");
    assert!(is_unchanged(&world, &rows).await);
}

/// The customer's root has blobs that look like the fleet's: of two Vaults with one prefix, say.
#[tokio::test]
async fn a_deleted_assignment_is_noticed_also_where_ids_can_not_tell_whose_the_keys_are() {
    let world = World::with_scope("o_2").await;
    let customer = Customer::new("customer-1");
    let engine = Engine::new(&world, &[]).await;
    engine.customers.set(&customer.name, root("root"));
    let id = scope("o_1");
    engine
        .kms
        .create_keys_under(&customer.name, &id, &[OIDC])
        .await
        .unwrap();
    world.repository.tamper(|scopes| {
        for rows in scopes.iter_mut().filter(|rows| rows.scope == id) {
            rows.root = None;
        }
    });
    let rows = world.repository_rows(&id).await;
    for rewrap in [Rewrap::No, Rewrap::Yes] {
        let error = engine.kms.rotate_keys(&id, rewrap).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TamperedKey, "{rewrap:?}");
    }
    let options = CampaignOptions::new("fleet");
    let outcome = engine.kms.rotate_all(&options, Rewrap::No, |_| {}).await;
    let outcome = outcome.unwrap();
    let report = outcome.report().unwrap();
    assert_eq!((report.done, report.failures.len()), (1, 1));
    assert_eq!(report.failures[0].kind, "TamperedKey");
    assert!(is_unchanged(&world, &rows).await);
}

#[tokio::test]
async fn keys_created_under_a_named_root_are_wrapped_by_no_other() {
    let world = World::new().await;
    let customer = Customer::new("customer-1");
    let engine = Engine::new(&world, &[&customer]).await;
    let id = scope("o_1");
    engine
        .kms
        .create_keys_under(&customer.name, &id, &[OIDC])
        .await
        .unwrap();
    let blob = engine.encrypt(&id).await.unwrap();
    assert!(
        Engine::new(&world, &[&customer])
            .await
            .opens(&id, &blob)
            .await
    );
    assert_eq!(engine.own_calls(), 0);
    let again = engine
        .kms
        .create_keys_under(&customer.name, &id, &[OIDC])
        .await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn rotating_and_rewrapping_the_fleet_leaves_a_tenant_under_its_own_root() {
    let (world, customer, engine) = one_of_two().await;
    let id = scope("o_1");
    let rows = world.repository_rows(&id).await;
    // A process that can't reach the customer's root: it fails for that tenant, and does the others.
    let without = world.another_process().await;
    let options = CampaignOptions::new("without");
    for rewrap in [Rewrap::No, Rewrap::Yes] {
        let options = CampaignOptions::new(format!("without-{rewrap:?}"));
        let outcome = without.rotate_all(&options, rewrap, |_| {}).await.unwrap();
        let report = outcome.report().unwrap();
        assert_eq!(report.done, 1);
        assert_eq!(report.failures.len(), 1);
        assert_eq!(report.failures[0].kind, "NoRootResolver");
        assert!(report.failures[0].message.contains("customer-1"));
    }
    for which in [RewrapKeys::All, RewrapKeys::ForeignRoot] {
        let outcome = without.rewrap_all(&options, which, |_| {}).await;
        let _ = outcome;
    }
    assert!(is_unchanged(&world, &rows).await);

    let options = CampaignOptions::new("with");
    let outcome = engine.kms.rotate_all(&options, Rewrap::Yes, |_| {}).await;
    assert_eq!(outcome.unwrap().report().unwrap().done, 2);
    let options = CampaignOptions::new("foreign");
    let outcome = engine
        .kms
        .rewrap_all(&options, RewrapKeys::ForeignRoot, |_| {});
    let outcome = outcome.await.unwrap();
    assert_eq!(
        outcome.report().unwrap().unchanged,
        2,
        "each is under its own root"
    );
    let rows = world.repository_rows(&id).await;
    assert_eq!(rows.root, Some(customer.name));
    for version in &rows.root_key_versions {
        assert_eq!(Blob::decode(&version.key).unwrap().key_id(), "customer-1");
    }
}

#[tokio::test]
async fn a_tenant_goes_back_under_the_common_root_when_that_is_asked_for() {
    let (world, customer, engine) = one_of_two().await;
    let id = scope("o_1");
    let blob = engine.encrypt(&id).await.unwrap();
    customer.fails(ErrorKind::RootKeyDisabled);
    let rows = world.repository_rows(&id).await;
    let error = engine.kms.unassign_root(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RootKeyDisabled);
    assert!(is_unchanged(&world, &rows).await);

    customer.works_again();
    engine.kms.unassign_root(&id).await.unwrap();
    assert_eq!(engine.kms.root_of(&id).await.unwrap(), None);
    let another = world.another_process().await;
    another.decrypt(&id, &OIDC, &blob, b"").await.unwrap();
    assert!(
        engine
            .kms
            .prepare_unassign_root(&id)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_process_that_has_the_tenant_cached_opens_it_anew_with_the_root_it_was_given() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    let (one, two) = (Customer::new("one"), Customer::new("two"));
    let engine = Engine::new(&world, &[&one, &two]).await;
    let elsewhere = Engine::new(&world, &[&one, &two]).await;
    let blob = engine.encrypt(&id).await.unwrap();
    for customer in [&one, &two] {
        elsewhere
            .kms
            .assign_root(&id, &customer.name)
            .await
            .unwrap();
        let _ = customer.calls();
        engine.clock.advance(std::time::Duration::from_secs(2));
        assert!(engine.opens(&id, &blob).await);
        assert_eq!(customer.calls(), 1);
    }
}

/// Encrypts, and has no right to decrypt.
#[derive(Debug)]
struct EncryptsOnly(Arc<dyn Wrapper>);

#[async_trait]
impl Wrapper for EncryptsOnly {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn key_id(&self) -> Option<String> {
        self.0.key_id()
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        self.0.owns(blob)
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.0.is_current(blob)
    }

    fn claims(&self) -> Vec<Claim> {
        self.0.claims()
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.0.encrypt(plaintext, aad).await
    }

    async fn decrypt(&self, _: &Blob, _: &[u8]) -> Result<SecretBytes> {
        Err(ErrorKind::Denied.into())
    }
}

#[tokio::test]
async fn a_root_that_would_not_open_what_it_wraps_is_not_assigned() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    let engine = Engine::new(&world, &[]).await;
    let half = name("half");
    engine
        .customers
        .set(&half, Arc::new(EncryptsOnly(root("half"))));
    let rows = world.repository_rows(&id).await;
    let error = engine.kms.assign_root(&id, &half).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.context("root"), Some("half"));
    assert_eq!(error.operation(), Some("assign_root"));
    assert!(is_unchanged(&world, &rows).await);
    let preflight = engine.kms.preflight_root(&half).await.unwrap_err();
    assert_eq!(
        (preflight.kind(), preflight.context("root")),
        (ErrorKind::Denied, Some("half"))
    );
    engine.customers.set(&name("whole"), root("whole"));
    engine.kms.preflight_root(&name("whole")).await.unwrap();
}

#[tokio::test]
async fn an_assignment_that_another_change_overtook_is_prepared_again() {
    let (world, customer, engine) = one_of_two().await;
    let id = scope("o_2");
    let stale = engine.kms.prepare_assign_root(&id, &customer.name).await;
    let stale = stale.unwrap().unwrap().into_change_set();
    let rotation = engine
        .kms
        .prepare_rotate_keys(&id, Rewrap::No)
        .await
        .unwrap();
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let apply = async |change| {
        let mut outcomes = kms_core::Repository::apply(&world.repository, Arc::new([change])).await;
        outcomes.as_mut().unwrap().remove(0)
    };
    assert_eq!(apply(stale).await.unwrap_err().kind(), ErrorKind::Conflict);
    engine.kms.assign_root(&id, &customer.name).await.unwrap();
    let error = apply(rotation.into_change_set()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn an_engine_that_shares_its_database_with_go_has_no_named_roots_and_says_why() {
    let (world, customer, _) = one_of_two().await;
    let go = || world.builder().binding(Binding::GoCompatible);
    let resolver = crate::customers::Customers::of(&[&customer]);
    let error = go().root_resolver(resolver as _).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(
        error
            .to_string()
            .contains("GoCompatible excludes named roots"),
        "{error}"
    );
    let kms = go().build().await.unwrap();
    for error in [
        kms.wrapper(&scope("o_1"), &OIDC).await.unwrap_err(),
        kms.assign_root(&scope("o_2"), &customer.name)
            .await
            .unwrap_err(),
        kms.rotate_keys(&scope("o_1"), Rewrap::No)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoRootResolver);
        assert!(
            error
                .to_string()
                .contains("GoCompatible excludes named roots"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_engine_that_only_decrypts_assigns_nothing() {
    let (_, customer, engine) = {
        let world = World::with_scope("o_1").await;
        let customer = Customer::new("customer-1");
        let engine = Engine::with(&world, &[&customer], kms_core::KmsBuilder::decrypt_only).await;
        (world, customer, engine)
    };
    let assigned = engine.kms.assign_root(&scope("o_1"), &customer.name).await;
    assert_eq!(assigned.unwrap_err().kind(), ErrorKind::DecryptOnly);
}

#[tokio::test]
async fn the_census_counts_by_root() {
    let (world, customer, engine) = one_of_two().await;
    engine
        .kms
        .rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap();
    let census = engine.kms.census().await.unwrap();
    let count = |root: Option<&Customer>| {
        let root = root.map(|customer| customer.name.clone());
        let counted = census.by_root[&root];
        (
            counted.scopes,
            counted.root_key_versions,
            counted.not_current,
            counted.unresolved,
        )
    };
    assert_eq!(count(None), (1, 1, 0, 0));
    assert_eq!(count(Some(&customer)), (1, 2, 0, 0));
    assert_eq!(census.not_current, 0);
    assert_eq!(
        engine.own_calls() + customer.calls(),
        2,
        "the rotation alone, whose root has ids that prove nothing"
    );

    // Where the root can't be had, nothing is surely current.
    let census = world.another_process().await.census().await.unwrap();
    let counted = census.by_root[&Some(customer.name)];
    assert_eq!(
        (counted.not_current, counted.unresolved, census.not_current),
        (2, 1, 2)
    );
}
