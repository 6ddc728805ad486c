//! What a real database is asked, and how often.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kms_kit::prelude::*;
use kms_kit::{Scopes, WarmUpOptions};
use kms_testkit::{CountingWrapper, InstrumentedRepository, ManualClock, RepositoryCalls};
use support::{OIDC, World};

on_both_databases! {
    a_process_is_ready_after_two_queries_and_one_root_call
    a_warm_up_takes_one_query_for_each_batch_and_one_root_call_for_each_version_in_use
    a_cached_scope_is_confirmed_by_one_small_query_per_window
    invariant_07_another_scopes_rotation_costs_no_root_call_and_no_look_at_the_rows
    while_another_tenant_changes_all_the_time_many_processes_ask_no_more_than_at_rest
    changes_ask_the_database_as_little_as_they_can
}

struct Counted {
    kms: Kms,
    clock: Arc<ManualClock>,
    queries: Arc<InstrumentedRepository>,
    root: Arc<CountingWrapper>,
}

impl Counted {
    async fn on(world: &World) -> Self {
        let counted = Self::just_built(world).await;
        let _ = (counted.queries.take(), counted.root.take());
        counted
    }

    async fn just_built(world: &World) -> Self {
        let queries = Arc::new(InstrumentedRepository::new(world.database.repository()));
        let root = Arc::new(CountingWrapper::new(Arc::clone(&world.root)));
        let clock = Arc::new(ManualClock::new());
        let kms = world
            .builder_on(Arc::clone(&queries) as _)
            .root_wrapper(Arc::clone(&root) as _)
            .clock(Arc::clone(&clock) as _)
            .build()
            .await
            .unwrap();
        Self {
            kms,
            clock,
            queries,
            root,
        }
    }
}

fn nothing() -> RepositoryCalls {
    RepositoryCalls::default()
}

async fn a_process_is_ready_after_two_queries_and_one_root_call(world: &World) {
    let scope = world.scope("o_1").await;
    let counted = Counted::just_built(world).await;
    assert_eq!(
        counted.queries.take(),
        RepositoryCalls {
            validate_schema: 1,
            root_checks: 1,
            ..nothing()
        }
    );
    let root = counted.root.take();
    assert_eq!((root.encrypt, root.decrypt), (0, 1), "the check blob");
    counted.kms.wrapper(&scope, &OIDC).await.unwrap();
}

async fn a_warm_up_takes_one_query_for_each_batch_and_one_root_call_for_each_version_in_use(
    world: &World,
) {
    let mut scopes = Vec::new();
    for n in 0..12 {
        scopes.push(world.scope(&format!("o_{n:02}")).await);
    }
    world.kms.rotate_keys(&scopes[3], Rewrap::No).await.unwrap();
    world
        .kms
        .rotate_keys(&scopes[7], Rewrap::Yes)
        .await
        .unwrap();
    let counted = Counted::on(world).await;
    let options = WarmUpOptions::new().batch_size(5).concurrency(3);
    let warm_up = counted
        .kms
        .warm_up(Scopes::Only(&scopes), &options)
        .await
        .unwrap();
    assert_eq!((warm_up.loaded, warm_up.failed.len()), (12, 0));
    let three_batches = RepositoryCalls {
        load: 3,
        ..nothing()
    };
    assert_eq!(counted.queries.take(), three_batches);
    let root = counted.root.take();
    assert_eq!(root.decrypt, 13, "two versions of one, one of each other");
    assert!(root.most_at_once <= 3, "{root:?}");
    for scope in &scopes {
        counted.kms.wrapper(scope, &OIDC).await.unwrap();
    }
    assert_eq!(counted.queries.take(), nothing());

    // It is kept as fresh as if each had been asked for alone.
    world.kms.rotate_keys(&scopes[0], Rewrap::No).await.unwrap();
    counted.clock.advance(Duration::from_secs(2));
    let newest = world.kms.wrapper(&scopes[0], &OIDC).await.unwrap();
    let seen = counted.kms.wrapper(&scopes[0], &OIDC).await.unwrap();
    assert_eq!(seen.key_version_id(), newest.key_version_id());
}

