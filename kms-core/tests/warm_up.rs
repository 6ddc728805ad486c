//! Filling the cache before it is used.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kms_core::{
    Error, ErrorKind, Kms, Result, Rewrap, ScopeId, Scopes, WarmUp, WarmUpOptions, Wrapper,
};
use kms_testkit::{
    CountingWrapper, Fault, FaultyWrapper, Gate, InstrumentedRepository, RepositoryCalls,
    RepositoryMethod, When, WrapperMethod,
};
use support::instrumented::Process;
use support::{DATABASE, OIDC, World, on, scope};
use tokio::task::JoinHandle;

const WINDOW: Duration = Duration::from_secs(1);

async fn world_of(scopes: usize) -> (World, Vec<ScopeId>) {
    let world = World::new().await;
    let ids: Vec<_> = (0..scopes).map(|n| scope(&format!("o_{n:03}"))).collect();
    for id in &ids {
        world.kms.create_keys(id, &[DATABASE, OIDC]).await.unwrap();
    }
    (world, ids)
}

fn loads(load: u64) -> RepositoryCalls {
    RepositoryCalls {
        load,
        ..RepositoryCalls::default()
    }
}

async fn use_all(kms: &Kms, ids: &[ScopeId]) {
    for id in ids {
        kms.wrapper(id, &OIDC).await.unwrap();
    }
}

/// A warm-up that is held when it has read its rows, until the gate is opened.
fn held_warm_up(process: &Arc<Process>, ids: &[ScopeId]) -> (Gate, JoinHandle<Result<WarmUp>>) {
    let gate = Gate::new();
    let pause = Fault::PauseAfter(gate.clone());
    process
        .repository
        .inject(RepositoryMethod::Load, When::Next, pause);
    let warm_up = tokio::spawn({
        let (process, ids) = (Arc::clone(process), ids.to_vec());
        async move {
            let options = WarmUpOptions::new();
            process.kms.warm_up(Scopes::Only(&ids), &options).await
        }
    });
    (gate, warm_up)
}

#[tokio::test]
async fn it_takes_one_query_for_each_batch_and_then_the_keys_are_there_without_any() {
    let (world, ids) = world_of(25).await;
    let process = Process::new(&world).await;
    let options = WarmUpOptions::new().batch_size(10);
    let warm_up = process
        .kms
        .warm_up(Scopes::Only(&ids), &options)
        .await
        .unwrap();
    assert_eq!((warm_up.loaded, warm_up.failed.len()), (25, 0));
    assert_eq!(warm_up.left_out, None);
    assert_eq!(process.queries(), loads(3));
    assert_eq!(process.root_calls(), (0, 25));
    use_all(&process.kms, &ids).await;
    assert_eq!(process.queries(), loads(0));
    assert_eq!(process.root_calls(), (0, 0));
}

#[tokio::test]
async fn all_scopes_are_found_page_by_page() {
    let (world, ids) = world_of(20).await;
    let process = Process::new(&world).await;
    let options = WarmUpOptions::new().batch_size(10);
    let warm_up = process.kms.warm_up(Scopes::All, &options).await.unwrap();
    assert_eq!((warm_up.loaded, warm_up.failed.len()), (20, 0));
    let expected = RepositoryCalls {
        scopes: 3,
        ..loads(2)
    };
    assert_eq!(process.queries(), expected);
    use_all(&process.kms, &ids).await;
    assert_eq!(process.queries(), loads(0));
}

#[tokio::test]
async fn the_root_wrapper_is_called_once_for_each_version_that_wraps_something() {
    let (world, ids) = world_of(3).await;
    world.kms.rotate_keys(&ids[0], Rewrap::No).await.unwrap();
    world.kms.rotate_keys(&ids[0], Rewrap::No).await.unwrap();
    world.kms.rotate_keys(&ids[1], Rewrap::Yes).await.unwrap();
    let process = Process::new(&world).await;
    let twice = [ids.as_slice(), &ids].concat();
    let options = WarmUpOptions::new();
    let warm_up = process
        .kms
        .warm_up(Scopes::Only(&twice), &options)
        .await
        .unwrap();
    assert_eq!(warm_up.loaded, 3);
    assert_eq!(process.root_calls(), (0, 3 + 1 + 1));
}

#[tokio::test(start_paused = true)]
async fn the_root_wrapper_is_kept_as_busy_as_the_options_allow_and_no_busier() {
    let (world, ids) = world_of(64).await;
    world.kms.rotate_keys(&ids[5], Rewrap::No).await.unwrap();
    let latency = Duration::from_millis(50);
    let slow = FaultyWrapper::new(Arc::clone(&world.root));
    slow.inject(WrapperMethod::Decrypt, When::Always, Fault::Delay(latency));
    let root = Arc::new(CountingWrapper::new(Arc::new(slow)));
    let repository = InstrumentedRepository::new(Arc::new(world.repository.clone()));
    let query = Fault::Delay(Duration::from_millis(20));
    repository.inject(RepositoryMethod::Load, When::Always, query);
    let kms = on(Arc::new(repository))
        .root_wrapper(Arc::clone(&root) as Arc<dyn Wrapper>)
        .build()
        .await
        .unwrap();
    let _ = root.take();
    let options = WarmUpOptions::new().batch_size(6).concurrency(4);
    let start = tokio::time::Instant::now();
    kms.warm_up(Scopes::Only(&ids), &options).await.unwrap();
    let elapsed = start.elapsed();
    let calls = root.calls();
    assert_eq!((calls.decrypt, calls.most_at_once), (65, 4));
    // 65 calls, 4 at once, whatever the batches are: 17 times the latency at the least. And the first query.
    assert!(elapsed >= latency * 17, "{elapsed:?}");
    assert!(elapsed <= latency * 18, "{elapsed:?}");
}

