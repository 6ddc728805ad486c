//! What callers see when the database does not answer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use kms_core::{Error, ErrorKind, Rewrap};
use kms_testkit::{Fault, Gate, RepositoryMethod, When};
use support::instrumented::{Process, newest};
use support::{OIDC, World, scope};

const WINDOW: Duration = Duration::from_secs(1);

fn down() -> Fault {
    Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable))
}

#[tokio::test]
async fn a_database_that_never_answers_makes_nobody_wait_longer_than_a_load_may_take() {
    let world = World::with_scope("o_1").await;
    let process = Process::with(&world, |builder| {
        builder.load_timeout(Duration::from_millis(100))
    })
    .await;
    let id = scope("o_1");
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::Load,
        When::Always,
        Fault::PauseBefore(gate.clone()),
    );
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
    // The next one does not ask, since it would not be answered either.
    let error = process.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
    assert_eq!(gate.arrivals(), 1);

    process.repository.clear();
    process.clock.advance(WINDOW);
    newest(&process, &id).await;
}

#[tokio::test]
async fn for_a_moment_after_a_failure_others_fail_at_once_and_the_database_is_left_alone() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let gate = Gate::new();
    gate.open();
    for fault in [Fault::PauseBefore(gate.clone()), down()] {
        process
            .repository
            .inject(RepositoryMethod::Load, When::Always, fault);
    }
    for _ in 0..50 {
        let error = process.kms.wrapper(&scope("o_1"), &OIDC).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::DatabaseUnreachable);
    }
    assert_eq!(gate.arrivals(), 1);
    // Then one of all callers finds out for the others.
    for asked in 2..5 {
        process.clock.advance(WINDOW);
        for _ in 0..50 {
            assert!(process.kms.wrapper(&scope("o_1"), &OIDC).await.is_err());
        }
        assert_eq!(gate.arrivals(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn within_the_grace_period_keys_are_served_at_once_while_one_caller_asks_in_the_background() {
    let world = World::with_scope("o_1").await;
    let minute = Duration::from_secs(60);
    let process = Process::with(&world, |builder| builder.grace_period(minute)).await;
    let id = scope("o_1");
    let before = newest(&process, &id).await;
    let gate = Gate::new();
    process.repository.inject(
        RepositoryMethod::CollectionVersion,
        When::Always,
        Fault::PauseBefore(gate.clone()),
    );
    process.clock.advance(WINDOW * 2);
    let start = tokio::time::Instant::now();
    assert_eq!(newest(&process, &id).await, before);
    // This one has found out that nobody answers.
    assert!(start.elapsed() < Duration::from_secs(1));
    let start = tokio::time::Instant::now();
    for _ in 0..1000 {
        assert_eq!(newest(&process, &id).await, before);
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(gate.arrivals(), 1);
    for asked in 2..6 {
        process.clock.advance(WINDOW);
        for _ in 0..100 {
            assert_eq!(newest(&process, &id).await, before);
        }
        tokio::task::yield_now().await;
        assert!(
            gate.arrivals() <= asked,
            "{} after {asked}",
            gate.arrivals()
        );
    }
    assert_eq!(start.elapsed(), Duration::ZERO);

    // The database is back: what changed meanwhile is seen.
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    gate.open();
    process.repository.clear();
    process.clock.advance(WINDOW * 2);
    let _ = newest(&process, &id).await;
    tokio::task::yield_now().await;
    process.clock.advance(WINDOW * 2);
    assert_ne!(newest(&process, &id).await, before);
}

/// A password that was changed, say: nobody is let in until the process knows the new one.
#[tokio::test]
async fn a_database_that_refuses_the_login_is_away_like_one_that_is_not_there() {
    let world = World::with_scope("o_1").await;
    let (id, refused) = (scope("o_1"), Error::new(ErrorKind::DatabaseLogin));
    for (grace, served) in [(Duration::from_secs(60), true), (Duration::ZERO, false)] {
        let process = Process::with(&world, |builder| builder.grace_period(grace)).await;
        newest(&process, &id).await;
        process.repository.inject(
            RepositoryMethod::CollectionVersion,
            When::Always,
            Fault::FailBefore(refused.clone()),
        );
        process.clock.advance(WINDOW * 2);
        match process.kms.wrapper(&id, &OIDC).await {
            Ok(_) => assert!(served),
            Err(error) => {
                assert!(!served, "{error}");
                assert_eq!(error.kind(), ErrorKind::Stale);
                let source = std::error::Error::source(&error).unwrap();
                assert_eq!(source.to_string(), refused.to_string());
            }
        }
    }
}
