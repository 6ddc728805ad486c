//! What a campaign is called, what it tells, and what it is taken for the next time.

use std::collections::HashSet;
use std::time::SystemTime;

use kms_core::{Binding, CampaignId, Kms, PooledWrapper};

use super::far::{Far, all_rotated_once};
use super::*;

/// A process in which one root key encrypts, and the other one decrypts too.
async fn under(world: &World, new: &Arc<dyn Wrapper>, old: &Arc<dyn Wrapper>) -> Kms {
    let pool = PooledWrapper::new(Arc::clone(new))
        .with_decrypting(Arc::clone(old))
        .unwrap();
    let builder = world.builder_without_root().root_wrapper(Arc::new(pool));
    builder.build().await.unwrap()
}

#[tokio::test]
async fn a_campaign_to_another_root_key_is_not_taken_for_one_that_is_finished() {
    let (world, _) = world_of(5).await;
    let (a, b, c) = (&world.root, &support::root("b"), &support::root("c"));
    let options = CampaignOptions::new("to-new-root");
    let to_b = under(&world, b, a).await;
    let which = RewrapKeys::ForeignRoot;
    let outcome = to_b.rewrap_all(&options, which, |_| {}).await.unwrap();
    assert!(matches!(outcome, CampaignOutcome::Started(_)));
    assert_eq!(outcome.report().unwrap().done, 5);
    let again = to_b.rewrap_all(&options, which, |_| {}).await.unwrap();
    assert!(again.report().is_none());

    let to_c = under(&world, c, b).await;
    let error = to_c.rewrap_all(&options, which, |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CampaignMismatch);
    assert_eq!(to_c.census().await.unwrap().not_current, 5);
    // Without an id of its own it is another campaign, on the same day too.
    let none = CampaignOptions::default();
    let outcome = to_c.rewrap_all(&none, which, |_| {}).await.unwrap();
    assert!(matches!(outcome, CampaignOutcome::Started(_)));
    assert_eq!(outcome.report().unwrap().done, 5);
    assert_eq!(to_c.census().await.unwrap().not_current, 0);
}

#[tokio::test]
async fn a_campaign_that_was_finished_says_when_and_does_nothing() {
    let (world, ids) = world_of(5).await;
    let options = CampaignOptions::new("fixed");
    let before = SystemTime::now();
    let _ = world
        .kms
        .rotate_all(&options, Rewrap::No, |_| {})
        .await
        .unwrap();
    // A tenant that comes later is not in it.
    world.kms.create_keys(&scope("z"), &[OIDC]).await.unwrap();
    let again = world
        .kms
        .rotate_all(&options, Rewrap::No, |_| panic!("nothing is done"))
        .await
        .unwrap();
    let CampaignOutcome::AlreadyFinished { id, at } = again else {
        panic!("{again:?}");
    };
    assert_eq!(id, "fixed");
    assert!(before <= at && at <= SystemTime::now());
    all_rotated_once(&world, &ids).await;
    assert_eq!(versions(&world, &scope("z")).await, 1);
}

#[tokio::test]
async fn ids_that_are_made_tell_the_kind_and_the_date_and_one_job_has_one_a_day() {
    let (world, _) = world_of(2).await;
    let rotate = async |options: CampaignOptions| {
        let outcome = world.kms.rotate_all(&options, Rewrap::No, |_| {}).await;
        match outcome.unwrap() {
            CampaignOutcome::AlreadyFinished { id, .. } => (id, false),
            other => (other.report().unwrap().id.clone(), true),
        }
    };
    let shape = |id: &str| id.replace(|c: char| c.is_ascii_digit(), "0");
    let (monthly, started) = rotate(CampaignOptions::new(CampaignId::monthly())).await;
    assert_eq!((&*shape(&monthly), started), ("rotate-0000-00", true));
    let (daily, started) = rotate(CampaignOptions::new(CampaignId::daily())).await;
    assert_eq!((&*shape(&daily), started), ("rotate-0000-00-00", true));
    assert!(daily.starts_with(&monthly));

    let (made, started) = rotate(CampaignOptions::default()).await;
    assert!(made.starts_with(&format!("{daily}-")) && started, "{made}");
    assert_eq!(made.len(), daily.len() + 9);
    let same = rotate(CampaignOptions::default().batch_size(1)).await;
    assert_eq!(same, (made.clone(), false));
    let some = CampaignOptions::default().scopes([scope("o_001")]);
    let (other, started) = rotate(some).await;
    assert!(started && other != made);

    let options = CampaignOptions::new(CampaignId::monthly());
    let outcome = world
        .kms
        .rewrap_all(&options, RewrapKeys::All, |_| {})
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(shape(&outcome.report().unwrap().id), "rewrap-0000-00");
}