async fn a_cached_scope_is_confirmed_by_one_small_query_per_window(world: &World) {
    let scope = world.scope("o_1").await;
    let counted = Counted::on(world).await;
    counted.kms.wrapper(&scope, &OIDC).await.unwrap();
    assert_eq!(
        counted.queries.take(),
        RepositoryCalls {
            load: 1,
            ..nothing()
        }
    );
    for _ in 0..3 {
        counted.clock.advance(Duration::from_secs(2));
        counted.kms.wrapper(&scope, &OIDC).await.unwrap();
        // The collection version reads the same from either query.
        assert_eq!(
            counted.queries.take(),
            RepositoryCalls {
                collection_version: 1,
                ..nothing()
            }
        );
    }
}

async fn invariant_07_another_scopes_rotation_costs_no_root_call_and_no_look_at_the_rows(
    world: &World,
) {
    let (scope, other) = (world.scope("o_1").await, world.scope("o_2").await);
    // On SQLite a creation counts with the next move of the collection version.
    world.kms.rotate_keys(&other, Rewrap::No).await.unwrap();
    let counted = Counted::on(world).await;
    counted.kms.wrapper(&scope, &OIDC).await.unwrap();
    let _ = (counted.queries.take(), counted.root.take());
    world.kms.rotate_keys(&other, Rewrap::Yes).await.unwrap();
    counted.clock.advance(Duration::from_secs(2));
    counted.kms.wrapper(&scope, &OIDC).await.unwrap();
    assert_eq!(
        counted.queries.take(),
        RepositoryCalls {
            collection_version: 1,
            ..nothing()
        }
    );
    assert_eq!(counted.root.take().decrypt, 0);
}

/// Ten processes that each use the same 200 tenants all the time: docs/scale.md has the figures.
async fn while_another_tenant_changes_all_the_time_many_processes_ask_no_more_than_at_rest(
    world: &World,
) {
    let mut scopes = Vec::new();
    for n in 0..200 {
        scopes.push(world.scope(&format!("o_{n:03}")).await);
    }
    let other = world.scope("other").await;
    world.kms.rotate_keys(&other, Rewrap::No).await.unwrap();
    let mut processes = Vec::new();
    for _ in 0..10 {
        let process = Counted::on(world).await;
        let options = WarmUpOptions::new();
        let warm_up = process.kms.warm_up(Scopes::Only(&scopes), &options).await;
        assert_eq!(warm_up.unwrap().loaded, 200);
        let _ = process.queries.take();
        processes.push(process);
    }
    for rotations in [0, 2] {
        for _ in 0..5 {
            for _ in 0..rotations {
                world.kms.rotate_keys(&other, Rewrap::No).await.unwrap();
            }
            for process in &processes {
                process.clock.advance(Duration::from_secs(2));
                for scope in &scopes {
                    process.kms.wrapper(scope, &OIDC).await.unwrap();
                }
                let one_question = RepositoryCalls {
                    collection_version: 1,
                    ..nothing()
                };
                assert_eq!(
                    process.queries.take(),
                    one_question,
                    "{rotations} rotations"
                );
            }
        }
    }
    // One of theirs changes: each process reads its rows, and no others.
    let newest = {
        world.kms.rotate_keys(&scopes[7], Rewrap::No).await.unwrap();
        world.kms.wrapper(&scopes[7], &OIDC).await.unwrap()
    };
    for process in &processes {
        process.clock.advance(Duration::from_secs(2));
        for scope in &scopes {
            process.kms.wrapper(scope, &OIDC).await.unwrap();
        }
        let seen = process.kms.wrapper(&scopes[7], &OIDC).await.unwrap();
        assert_eq!(seen.key_version_id(), newest.key_version_id());
        let calls = process.queries.take();
        assert_eq!((calls.collection_version, calls.load), (1, 1));
    }
}

async fn changes_ask_the_database_as_little_as_they_can(world: &World) {
    let scope = ScopeId::new("o_1").unwrap();
    world
        .database
        .execute("insert into organization (id) values ('o_1')");
    let counted = Counted::on(world).await;
    counted.kms.create_keys(&scope, &[OIDC]).await.unwrap();
    assert_eq!(
        counted.queries.take(),
        RepositoryCalls {
            apply: 1,
            ..nothing()
        }
    );
    counted.kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    assert_eq!(
        counted.queries.take(),
        RepositoryCalls {
            load: 1,
            apply: 1,
            ..nothing()
        }
    );
    counted
        .kms
        .reconcile_keys(Scopes::All, &[OIDC])
        .await
        .unwrap();
    assert_eq!(
        counted.queries.take(),
        RepositoryCalls {
            missing: 1,
            ..nothing()
        }
    );
}