#[tokio::test]
async fn what_fails_for_one_scope_is_told_and_the_others_are_loaded() {
    let (world, ids) = world_of(6).await;
    world
        .repository
        .tamper(|scopes| scopes[1].root_key_versions[0].key[5] ^= 1);
    let process = Process::new(&world).await;
    let refused = Fault::FailBefore(Error::new(ErrorKind::Throttled));
    process
        .root
        .inject(WrapperMethod::Decrypt, When::Nth(4), refused);
    let unknown = scope("nobody");
    let wanted = [&ids[..], std::slice::from_ref(&unknown)].concat();
    let options = WarmUpOptions::new().concurrency(1);
    let warm_up = process
        .kms
        .warm_up(Scopes::Only(&wanted), &options)
        .await
        .unwrap();
    let failed: Vec<_> = warm_up
        .failed
        .iter()
        .map(|(scope, error)| (scope, error.kind()))
        .collect();
    let expected = [
        (&ids[1], ErrorKind::TamperedKey),
        (&ids[3], ErrorKind::Throttled),
        (&unknown, ErrorKind::UnknownScope),
    ];
    assert_eq!(failed, expected);
    for (scope, error) in &warm_up.failed {
        assert_eq!(error.context("scope"), Some(scope.as_str()));
    }
    assert_eq!(warm_up.loaded, 4);
    let _ = process.queries();
    for id in [&ids[0], &ids[2], &ids[4], &ids[5]] {
        process.kms.wrapper(id, &OIDC).await.unwrap();
    }
    assert_eq!(process.queries(), loads(0));
}

#[tokio::test]
async fn it_ends_where_the_cache_is_full_and_displaces_nothing() {
    let (world, ids) = world_of(9).await;
    let process = Process::with(&world, |builder| builder.cache_capacity(5)).await;
    process.kms.wrapper(&ids[8], &OIDC).await.unwrap();
    let _ = process.queries();
    let options = WarmUpOptions::new().batch_size(3);
    for scopes in [Scopes::Only(&ids), Scopes::All] {
        let warm_up = process.kms.warm_up(scopes, &options).await.unwrap();
        assert_eq!((warm_up.loaded, warm_up.failed.len()), (4, 0));
        assert_eq!(warm_up.left_out, Some(ids[4].clone()));
    }
    let _ = process.queries();
    use_all(&process.kms, &ids[..4]).await;
    use_all(&process.kms, &ids[8..]).await;
    assert_eq!(process.queries(), loads(0));
}

#[tokio::test]
async fn a_second_one_asks_for_what_is_not_fresh_and_the_root_wrapper_for_nothing() {
    let (world, ids) = world_of(12).await;
    let process = Process::new(&world).await;
    let options = WarmUpOptions::new().batch_size(4);
    let all = Scopes::Only(&ids);
    process
        .kms
        .warm_up(Scopes::Only(&ids[..8]), &options)
        .await
        .unwrap();
    assert_eq!(process.queries(), loads(2));
    assert_eq!(process.root_calls(), (0, 8));
    process.kms.warm_up(all, &options).await.unwrap();
    assert_eq!(process.queries(), loads(1), "for those that were missing");
    assert_eq!(process.root_calls(), (0, 4));

    process.clock.advance(WINDOW * 2);
    let warm_up = process.kms.warm_up(all, &options).await.unwrap();
    assert_eq!(warm_up.loaded, 12);
    let confirmed = RepositoryCalls {
        collection_version: 1,
        ..loads(0)
    };
    assert_eq!(process.queries(), confirmed);

    world.kms.rotate_keys(&ids[3], Rewrap::No).await.unwrap();
    process.clock.advance(WINDOW * 2);
    process.kms.warm_up(all, &options).await.unwrap();
    let read_again = RepositoryCalls {
        collection_version: 1,
        ..loads(1)
    };
    assert_eq!(process.queries(), read_again);
    assert_eq!(process.root_calls(), (0, 1), "the new version of that one");
}

#[tokio::test]
async fn callers_meanwhile_share_its_loads() {
    let (world, ids) = world_of(5).await;
    let process = Arc::new(Process::new(&world).await);
    let (gate, warm_up) = held_warm_up(&process, &ids);
    gate.reached().await;
    let caller = tokio::spawn({
        let (process, id) = (Arc::clone(&process), ids[4].clone());
        async move { process.kms.wrapper(&id, &OIDC).await }
    });
    tokio::task::yield_now().await;
    gate.open();
    caller.await.unwrap().unwrap();
    assert_eq!(warm_up.await.unwrap().unwrap().loaded, 5);
    assert_eq!(process.queries(), loads(1));
    assert_eq!(process.root_calls(), (0, 5));
}

