//! The root wrapper or the database is away while a campaign runs.

use std::error::Error as _;

use kms_core::RewrapKeys;
use tokio::time::{Instant, sleep};

use super::far::{CALL, Far, all_rotated_once, database_is_away};
use super::*;

#[tokio::test(start_paused = true)]
async fn scopes_that_failed_are_tried_again_as_many_at_once_as_the_options_allow() {
    let (world, ids) = world_of(400).await;
    let process = Far::new(&world).await;
    for call in 1..=100 {
        let away = Fault::FailBefore(Error::new(ErrorKind::Unreachable));
        process
            .root
            .inject(WrapperMethod::Encrypt, When::Nth(call), away);
    }
    let options = CampaignOptions::default().concurrency(64);
    let start = Instant::now();
    let outcome = process
        .kms
        .rotate_all(&options, Rewrap::No, |_| {})
        .await
        .unwrap();
    // 500 calls, 64 at once, are eight in turn.
    let elapsed = start.elapsed();
    assert!(elapsed <= CALL * 12, "{elapsed:?}");
    assert_eq!(process.root_calls(), 500);
    let report = outcome.report().unwrap();
    assert_eq!((report.done, report.failures.len()), (400, 0));
    all_rotated_once(&world, &ids).await;
}

#[tokio::test(start_paused = true)]
async fn scopes_that_go_on_failing_hinder_no_other_when_they_are_tried_again() {
    let (world, ids) = world_of(20).await;
    let process = Far::new(&world).await;
    world.repository.tamper(|scopes| {
        for scope in &mut scopes[..5] {
            scope.root_key_versions[0].key[5] ^= 1;
        }
    });
    for call in 1..=10 {
        let away = Fault::FailBefore(Error::new(ErrorKind::TimedOut));
        process
            .root
            .inject(WrapperMethod::Encrypt, When::Nth(call), away);
    }
    let options = CampaignOptions::default().batch_size(3);
    let outcome = process
        .kms
        .rotate_all(&options, Rewrap::Yes, |_| {})
        .await
        .unwrap();
    let report = outcome.report().unwrap();
    assert_eq!(report.done, 15);
    let failures = report.failures.iter();
    let mut failed: Vec<_> = failures
        .map(|failure| (failure.scope.clone(), failure.kind.as_str()))
        .collect();
    failed.sort();
    let expected: Vec<_> = ids[..5]
        .iter()
        .map(|id| (id.clone(), "TamperedKey"))
        .collect();
    assert_eq!(failed, expected);
    all_rotated_once(&world, &ids[5..]).await;
}

#[tokio::test(start_paused = true)]
async fn a_root_wrapper_that_is_down_for_good_costs_a_few_dozen_calls_and_no_scope() {
    for (concurrency, most) in [(1, 10), (8, 24), (64, 192)] {
        let (world, ids) = world_of(400).await;
        let process = Far::new(&world).await;
        process.root_is_away();
        // Smaller batches than what fails: some are recorded as failures, and the cursor is past them.
        let options = CampaignOptions::new("c")
            .concurrency(concurrency)
            .batch_size(4);
        for _ in 0..3 {
            let start = Instant::now();
            let error = process
                .kms
                .rotate_all(&options, Rewrap::No, |_| {})
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CampaignSuspended);
            assert!(error.is_retryable());
            assert_eq!(error.context("campaign"), Some("c"));
            let last = error.source().unwrap().downcast_ref::<Error>().unwrap();
            assert_eq!(last.kind(), ErrorKind::Unreachable);
            let calls = process.root_calls();
            assert!(
                (10..=most).contains(&calls),
                "{calls}, {concurrency} at once"
            );
            assert!(start.elapsed() <= CALL * 12, "{:?}", start.elapsed());
        }
        process.root_is_back();
        let outcome = process
            .kms
            .rotate_all(&options, Rewrap::No, |_| {})
            .await
            .unwrap();
        assert!(matches!(outcome, CampaignOutcome::CarriedOn(_)));
        let report = outcome.report().unwrap();
        assert_eq!((report.done, report.failures.len()), (400, 0));
        all_rotated_once(&world, &ids).await;
    }
}

#[tokio::test]
async fn a_campaign_whose_scopes_need_no_change_is_not_suspended_and_calls_nobody() {
    let (world, _) = world_of(40).await;
    let process = Far::new(&world).await;
    process.root_is_away();
    let options = CampaignOptions::default();
    let outcome = process
        .kms
        .rewrap_all(&options, RewrapKeys::ForeignRoot, |_| {})
        .await
        .unwrap();
    let report = outcome.report().unwrap();
    assert_eq!((report.done, report.unchanged), (0, 40));
    assert_eq!(process.root_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_campaign_outlives_a_lost_answer_to_each_of_its_calls() {
    for method in [
        RepositoryMethod::Campaign,
        RepositoryMethod::CountScopes,
        RepositoryMethod::StartCampaign,
        RepositoryMethod::Scopes,
        RepositoryMethod::Load,
        RepositoryMethod::ApplyStep,
    ] {
        let (world, ids) = world_of(6).await;
        let process = Far::new(&world).await;
        for kind in [ErrorKind::OutcomeUnknown, ErrorKind::DatabaseUnreachable] {
            let lost = Fault::FailAfter(Error::new(kind));
            process.repository.inject(method, When::Next, lost);
        }
        let options = CampaignOptions::default().batch_size(3);
        let outcome = process
            .kms
            .rotate_all(&options, Rewrap::No, |_| {})
            .await
            .unwrap();
        assert_eq!(process.repository.pending(), 0, "{method:?}");
        assert!(
            matches!(outcome, CampaignOutcome::Started(_)),
            "{method:?}: {outcome:?}"
        );
        assert_eq!(outcome.report().unwrap().done, 6, "{method:?}");
        assert_eq!(process.root_calls(), 6, "{method:?}");
        all_rotated_once(&world, &ids).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_campaign_outlives_five_minutes_without_a_database() {
    let (world, ids) = world_of(40).await;
    let process = Far::new(&world).await;
    let options = CampaignOptions::default().batch_size(5);
    let repository = &process.repository;
    let outage = async {
        sleep(CALL * 2).await;
        database_is_away(repository);
        sleep(Duration::from_secs(300)).await;
        repository.clear();
    };
    let start = Instant::now();
    let run = process.kms.rotate_all(&options, Rewrap::No, |_| {});
    let (outcome, ()) = tokio::join!(run, outage);
    let outcome = outcome.unwrap();
    // It goes on soon after.
    let elapsed = start.elapsed().as_secs();
    assert!((300..=310).contains(&elapsed), "{elapsed} s");
    let report = outcome.report().unwrap();
    assert_eq!((report.done, report.failures.len()), (40, 0));
    // What was planned before is what is applied after.
    assert_eq!(process.root_calls(), 40);
    all_rotated_once(&world, &ids).await;
}

#[tokio::test(start_paused = true)]
async fn a_campaign_waits_for_a_database_no_longer_than_its_options_say() {
    let (world, _) = world_of(4).await;
    for (patience, seconds) in [(Some(30), 30), (None, 600)] {
        let process = Far::new(&world).await;
        database_is_away(&process.repository);
        let mut options = CampaignOptions::default();
        if let Some(patience) = patience {
            options = options.patience(Duration::from_secs(patience));
        }
        let start = Instant::now();
        let error = process
            .kms
            .rotate_all(&options, Rewrap::No, |_| {})
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}
