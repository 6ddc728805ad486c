//! Rotating and rewrapping every scope.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "campaigns/far.rs"]
mod far;
#[path = "campaigns/outages.rs"]
mod outages;
#[path = "campaigns/outcomes.rs"]
mod outcomes;
#[path = "campaigns/processes.rs"]
mod processes;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kms_core::{
    CampaignOptions, CampaignOutcome, Error, ErrorKind, Rewrap, RewrapKeys, ScopeId, Wrapper,
};
use kms_testkit::{
    CountingWrapper, Fault, FaultyWrapper, Gate, InstrumentedRepository, RepositoryMethod, When,
    WrapperMethod,
};
use support::instrumented::Process;
use support::{OIDC, World, on, scope};

async fn world_of(scopes: usize) -> (World, Vec<ScopeId>) {
    let world = World::new().await;
    let ids: Vec<_> = (0..scopes).map(|n| scope(&format!("o_{n:03}"))).collect();
    for id in &ids {
        world.kms.create_keys(id, &[OIDC]).await.unwrap();
    }
    (world, ids)
}

async fn versions(world: &World, id: &ScopeId) -> usize {
    world.kms.list_keys(id).await.unwrap()[0].versions.len()
}

#[tokio::test]
async fn a_campaign_does_every_scope_once_and_reports_progress() {
    let (world, ids) = world_of(23).await;
    let mut seen = Vec::new();
    let options = CampaignOptions::new("2027-01").batch_size(5).concurrency(3);
    let outcome = world
        .kms
        .rotate_all(&options, Rewrap::Yes, |progress| seen.push(progress.done))
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (23, 0));
    assert_eq!(seen, [5, 10, 15, 20, 23, 23]);
    for id in &ids {
        assert_eq!(versions(&world, id).await, 2);
    }
    // Once finished it stays so: starting it again does nothing.
    let again = world
        .kms
        .rotate_all(&options, Rewrap::Yes, |_| {})
        .await
        .unwrap();
    assert!(matches!(again, CampaignOutcome::AlreadyFinished { .. }));
    assert_eq!(versions(&world, &ids[0]).await, 2);
}

