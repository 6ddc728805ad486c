//! What the cache promises: never older than said, never older over newer, and no call too many.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kms_core::{DataKeyVersionId, Error, ErrorKind, Freshness, Repository as _, Rewrap};
use kms_testkit::{Fault, Gate, RepositoryCalls, RepositoryMethod, When};
use support::instrumented::{Process, newest};
use support::{DATABASE, OIDC, World, scope};

const WINDOW: Duration = Duration::from_secs(1);

fn nothing() -> RepositoryCalls {
    RepositoryCalls::default()
}

#[tokio::test]
async fn defect_02_a_wrapper_costs_no_query_within_the_freshness_window() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    newest(&process, &id).await;
    assert_eq!(
        process.queries(),
        RepositoryCalls {
            load: 1,
            ..nothing()
        }
    );
    assert_eq!(process.root_calls(), (0, 1));
    for _ in 0..100 {
        newest(&process, &id).await;
        process.kms.wrapper(&id, &DATABASE).await.unwrap();
    }
    assert_eq!(process.queries(), nothing());
    assert_eq!(process.root_calls(), (0, 0));
}

#[tokio::test]
async fn one_small_query_per_window_confirms_all_scopes_of_the_process() {
    let world = World::new().await;
    let ids: Vec<_> = (0..20).map(|n| scope(&format!("o_{n}"))).collect();
    for id in &ids {
        world.kms.create_keys(id, &[OIDC]).await.unwrap();
    }
    let process = Process::new(&world).await;
    for id in &ids {
        newest(&process, id).await;
    }
    process.queries();
    for _ in 0..3 {
        process.clock.advance(WINDOW * 2);
        for id in &ids {
            newest(&process, id).await;
        }
        assert_eq!(
            process.queries(),
            RepositoryCalls {
                collection_version: 1,
                ..nothing()
            }
        );
    }
}

#[tokio::test]
async fn invariant_06_a_change_elsewhere_is_seen_when_the_window_is_over() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    process.clock.advance(WINDOW);
    assert_eq!(newest(&process, &id).await, before);
    process.clock.advance(Duration::from_millis(1));
    assert_ne!(newest(&process, &id).await, before);
}

#[tokio::test]
async fn invariant_06_always_fresh_sees_a_change_elsewhere_at_once() {
    let world = World::with_scope("o_1").await;
    let always = |builder: kms_core::KmsBuilder| builder.freshness(Freshness::Always);
    let process = Process::with(&world, always).await;
    let id = scope("o_1");
    for _ in 0..3 {
        let before = newest(&process, &id).await;
        world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
        assert_ne!(newest(&process, &id).await, before);
    }
}

#[tokio::test]
async fn always_fresh_joins_no_query_that_began_before_the_call() {
    let world = World::with_scope("o_1").await;
    let always = |builder: kms_core::KmsBuilder| builder.freshness(Freshness::Always);
    let process = Arc::new(Process::with(&world, always).await);
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::CollectionVersion,
        When::Next,
        Fault::PauseAfter(gate.clone()),
    );
    let slow = tokio::spawn({
        let (process, id) = (Arc::clone(&process), id.clone());
        async move { newest(&process, &id).await }
    });
    gate.reached().await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    assert_ne!(newest(&process, &id).await, before);
    gate.open();
    // It began before the rotation, and may answer either way, but without an error.
    slow.await.unwrap();
    assert_ne!(newest(&process, &id).await, before);
}

#[tokio::test]
async fn invariant_07_another_scopes_rotation_costs_no_call_to_the_root_wrapper() {
    let world = World::with_scope("o_1").await;
    let other = scope("o_2");
    world.kms.create_keys(&other, &[OIDC]).await.unwrap();
    let process = Process::new(&world).await;
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    process.queries();
    process.root_calls();
    for _ in 0..5 {
        world.kms.rotate_keys(&other, Rewrap::Yes).await.unwrap();
        process.clock.advance(WINDOW * 2);
        assert_eq!(newest(&process, &id).await, before);
        // The unchanged scope is confirmed, without a look at its rows.
        assert_eq!(
            process.queries(),
            RepositoryCalls {
                collection_version: 1,
                ..nothing()
            }
        );
    }
    assert_eq!(process.root_calls(), (0, 0));
}

#[tokio::test]
async fn defect_03_a_rotation_keeps_the_unchanged_keys_of_its_scope_too() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    newest(&process, &id).await;
    process.root_calls();
    process.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    assert_eq!(
        process.root_calls(),
        (1, 1),
        "one new root key version, and the newest seen to be the root's"
    );
    newest(&process, &id).await;
    assert_eq!(process.root_calls(), (0, 1), "only that one is unwrapped");
}

