//! Looking up what the cache lacks: once for all who ask, and not for everybody who makes up an id.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kms_core::{DataKeyVersionId, ErrorKind, Rewrap, ScopeId};
use kms_testkit::{Fault, Gate, RepositoryCalls, RepositoryMethod, When};
use support::instrumented::{Process, newest};
use support::{DATABASE, OIDC, World, scope};

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_callers_share_one_load_of_a_scope() {
    let world = World::with_scope("o_1").await;
    let process = Arc::new(Process::new(&world).await);
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::Load,
        When::Next,
        Fault::PauseBefore(gate.clone()),
    );
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let process = Arc::clone(&process);
        tasks.spawn(async move { newest(&process, &scope("o_1")).await });
    }
    gate.reached().await;
    gate.open();
    let results = tasks.join_all().await;
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(
        process.queries(),
        RepositoryCalls {
            load: 1,
            ..RepositoryCalls::default()
        }
    );
    assert_eq!(process.root_calls(), (0, 1));
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_fail_those_who_share_its_load() {
    let world = World::with_scope("o_1").await;
    let process = Arc::new(Process::new(&world).await);
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::Load,
        When::Next,
        Fault::PauseBefore(gate.clone()),
    );
    let spawn = || {
        let process = Arc::clone(&process);
        tokio::spawn(async move { newest(&process, &scope("o_1")).await })
    };
    let first = spawn();
    gate.reached().await;
    let second = spawn();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.open();
    second.await.unwrap();
    assert_eq!(
        process.queries(),
        RepositoryCalls {
            load: 1,
            ..RepositoryCalls::default()
        }
    );
}

#[tokio::test]
async fn what_the_cache_lacks_is_looked_up_before_it_is_an_error() {
    let world = World::new().await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
    // A scope, a purpose, a version that came from elsewhere within the window.
    world.kms.create_keys(&id, &[DATABASE]).await.unwrap();
    process.kms.wrapper(&id, &DATABASE).await.unwrap();
    world
        .kms
        .reconcile_keys(kms_core::Scopes::All, &[OIDC])
        .await
        .unwrap();
    newest(&process, &id).await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let version = world.wrapper(&id).await.key_version_id().clone();
    let wrapper = process.kms.wrapper_for(&id, &OIDC, &version).await.unwrap();
    assert_eq!(*wrapper.key_version_id(), version);
    let unknown = DataKeyVersionId::generate();
    let error = process
        .kms
        .wrapper_for(&id, &OIDC, &unknown)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
    assert_eq!(error.context("key_version"), Some(unknown.as_str()));
}

#[tokio::test]
async fn any_number_of_callers_that_name_a_new_version_cost_two_loads_and_one_root_call() {
    let world = World::with_scope("o_1").await;
    let process = Arc::new(Process::new(&world).await);
    let id = scope("o_1");
    newest(&process, &id).await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let version = world.wrapper(&id).await.key_version_id().clone();
    let _ = (process.queries(), process.root_calls());
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::Load,
        When::Always,
        Fault::PauseBefore(gate.clone()),
    );
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (process, id, version) = (Arc::clone(&process), id.clone(), version.clone());
        tasks.spawn(async move { process.kms.wrapper_for(&id, &OIDC, &version).await });
    }
    gate.reached().await;
    // On one thread each task has run as far as it gets.
    tokio::task::yield_now().await;
    assert_eq!(gate.arrivals(), 1);
    gate.open();
    for result in tasks.join_all().await {
        result.unwrap();
    }
    assert!(process.queries().load <= 2);
    assert_eq!(process.root_calls(), (0, 1));
}

#[tokio::test]
async fn decrypting_looks_an_unknown_version_up_once_for_all_and_not_for_every_forged_id() {
    let world = World::with_scope("o_1").await;
    let process = Arc::new(Process::new(&world).await);
    let id = scope("o_1");
    newest(&process, &id).await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let blob = world.encrypt(&id, b"new").await;
    process.queries();
    let plain = process.kms.decrypt(&id, &OIDC, &blob, b"").await.unwrap();
    assert_eq!(plain.expose(), b"new");
    assert_eq!(process.queries().load, 1);

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (process, id) = (Arc::clone(&process), id.clone());
        tasks.spawn(async move {
            let forged = DataKeyVersionId::generate();
            let blob = kms_core::Blob::new(vec![0; 40], forged.as_str());
            process.kms.decrypt(&id, &OIDC, &blob, b"").await.map(drop)
        });
    }
    for result in tasks.join_all().await {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::UnknownKeyVersion);
    }
    assert!(process.queries().load <= 2, "shared by all who waited");
}

#[tokio::test]
async fn forged_ids_that_arrive_during_a_slow_look_up_start_no_further_one() {
    let world = World::with_scope("o_1").await;
    let interval = Duration::from_millis(200);
    let process = Process::with(&world, |builder| builder.lookup_interval(interval)).await;
    let process = Arc::new(process);
    let id = scope("o_1");
    newest(&process, &id).await;
    process.clock.advance(interval);
    let _ = process.queries();
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::Load,
        When::Always,
        Fault::PauseAfter(gate.clone()),
    );
    let forged = |process: Arc<Process>, id: ScopeId| async move {
        let unknown = DataKeyVersionId::generate();
        let blob = kms_core::Blob::new(vec![0; 40], unknown.as_str());
        process.kms.decrypt(&id, &OIDC, &blob, b"").await.map(drop)
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(forged(Arc::clone(&process), id.clone()));
    gate.reached().await;
    for _ in 0..20 {
        // One after the other, each while the first look-up is under way.
        tasks.spawn(forged(Arc::clone(&process), id.clone()));
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.arrivals(), 1);
    gate.open();
    process.clock.advance(interval);
    for result in tasks.join_all().await {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::UnknownKeyVersion);
    }
    assert!(process.queries().load <= 2);
}

#[tokio::test]
async fn what_the_cache_lacks_is_looked_up_also_when_nothing_that_it_has_opens() {
    let world = World::with_scope("o_1").await;
    let damage = |world: &World| {
        world
            .repository
            .tamper(|scopes| scopes[0].data_keys[1].versions[0].key[20] ^= 1);
    };
    damage(&world);
    let (process, another) = (Process::new(&world).await, Process::new(&world).await);
    let id = scope("o_1");
    for process in [&process, &another] {
        let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TamperedKey);
    }
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let version = world.wrapper(&id).await.key_version_id().clone();
    let blob = world.encrypt(&id, b"new").await;
    process.kms.wrapper_for(&id, &OIDC, &version).await.unwrap();
    let plain = another.kms.decrypt(&id, &OIDC, &blob, b"").await.unwrap();
    assert_eq!(plain.expose(), b"new");
}