#[tokio::test]
async fn an_interrupted_campaign_goes_on_where_it_ended_and_rotates_no_scope_twice() {
    let (world, ids) = world_of(20).await;
    let options = CampaignOptions::new("c").batch_size(4);
    {
        // Dropped in the middle, at a point where it waits.
        let (sender, mut batches) = tokio::sync::mpsc::unbounded_channel();
        let run = world.kms.rotate_all(&options, Rewrap::No, move |progress| {
            sender.send(progress.done).unwrap();
        });
        tokio::select! {
            biased;
            () = async { while batches.recv().await.unwrap() < 8 {} } => {}
            _ = run => panic!("it was to be interrupted"),
        }
    }
    let process = world.another_process().await;
    let outcome = process
        .rotate_all(&options, Rewrap::No, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!(outcome.done, 20);
    for id in &ids {
        assert_eq!(versions(&world, id).await, 2, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_one_campaign_do_every_scope_and_none_twice() {
    let (world, ids) = world_of(40).await;
    let options = CampaignOptions::new("c").batch_size(3);
    let other = world.another_process().await;
    let (a, b) = tokio::join!(
        world.kms.rotate_all(&options, Rewrap::No, |_| {}),
        other.rotate_all(&options, Rewrap::No, |_| {}),
    );
    for outcome in [a, b] {
        // The other may be done before this one looks.
        if let Some(report) = outcome.unwrap().report() {
            assert_eq!(report.done, 40);
        }
    }
    for id in &ids {
        assert_eq!(versions(&world, id).await, 2, "{id}");
    }
}

#[tokio::test]
async fn one_scopes_failure_is_listed_and_does_not_stop_the_others() {
    let (world, ids) = world_of(7).await;
    world
        .repository
        .tamper(|scopes| scopes[3].root_key_versions[0].key[5] ^= 1);
    let options = CampaignOptions::new("c").batch_size(3);
    let outcome = world
        .kms
        .rotate_all(&options, Rewrap::Yes, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!(outcome.done, 6);
    assert_eq!(outcome.failures.len(), 1);
    assert_eq!(outcome.failures[0].scope, ids[3]);
    assert_eq!(outcome.failures[0].kind, "TamperedKey");
    assert_eq!(versions(&world, &ids[3]).await, 1);

    // Mended, it is done when the campaign is carried on, and the others are left alone.
    world
        .repository
        .tamper(|scopes| scopes[3].root_key_versions[0].key[5] ^= 1);
    let outcome = world
        .kms
        .rotate_all(&options, Rewrap::Yes, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (7, 0));
    for id in &ids {
        assert_eq!(versions(&world, id).await, 2);
    }
}

#[tokio::test]
async fn the_filters_choose_scopes_by_list_age_and_root_key() {
    let (world, ids) = world_of(5).await;
    let some = CampaignOptions::new("some").scopes([ids[1].clone(), ids[4].clone()]);
    assert_eq!(
        world
            .kms
            .rotate_all(&some, Rewrap::No, |_| {})
            .await
            .unwrap()
            .report()
            .unwrap()
            .done,
        2
    );
    let old = CampaignOptions::new("old").older_than(Duration::from_secs(3600));
    assert_eq!(
        world
            .kms
            .rotate_all(&old, Rewrap::No, |_| {})
            .await
            .unwrap()
            .report()
            .unwrap()
            .done,
        0
    );
    let elsewhere = CampaignOptions::new("elsewhere").wrapped_by("another");
    assert_eq!(
        world
            .kms
            .rotate_all(&elsewhere, Rewrap::No, |_| {})
            .await
            .unwrap()
            .report()
            .unwrap()
            .done,
        0
    );
    let here = CampaignOptions::new("here").wrapped_by("root");
    assert_eq!(
        world
            .kms
            .rotate_all(&here, Rewrap::No, |_| {})
            .await
            .unwrap()
            .report()
            .unwrap()
            .done,
        5
    );
    // Nothing is under a foreign root.
    let moved = CampaignOptions::new("moved");
    let outcome = world
        .kms
        .rewrap_all(&moved, RewrapKeys::ForeignRoot, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (0, 0));
}

#[tokio::test]
async fn an_id_that_belongs_to_another_campaign_is_refused() {
    let (world, _) = world_of(1).await;
    let options = CampaignOptions::new("c");
    let _ = world
        .kms
        .rotate_all(&options, Rewrap::No, |_| {})
        .await
        .unwrap();
    let kinds = [
        world.kms.rotate_all(&options, Rewrap::Yes, |_| {}).await,
        world
            .kms
            .rewrap_all(&options, RewrapKeys::All, |_| {})
            .await,
        world
            .kms
            .rotate_all(
                &options.clone().older_than(Duration::from_secs(1)),
                Rewrap::No,
                |_| {},
            )
            .await,
    ]
    .map(|result| result.unwrap_err().kind());
    assert_eq!(kinds, [ErrorKind::CampaignMismatch; 3]);
    let blank = world
        .kms
        .rotate_all(&CampaignOptions::new(" "), Rewrap::No, |_| {})
        .await;
    assert_eq!(blank.unwrap_err().kind(), ErrorKind::InvalidConfiguration);
}

#[tokio::test(start_paused = true)]
async fn the_root_wrapper_is_kept_as_busy_as_the_options_allow_whatever_the_batches_are() {
    for (batch_size, concurrency, calls_in_turn) in [(5, 4, 48..=54), (5, 16, 12..=19)] {
        busy(batch_size, concurrency, calls_in_turn).await;
    }
}

/// Rotates and rewraps 64 scopes, which takes so many times a call's latency.
async fn busy(batch_size: usize, concurrency: usize, calls_in_turn: RangeInclusive<u32>) {
    let (world, ids) = world_of(64).await;
    let latency = Duration::from_millis(50);
    let slow = FaultyWrapper::new(Arc::clone(&world.root));
    for method in [WrapperMethod::Encrypt, WrapperMethod::Decrypt] {
        slow.inject(method, When::Always, Fault::Delay(latency));
    }
    let root = Arc::new(CountingWrapper::new(Arc::new(slow)));
    let repository = InstrumentedRepository::new(Arc::new(world.repository.clone()));
    for (method, milliseconds) in [
        (RepositoryMethod::Scopes, 10),
        (RepositoryMethod::Load, 20),
        (RepositoryMethod::ApplyStep, 20),
        (RepositoryMethod::StartCampaign, 10),
    ] {
        let delay = Fault::Delay(Duration::from_millis(milliseconds));
        repository.inject(method, When::Always, delay);
    }
    let kms = on(Arc::new(repository))
        .root_wrapper(Arc::clone(&root) as Arc<dyn Wrapper>)
        .build()
        .await
        .unwrap();
    let _ = root.take();
    let options = CampaignOptions::new("c")
        .batch_size(batch_size)
        .concurrency(concurrency);
    let start = tokio::time::Instant::now();
    let _ = kms.rotate_all(&options, Rewrap::Yes, |_| {}).await.unwrap();
    let elapsed = start.elapsed();
    let calls = root.calls();
    assert_eq!((calls.encrypt, calls.decrypt), (64 * 2, 64));
    assert_eq!(calls.most_at_once, concurrency as u64);
    // 192 calls, so many at once, at the least. What the database takes counts for the first batch and the last
    // one, and for the step that finishes.
    assert!(elapsed >= latency * *calls_in_turn.start(), "{elapsed:?}");
    assert!(elapsed <= latency * *calls_in_turn.end(), "{elapsed:?}");
    for id in &ids {
        assert_eq!(versions(&world, id).await, 2, "{id}");
    }
}

#[tokio::test]
async fn a_call_that_hangs_holds_up_no_batch_before_its_own() {
    let (world, ids) = world_of(6).await;
    let process = Process::new(&world).await;
    let gate = Gate::new();
    let hang = Fault::PauseBefore(gate.clone());
    process
        .root
        .inject(WrapperMethod::Encrypt, When::Nth(4), hang);
    let options = CampaignOptions::new("c").batch_size(2).concurrency(1);
    let (sender, mut progress) = tokio::sync::mpsc::unbounded_channel();
    let run = process.kms.rotate_all(&options, Rewrap::No, move |now| {
        sender.send(now.done).unwrap();
    });
    tokio::select! {
        biased;
        done = progress.recv() => assert_eq!(done, Some(2)),
        _ = run => panic!("it was to hang"),
    }
    gate.reached().await;
    let mut done = Vec::new();
    for id in &ids {
        done.push(versions(&world, id).await);
    }
    assert_eq!(done, [2, 2, 1, 1, 1, 1]);
}

#[tokio::test]
async fn a_batch_that_is_not_applied_is_applied_again() {
    let (world, ids) = world_of(10).await;
    let process = Process::new(&world).await;
    for (when, fault) in [
        (
            When::Nth(2),
            Fault::FailBefore(Error::new(ErrorKind::DatabaseBusy)),
        ),
        (
            When::Nth(4),
            Fault::FailAfter(Error::new(ErrorKind::OutcomeUnknown)),
        ),
        // The step that finishes.
        (
            When::Nth(7),
            Fault::FailBefore(Error::new(ErrorKind::DatabaseBusy)),
        ),
    ] {
        process
            .repository
            .inject(RepositoryMethod::ApplyStep, when, fault);
    }
    let options = CampaignOptions::new("c").batch_size(2);
    let outcome = process
        .kms
        .rotate_all(&options, Rewrap::Yes, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (10, 0));
    assert_eq!(process.repository.pending(), 0);
    for id in &ids {
        assert_eq!(versions(&world, id).await, 2, "{id}");
    }
}

#[tokio::test]
async fn a_database_that_can_not_be_read_any_more_ends_it_after_what_was_planned() {
    let (world, ids) = world_of(6).await;
    let process = Process::new(&world).await;
    let broken = Fault::FailBefore(Error::new(ErrorKind::Database));
    process
        .repository
        .inject(RepositoryMethod::Load, When::Nth(3), broken);
    let options = CampaignOptions::new("c").batch_size(2);
    let error = process
        .kms
        .rotate_all(&options, Rewrap::No, |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    let mut done = Vec::new();
    for id in &ids {
        done.push(versions(&world, id).await);
    }
    assert_eq!(done, [2, 2, 2, 2, 1, 1]);
}