#[tokio::test]
async fn root_calls_of_every_operation_are_as_few_as_can_be() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    let kms = &process.kms;
    kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    assert_eq!(
        process.root_calls(),
        (1, 1),
        "the id of this root's keys doesn't prove whose they are"
    );
    newest(&process, &id).await;
    assert_eq!(
        process.root_calls(),
        (0, 2),
        "both root key versions wrap something"
    );
    kms.rotate_keys(&id, Rewrap::Yes).await.unwrap();
    assert_eq!(
        process.root_calls(),
        (3, 2),
        "the new one, and both older ones anew"
    );
    newest(&process, &id).await;
    assert_eq!(
        process.root_calls(),
        (0, 1),
        "only the newest wraps anything"
    );
    kms.rewrap_keys(&id, kms_core::RewrapKeys::All)
        .await
        .unwrap();
    assert_eq!(process.root_calls(), (3, 3));
    kms.list_keys(&id).await.unwrap();
    kms.census().await.unwrap();
    kms.reconcile_keys(kms_core::Scopes::All, &[OIDC])
        .await
        .unwrap();
    assert_eq!(process.root_calls(), (0, 0));
}

#[tokio::test]
async fn the_processes_own_changes_are_seen_at_once() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    process.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    assert_ne!(newest(&process, &id).await, before);
    process.kms.dangerous().delete_keys(&id).await.unwrap();
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
}

#[tokio::test]
async fn defect_04_a_loader_overtaken_by_a_rotation_does_not_put_the_old_keys_back() {
    let world = World::with_scope("o_1").await;
    let process = Arc::new(Process::new(&world).await);
    let id = scope("o_1");
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::Load,
        When::Next,
        Fault::PauseAfter(gate.clone()),
    );
    let slow = tokio::spawn({
        let (process, id) = (Arc::clone(&process), id.clone());
        async move { newest(&process, &id).await }
    });
    gate.reached().await;
    process.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let after = newest(&process, &id).await;
    gate.open();
    let stale = slow.await.unwrap();
    assert_ne!(stale, after, "the slow load did read the old rows");
    process.queries();
    assert_eq!(newest(&process, &id).await, after);
    assert_eq!(process.queries(), nothing(), "and it is still cached");
}

#[tokio::test]
async fn invariant_06_a_scope_deleted_and_created_anew_is_not_served_with_the_destroyed_keys() {
    let world = World::with_scope("o_1").await;
    let (here, elsewhere) = (Process::new(&world).await, Process::new(&world).await);
    let id = scope("o_1");
    let blob = here
        .kms
        .wrapper(&id, &OIDC)
        .await
        .unwrap()
        .encrypt(b"destroyed", b"")
        .unwrap();
    newest(&elsewhere, &id).await;
    here.kms.dangerous().delete_keys(&id).await.unwrap();
    here.kms.create_keys(&id, &[OIDC]).await.unwrap();
    elsewhere.clock.advance(WINDOW * 2);
    for process in [&here, &elsewhere] {
        let error = process
            .kms
            .decrypt(&id, &OIDC, &blob, b"")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
    }
    assert_eq!(newest(&here, &id).await, newest(&elsewhere, &id).await);
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_of_a_change_leaves_no_old_keys_behind() {
    let world = World::with_scope("o_1").await;
    let process = Arc::new(Process::new(&world).await);
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::Apply,
        When::Next,
        Fault::PauseAfter(gate.clone()),
    );
    let rotation = tokio::spawn({
        let (process, id) = (Arc::clone(&process), id.clone());
        async move { process.kms.rotate_keys(&id, Rewrap::No).await }
    });
    gate.reached().await;
    rotation.abort();
    assert!(rotation.await.unwrap_err().is_cancelled());
    gate.open();
    // The change goes on in a task of its own; it tells the cache when it ends.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while newest(&process, &id).await == before {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn invariant_06_keys_past_their_freshness_are_not_used_while_the_database_can_not_be_asked() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    newest(&process, &id).await;
    let down = || Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
    process
        .repository
        .inject(RepositoryMethod::CollectionVersion, When::Always, down());
    process
        .repository
        .inject(RepositoryMethod::Load, When::Always, down());
    newest(&process, &id).await; // still fresh
    process.clock.advance(WINDOW * 2);
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale);
    assert!(error.is_retryable());
    let source = std::error::Error::source(&error)
        .unwrap()
        .downcast_ref::<Error>()
        .unwrap();
    assert_eq!(source.kind(), ErrorKind::DatabaseUnreachable);
    let error = process
        .kms
        .wrapper(&scope("cold"), &OIDC)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
    process.repository.clear();
    process.clock.advance(WINDOW); // nobody asks before
    newest(&process, &id).await;
}