#[tokio::test]
async fn invariant_06_it_never_goes_over_what_the_process_did_meanwhile() {
    let (world, ids) = world_of(3).await;
    let process = Arc::new(Process::new(&world).await);
    let (gate, warm_up) = held_warm_up(&process, &ids);
    // Its rows are read, and these are changed before they are in the cache.
    gate.reached().await;
    process.kms.rotate_keys(&ids[1], Rewrap::No).await.unwrap();
    process.kms.dangerous().delete_keys(&ids[2]).await.unwrap();
    gate.open();
    warm_up.await.unwrap().unwrap();
    let keys = world.kms.list_keys(&ids[1]).await.unwrap();
    let newest = keys[2].versions.last().unwrap().id.to_string();
    let wrapper = process.kms.wrapper(&ids[1], &OIDC).await.unwrap();
    assert_eq!(wrapper.key_version_id().to_string(), newest);
    let gone = process.kms.wrapper(&ids[2], &OIDC).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::UnknownScope);
}

#[tokio::test]
async fn invariant_06_a_change_elsewhere_is_seen_when_the_window_after_its_query_is_over() {
    let (world, ids) = world_of(2).await;
    let process = Arc::new(Process::new(&world).await);
    let gate = Gate::new();
    process.root.inject(
        WrapperMethod::Decrypt,
        When::Next,
        Fault::PauseBefore(gate.clone()),
    );
    let warm_up = tokio::spawn({
        let (process, ids) = (Arc::clone(&process), ids.clone());
        async move {
            let options = WarmUpOptions::new();
            process.kms.warm_up(Scopes::Only(&ids), &options).await
        }
    });
    gate.reached().await;
    world.kms.rotate_keys(&ids[0], Rewrap::No).await.unwrap();
    // The unwrapping takes longer than the window: what it ends with counts from the query all the same.
    process.clock.advance(WINDOW + Duration::from_millis(1));
    gate.open();
    assert_eq!(warm_up.await.unwrap().unwrap().loaded, 2);
    let keys = world.kms.list_keys(&ids[0]).await.unwrap();
    let newest = keys[2].versions.last().unwrap().id.to_string();
    let wrapper = process.kms.wrapper(&ids[0], &OIDC).await.unwrap();
    assert_eq!(wrapper.key_version_id().to_string(), newest);
}

#[tokio::test]
async fn one_that_was_dropped_leaves_what_it_loaded_and_nothing_that_hangs() {
    let (world, ids) = world_of(10).await;
    let process = Process::new(&world).await;
    let gate = Gate::new();
    process.root.inject(
        WrapperMethod::Decrypt,
        When::Nth(7),
        Fault::PauseBefore(gate.clone()),
    );
    let options = WarmUpOptions::new().batch_size(5).concurrency(1);
    tokio::select! {
        biased;
        () = gate.reached() => {}
        _ = process.kms.warm_up(Scopes::Only(&ids), &options) => panic!("it was to hang"),
    }
    assert_eq!(process.queries(), loads(2));
    assert_eq!(process.root_calls(), (0, 6));
    // What was begun goes on without it: somebody else may wait for it.
    gate.open();
    let warm_up = process
        .kms
        .warm_up(Scopes::Only(&ids), &options)
        .await
        .unwrap();
    assert_eq!(warm_up.loaded, 10);
    assert_eq!(process.queries(), loads(0));
    assert_eq!(process.root_calls(), (0, 4));
}

#[tokio::test]
async fn a_database_that_fails_ends_it_and_what_was_loaded_stays() {
    let (world, ids) = world_of(6).await;
    let process = Process::new(&world).await;
    let down = Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
    process
        .repository
        .inject(RepositoryMethod::Load, When::Nth(2), down);
    let options = WarmUpOptions::new().batch_size(3);
    let error = process
        .kms
        .warm_up(Scopes::Only(&ids), &options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
    assert_eq!(error.operation(), Some("warm_up"));
    process.clock.advance(WINDOW / 2); // nobody asks before
    let warm_up = process
        .kms
        .warm_up(Scopes::Only(&ids), &options)
        .await
        .unwrap();
    assert_eq!((warm_up.loaded, warm_up.failed.len()), (6, 0));
    assert_eq!(process.queries(), loads(2), "the first batch was there");
}

#[tokio::test]
async fn settings_that_can_not_work_are_refused_before_anything_is_asked() {
    let (world, ids) = world_of(1).await;
    let process = Process::new(&world).await;
    let all = Scopes::Only(&ids);
    for options in [
        WarmUpOptions::new().batch_size(0),
        WarmUpOptions::new().concurrency(0),
    ] {
        let error = process.kms.warm_up(all, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    }
    assert_eq!(process.queries(), loads(0));
    let rootless = world.builder_without_root().build().await.unwrap();
    let error = rootless.warm_up(all, &WarmUpOptions::new()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NoRootWrapper);
}
