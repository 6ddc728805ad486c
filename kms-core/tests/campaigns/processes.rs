//! Several processes with one campaign: one works, the others wait.

use tokio::time::Instant;

use super::far::{CALL, Far, all_rotated_once};
use super::*;

#[tokio::test(start_paused = true)]
async fn two_processes_with_one_campaign_prepare_no_scope_twice_and_take_no_longer_than_one() {
    let mut took = Vec::new();
    for two in [false, true] {
        let (world, ids) = world_of(400).await;
        let (one, other) = (Far::new(&world).await, Far::new(&world).await);
        let options = CampaignOptions::new("c").concurrency(64);
        let start = Instant::now();
        let mut seen = Vec::new();
        let run = one.kms.rotate_all(&options, Rewrap::No, |_| {});
        if two {
            let second = other
                .kms
                .rotate_all(&options, Rewrap::No, |now| seen.push(now.done));
            let (first, second) = tokio::join!(run, second);
            assert!(matches!(first.unwrap(), CampaignOutcome::Started(_)));
            let second = second.unwrap();
            assert!(matches!(second, CampaignOutcome::CarriedOn(_)));
            assert_eq!(second.report().unwrap().done, 400);
            assert_eq!(seen.last(), Some(&400));
        } else {
            let _ = run.await.unwrap();
        }
        took.push(start.elapsed());
        assert_eq!(one.root_calls() + other.root_calls(), 400);
        all_rotated_once(&world, &ids).await;
    }
    assert!(took[1] <= took[0] + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_waits_goes_on_at_once_when_the_other_is_stopped() {
    let (world, ids) = world_of(40).await;
    let (one, other) = (Far::new(&world).await, Far::new(&world).await);
    let options = CampaignOptions::new("c").batch_size(4);
    let mut run = Box::pin(one.kms.rotate_all(&options, Rewrap::No, |_| {}));
    tokio::select! {
        _ = &mut run => panic!("it was to be stopped"),
        () = tokio::time::sleep(CALL * 3) => {}
    }
    let waiting = other.kms.rotate_all(&options, Rewrap::No, |_| {});
    let mut waiting = Box::pin(waiting);
    let wait = async {
        tokio::select! {
            _ = &mut waiting => panic!("it was to wait"),
            () = tokio::time::sleep(CALL) => {}
        }
        assert_eq!(other.root_calls(), 0);
        drop(run);
        let start = Instant::now();
        let outcome = waiting.await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(2));
        outcome
    };
    let outcome = wait.await;
    assert_eq!(outcome.report().unwrap().done, 40);
    all_rotated_once(&world, &ids).await;
}

#[tokio::test(start_paused = true)]
async fn a_campaign_whose_process_was_killed_is_carried_on_when_its_lease_has_run_out() {
    for (lease, at_least, at_most) in [(None, 8.0, 11.0), (Some(1), 0.5, 1.5)] {
        let (world, ids) = world_of(12).await;
        let (one, other) = (Far::new(&world).await, Far::new(&world).await);
        // Who is killed releases nothing.
        let never = Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
        one.repository
            .inject(RepositoryMethod::ReleaseCampaign, When::Always, never);
        let mut options = CampaignOptions::new("c").batch_size(4).concurrency(4);
        if let Some(seconds) = lease {
            options = options.lease(Duration::from_secs(seconds));
        }
        tokio::select! {
            _ = one.kms.rotate_all(&options, Rewrap::No, |_| {}) => panic!("it was to be killed"),
            () = tokio::time::sleep(CALL * 2) => {}
        }
        let start = Instant::now();
        let outcome = other
            .kms
            .rotate_all(&options, Rewrap::No, |_| {})
            .await
            .unwrap();
        assert!(matches!(outcome, CampaignOutcome::CarriedOn(_)));
        let waited = start.elapsed().as_secs_f64();
        assert!((at_least..=at_most).contains(&waited), "{waited} s");
        assert_eq!(outcome.report().unwrap().done, 12);
        all_rotated_once(&world, &ids).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_longer_than_the_lease_keeps_the_campaign() {
    let (world, ids) = world_of(3).await;
    let (one, other) = (Far::new(&world).await, Far::new(&world).await);
    let slow = Fault::Delay(Duration::from_secs(60));
    one.root.inject(WrapperMethod::Encrypt, When::Next, slow);
    let options = CampaignOptions::new("c");
    let (first, second) = tokio::join!(
        one.kms.rotate_all(&options, Rewrap::No, |_| {}),
        other.kms.rotate_all(&options, Rewrap::No, |_| {}),
    );
    let _ = (first.unwrap(), second.unwrap());
    assert_eq!((one.root_calls(), other.root_calls()), (3, 0));
    all_rotated_once(&world, &ids).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_lost_the_campaign_writes_nothing_more() {
    let (world, ids) = world_of(12).await;
    let (one, other) = (Far::new(&world).await, Far::new(&world).await);
    // It hangs before its second batch, longer than its lease, and can't keep it.
    let gate = Gate::new();
    let hang = Fault::PauseBefore(gate.clone());
    one.repository
        .inject(RepositoryMethod::ApplyStep, When::Nth(2), hang);
    for call in 1..=5 {
        let away = Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
        one.repository
            .inject(RepositoryMethod::HoldCampaign, When::Nth(call), away);
    }
    let options = CampaignOptions::new("c")
        .batch_size(4)
        .lease(Duration::from_secs(1));
    // The other takes over, and is still planning when the first one wakes up.
    let slow = Fault::Delay(Duration::from_secs(30));
    other
        .root
        .inject(WrapperMethod::Encrypt, When::Always, slow);
    let second = async {
        gate.reached().await;
        other.kms.rotate_all(&options, Rewrap::No, |_| {}).await
    };
    let wake = async {
        gate.reached().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(other.root_calls(), 8);
        gate.open();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let campaigns = world.kms.campaigns().await.unwrap();
        assert_eq!(campaigns[0].done, 4, "the second batch was written");
    };
    let first = one.kms.rotate_all(&options, Rewrap::No, |_| {});
    let (first, second, ()) = tokio::join!(first, second, wake);
    assert_eq!(first.unwrap().report().unwrap().done, 12);
    assert_eq!(second.unwrap().report().unwrap().done, 12);
    all_rotated_once(&world, &ids).await;
}