#[tokio::test]
async fn going_back_to_keys_without_binding_on_the_same_day_is_another_campaign() {
    let (world, _) = world_of(3).await;
    let none = CampaignOptions::default();
    let binding = |binding| world.builder().binding(binding).build();
    for (mode, unbound) in [(Binding::GoCompatible, 6), (Binding::Migrating, 0)] {
        let kms = binding(mode).await.unwrap();
        let outcome = kms.rewrap_all(&none, RewrapKeys::All, |_| {}).await;
        let outcome = outcome.unwrap();
        assert_eq!(outcome.report().unwrap().done, 3, "{mode:?}");
        assert_eq!(kms.census().await.unwrap().unbound, unbound);
    }
}

#[tokio::test]
async fn a_campaign_with_failures_is_not_finished_and_campaigns_are_listed() {
    let (world, ids) = world_of(7).await;
    world
        .repository
        .tamper(|scopes| scopes[3].root_key_versions[0].key[5] ^= 1);
    let options = CampaignOptions::new("c");
    let rotate = || world.kms.rotate_all(&options, Rewrap::Yes, |_| {});
    for started in [true, false] {
        let outcome = rotate().await.unwrap();
        assert_eq!(matches!(outcome, CampaignOutcome::Started(_)), started);
        let report = outcome.report().unwrap();
        assert_eq!(
            (report.done, report.failures.len(), report.total),
            (6, 1, 7)
        );
        let campaigns = world.kms.campaigns().await.unwrap();
        let [campaign] = &campaigns[..] else {
            panic!("{campaigns:?}");
        };
        assert_eq!((&*campaign.id, &*campaign.kind), ("c", "rotate"));
        let counts = (campaign.done, campaign.failed, campaign.total);
        assert_eq!(counts, (6, 1, 7));
        assert_eq!(campaign.finish_time, None);
    }
    world
        .repository
        .tamper(|scopes| scopes[3].root_key_versions[0].key[5] ^= 1);
    let _ = rotate().await.unwrap();
    let campaigns = world.kms.campaigns().await.unwrap();
    assert_eq!((campaigns[0].done, campaigns[0].failed), (7, 0));
    assert!(campaigns[0].finish_time >= Some(campaigns[0].create_time));
    all_rotated_once(&world, &ids).await;
}

#[tokio::test]
async fn progress_reaches_its_total_with_scopes_that_need_no_change() {
    let (world, ids) = world_of(23).await;
    let none = CampaignOptions::new("none").wrapped_by("another");
    let some = ids.iter().step_by(2).cloned().chain([scope("unknown")]);
    let some = CampaignOptions::new("some").scopes(some);
    for (options, total) in [(none, 23), (some, 13)] {
        let options = options.batch_size(5);
        let mut seen = Vec::new();
        let outcome = world
            .kms
            .rotate_all(&options, Rewrap::No, |now| {
                assert_eq!(now.total, total);
                seen.push(now.processed());
            })
            .await
            .unwrap();
        assert_eq!((seen[0], seen.last()), (5, Some(&total)));
        assert!(seen.is_sorted());
        assert_eq!(outcome.report().unwrap().total, total);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_list_of_scopes_is_stored_as_a_digest_and_sent_batch_by_batch() {
    let (world, ids) = world_of(400).await;
    let process = Far::new(&world).await;
    let kms = &process.kms;
    let options = |ids: &[ScopeId]| CampaignOptions::new("c").scopes(ids.iter().cloned());
    let rotate = async |ids: &[ScopeId]| {
        let options = options(ids).batch_size(40);
        kms.rotate_all(&options, Rewrap::No, |_| {}).await
    };
    let outcome = rotate(&ids).await.unwrap();
    assert_eq!(outcome.report().unwrap().done, 400);
    all_rotated_once(&world, &ids).await;
    let parameters = kms.campaigns().await.unwrap().remove(0).parameters;
    assert!(parameters.len() < 200, "{parameters}");
    assert!(parameters.contains("400"), "{parameters}");
    // One query for the rows of each batch, and none over the whole list.
    let calls = process.repository.take();
    assert_eq!((calls.scopes, calls.count_scopes, calls.load), (0, 0, 10));

    // In any order it is the same list; another one is another.
    let reversed: Vec<_> = ids.iter().rev().cloned().collect();
    assert!(rotate(&reversed).await.unwrap().report().is_none());
    let mut other: HashSet<_> = ids.iter().cloned().collect();
    other.remove(&ids[7]);
    other.insert(scope("o_x"));
    let other: Vec<_> = other.into_iter().collect();
    let error = rotate(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CampaignMismatch);
}