#[tokio::test]
async fn invariant_06_a_grace_period_serves_old_keys_but_never_what_is_known_to_be_overtaken() {
    let world = World::with_scope("o_1").await;
    let grace = Duration::from_secs(60);
    let process = Process::with(&world, |builder| builder.grace_period(grace)).await;
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    let down = || Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
    process
        .repository
        .inject(RepositoryMethod::CollectionVersion, When::Always, down());
    process
        .repository
        .inject(RepositoryMethod::Load, When::Always, down());
    process.clock.advance(WINDOW + grace);
    assert_eq!(newest(&process, &id).await, before);
    process.clock.advance(Duration::from_millis(1));
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale);

    process.repository.clear();
    process.clock.advance(WINDOW); // nobody asks before
    newest(&process, &id).await;
    let prepared = process
        .kms
        .prepare_rotate_keys(&id, Rewrap::No)
        .await
        .unwrap();
    let changes = Arc::from([prepared.into_change_set()]);
    let receipt = world.repository.apply(changes).await.unwrap().remove(0);
    process.kms.accept(&[receipt.unwrap()]);
    process
        .repository
        .inject(RepositoryMethod::Load, When::Always, down());
    assert!(process.kms.wrapper(&id, &OIDC).await.is_err());
}

#[tokio::test]
async fn a_failure_that_is_no_outage_is_not_covered_by_grace() {
    let world = World::with_scope("o_1").await;
    let process = Process::with(&world, |b| b.grace_period(Duration::from_secs(60))).await;
    let id = scope("o_1");
    newest(&process, &id).await;
    process.clock.advance(WINDOW * 2);
    process.repository.inject(
        RepositoryMethod::CollectionVersion,
        When::Next,
        Fault::FailBefore(Error::new(ErrorKind::SchemaVersion)),
    );
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaVersion);
}

#[tokio::test]
async fn a_restored_database_with_the_same_counter_is_noticed() {
    // Without an announcement: at the recheck, whatever the collection version says.
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    newest(&process, &id).await;
    let restored = |world: &World| {
        world.repository.tamper(|scopes| {
            let version = scopes[0].data_keys[1].versions[0].id.clone();
            assert!(version.as_str().starts_with("kdkv_"));
            scopes[0].data_keys[1].versions[0].id = DataKeyVersionId::generate();
        });
    };
    let old = newest(&process, &id).await;
    restored(&world);
    process.clock.advance(WINDOW * 2);
    assert_eq!(newest(&process, &id).await, old, "the counter did not move");
    process.clock.advance(Duration::from_secs(300));
    assert!(
        process.kms.wrapper(&id, &OIDC).await.is_err(),
        "the row is not what it was"
    );

    // With an announcement by any process: at the next question.
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    newest(&process, &id).await;
    restored(&world);
    world.kms.announce_restore().await.unwrap();
    process.clock.advance(WINDOW * 2);
    assert!(process.kms.wrapper(&id, &OIDC).await.is_err());
}

#[tokio::test]
async fn the_process_that_announces_a_restore_uses_nothing_it_read_before() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    newest(&process, &id).await;
    world
        .repository
        .tamper(|scopes| scopes[0].data_keys[1].versions[0].id = DataKeyVersionId::generate());
    let _ = process.queries();
    process.kms.announce_restore().await.unwrap();
    // No time passed.
    assert!(process.kms.wrapper(&id, &OIDC).await.is_err());
    assert_eq!(
        process.queries(),
        RepositoryCalls {
            scramble_collection_version: 1,
            load: 1,
            ..nothing()
        }
    );
}

#[tokio::test]
async fn intervals_without_end_mean_never() {
    let world = World::with_scope("o_1").await;
    let process = Process::with(&world, |builder| {
        builder
            .recheck_interval(Duration::MAX)
            .grace_period(Duration::MAX)
            .freshness(Freshness::Within(Duration::MAX))
    })
    .await;
    let id = scope("o_1");
    process.clock.advance(WINDOW);
    let before = newest(&process, &id).await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    process.clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(newest(&process, &id).await, before);

    let process = Process::with(&world, |builder| builder.grace_period(Duration::MAX)).await;
    let before = newest(&process, &id).await;
    let down = Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
    process
        .repository
        .inject(RepositoryMethod::CollectionVersion, When::Always, down);
    process.clock.advance(WINDOW * 2);
    assert_eq!(newest(&process, &id).await, before);
}

#[tokio::test]
async fn defect_02_rows_read_in_a_transaction_are_opened_from_the_cache_and_do_not_go_into_it() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let rows = world.repository_rows(&id).await;
    process.root_calls();
    let ring = process.kms.open(&rows).await;
    assert_eq!(
        process.root_calls(),
        (0, 1),
        "only the new root key version"
    );
    assert_ne!(
        ring.wrapper(&OIDC).unwrap().key_version_id().as_str(),
        before
    );
    assert_eq!(newest(&process, &id).await, before);
}

#[tokio::test]
async fn a_cache_smaller_than_the_scopes_in_use_still_serves_them_all() {
    let world = World::new().await;
    let ids: Vec<_> = (0..30).map(|n| scope(&format!("o_{n}"))).collect();
    for id in &ids {
        world.kms.create_keys(id, &[OIDC]).await.unwrap();
    }
    let process = Process::with(&world, |builder| builder.cache_capacity(3)).await;
    for _ in 0..2 {
        for id in &ids {
            newest(&process, id).await;
        }
    }
    let loads = process.queries().load;
    assert!((30..=60).contains(&loads), "{loads}");
}
