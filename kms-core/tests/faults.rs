//! When the root wrapper or the database fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use kms_core::{CampaignOptions, Error, ErrorKind, Rewrap};
use kms_testkit::{Fault, RepositoryMethod, When, WrapperMethod};
use support::instrumented::Process;
use support::{OIDC, World, scope};

#[tokio::test]
async fn a_root_wrapper_out_of_reach_fails_with_its_kind_and_nothing_is_written() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    for kind in [
        ErrorKind::Unreachable,
        ErrorKind::TimedOut,
        ErrorKind::Throttled,
        ErrorKind::Denied,
    ] {
        for method in [WrapperMethod::Encrypt, WrapperMethod::Decrypt] {
            process
                .root
                .inject(method, When::Always, Fault::FailBefore(Error::new(kind)));
        }
        let errors = [
            process
                .kms
                .create_keys(&scope("o_2"), &[OIDC])
                .await
                .unwrap_err(),
            process.kms.rotate_keys(&id, Rewrap::No).await.unwrap_err(),
            process.kms.rotate_keys(&id, Rewrap::Yes).await.unwrap_err(),
            process.kms.wrapper(&id, &OIDC).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), kind);
        }
        assert_eq!(
            world.kms.scopes(None, 10).await.unwrap(),
            std::slice::from_ref(&id)
        );
        assert_eq!(world.kms.list_keys(&id).await.unwrap()[0].versions.len(), 1);
        process.root.clear();
        // The failure is not kept for longer than a passing one, or a lasting one, deserves.
        process.clock.advance(Duration::from_secs(31));
        process.kms.wrapper(&id, &OIDC).await.unwrap();
        process.clock.advance(Duration::from_secs(400));
        world
            .kms
            .rewrap_keys(&id, kms_core::RewrapKeys::All)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn keys_in_the_cache_go_on_working_while_the_root_wrapper_is_out_of_reach() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    process.kms.wrapper(&id, &OIDC).await.unwrap();
    let down = Fault::FailBefore(Error::new(ErrorKind::Unreachable));
    process
        .root
        .inject(WrapperMethod::Decrypt, When::Always, down);
    world.kms.create_keys(&scope("o_2"), &[]).await.unwrap();
    world
        .kms
        .rotate_keys(&scope("o_2"), Rewrap::No)
        .await
        .unwrap();
    process.clock.advance(Duration::from_secs(600));
    // Rows are compared again, found unchanged, and no root call is needed.
    process
        .kms
        .wrapper(&id, &OIDC)
        .await
        .unwrap()
        .encrypt(b"x", b"")
        .unwrap();
}

#[tokio::test]
async fn an_unanswered_commit_that_took_effect_is_a_success() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let id = scope("o_1");
    let lost = || Fault::FailAfter(Error::new(ErrorKind::OutcomeUnknown));
    process
        .repository
        .inject(RepositoryMethod::Apply, When::Next, lost());
    process.kms.rotate_keys(&id, Rewrap::Yes).await.unwrap();
    assert_eq!(world.kms.list_keys(&id).await.unwrap()[0].versions.len(), 2);
    process
        .repository
        .inject(RepositoryMethod::Apply, When::Next, lost());
    process
        .kms
        .create_keys(&scope("o_2"), &[OIDC])
        .await
        .unwrap();
    process
        .repository
        .inject(RepositoryMethod::Apply, When::Next, lost());
    process.kms.dangerous().delete_keys(&id).await.unwrap();
}

#[tokio::test]
async fn an_unanswered_commit_that_took_no_effect_is_done_again() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let lost = Fault::FailBefore(Error::new(ErrorKind::OutcomeUnknown));
    process
        .repository
        .inject(RepositoryMethod::Apply, When::Next, lost);
    process
        .kms
        .rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap();
    let keys = world.kms.list_keys(&scope("o_1")).await.unwrap();
    assert_eq!(keys[0].versions.len(), 2);
}

#[tokio::test]
async fn an_unanswered_commit_that_can_not_be_looked_up_is_an_error_of_its_own() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    process.repository.inject(
        RepositoryMethod::Apply,
        When::Next,
        Fault::FailAfter(Error::new(ErrorKind::OutcomeUnknown)),
    );
    process.repository.inject(
        RepositoryMethod::Resolve,
        When::Always,
        Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable)),
    );
    let before = process.kms.wrapper(&scope("o_1"), &OIDC).await.unwrap();
    let error = process
        .kms
        .rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(!error.is_retryable());
    // It did take effect, and this process sees it.
    let after = process.kms.wrapper(&scope("o_1"), &OIDC).await.unwrap();
    assert_ne!(before.key_version_id(), after.key_version_id());
}

#[tokio::test]
async fn a_conflict_is_retried_a_bounded_number_of_times() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let conflict = || Fault::Refuse(Error::new(ErrorKind::Conflict));
    process
        .repository
        .inject(RepositoryMethod::Apply, When::Next, conflict());
    process
        .kms
        .rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap();
    process.queries();
    process
        .repository
        .inject(RepositoryMethod::Apply, When::Always, conflict());
    let error = process
        .kms
        .rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!((2..=20).contains(&process.queries().load));
}

#[tokio::test(start_paused = true)]
async fn a_campaign_that_can_not_go_on_ends_with_the_reason_and_goes_on_when_it_can() {
    let world = World::with_scope("o_1").await;
    let process = Process::new(&world).await;
    let options = CampaignOptions::new("c");
    for kind in [ErrorKind::DatabaseBusy, ErrorKind::Conflict] {
        process.repository.inject(
            RepositoryMethod::ApplyStep,
            When::Always,
            Fault::FailBefore(Error::new(kind)),
        );
        let error = process
            .kms
            .rotate_all(&options, Rewrap::No, |_| {})
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.context("campaign"), Some("c"));
        let (encrypt, _) = process.root_calls();
        assert!(encrypt <= 10, "{encrypt} calls of the root wrapper");
        process.repository.clear();
    }
    let outcome = process
        .kms
        .rotate_all(&options, Rewrap::No, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (1, 0));
}

#[tokio::test]
async fn a_campaign_outlives_conflicts_lost_answers_and_outages() {
    let world = World::new().await;
    for n in 0..12 {
        world
            .kms
            .create_keys(&scope(&format!("o_{n}")), &[OIDC])
            .await
            .unwrap();
    }
    let process = Process::new(&world).await;
    let fault = |method, nth, fault| process.repository.inject(method, When::Nth(nth), fault);
    let error = Error::new;
    fault(
        RepositoryMethod::ApplyStep,
        1,
        Fault::FailAfter(error(ErrorKind::OutcomeUnknown)),
    );
    fault(
        RepositoryMethod::ApplyStep,
        3,
        Fault::FailBefore(error(ErrorKind::OutcomeUnknown)),
    );
    fault(
        RepositoryMethod::Load,
        2,
        Fault::FailBefore(error(ErrorKind::DatabaseUnreachable)),
    );
    fault(
        RepositoryMethod::Scopes,
        3,
        Fault::FailBefore(error(ErrorKind::DatabaseBusy)),
    );
    let options = CampaignOptions::new("c").batch_size(3);
    let outcome = process
        .kms
        .rotate_all(&options, Rewrap::No, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (12, 0));
    assert_eq!(process.repository.pending(), 0);
    for n in 0..12 {
        let keys = world
            .kms
            .list_keys(&scope(&format!("o_{n}")))
            .await
            .unwrap();
        assert_eq!(keys[0].versions.len(), 2);
    }
}
