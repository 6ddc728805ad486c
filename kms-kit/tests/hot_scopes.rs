//! Many workers that change the same few scopes at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use kms_kit::prelude::*;
use kms_testkit::InstrumentedRepository;
use support::World;

on_both_databases! {
    twelve_workers_on_two_scopes_never_meet_each_others_changes
    workers_of_six_processes_on_two_scopes_all_succeed
}

const WORKERS: usize = 12;
const CHANGES: usize = 8;
const PROCESSES: usize = 6;

/// Lets each worker rotate one of the two scopes, again and again. Its engine is one of these, in turn.
async fn work(scopes: &[ScopeId; 2], engines: &[Kms]) {
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let kms = engines[number / 2 % engines.len()].clone();
            let scope = scopes[number % 2].clone();
            tokio::spawn(async move {
                for _ in 0..CHANGES {
                    kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

async fn expect_all_rotations(world: &World, scopes: &[ScopeId; 2]) {
    for scope in scopes {
        let keys = world.kms.list_keys(scope).await.unwrap();
        assert_eq!(keys[0].versions.len(), 1 + WORKERS / 2 * CHANGES);
    }
}

async fn twelve_workers_on_two_scopes_never_meet_each_others_changes(world: &World) {
    let scopes = [world.scope("o_1").await, world.scope("o_2").await];
    let repository = Arc::new(InstrumentedRepository::new(world.database.repository()));
    let kms = world.builder_on(repository.clone()).build().await.unwrap();
    let _ = repository.take();
    work(&scopes, &[kms]).await;
    // None had to be prepared again.
    assert_eq!(repository.calls().apply, (WORKERS * CHANGES) as u64);
    expect_all_rotations(world, &scopes).await;
}

async fn workers_of_six_processes_on_two_scopes_all_succeed(world: &World) {
    let scopes = [world.scope("o_1").await, world.scope("o_2").await];
    let mut engines = Vec::new();
    for _ in 0..PROCESSES {
        engines.push(world.another_process().await);
    }
    work(&scopes, &engines).await;
    expect_all_rotations(world, &scopes).await;
}
