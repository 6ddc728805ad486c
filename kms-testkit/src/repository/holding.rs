//! Who holds a campaign, and what is told about campaigns.

use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use kms_core::{
    Advance, CampaignFailure, CampaignStep, ErrorKind, Hold, Lease, NewCampaign, Repository,
    ScopeFilter, ScopeId,
};

use super::Fixture;
use super::setup::{Picture, many_with_keys, second_repository};
use crate::change_sets;

/// Whoever starts a campaign holds it; nobody else takes it while that lease lasts.
pub async fn whoever_starts_a_campaign_holds_it(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let other = second_repository(fixture).await;
    let state = start(&*repository, &lease("one", LONG)).await;
    assert_eq!(state.holder.as_deref(), Some("one"));
    let state = start(&*other, &lease("two", LONG)).await;
    assert_eq!(state.holder.as_deref(), Some("one"));
    assert!(!hold(&*other, &lease("two", LONG), Hold::Take).await);
    assert!(!hold(&*other, &lease("two", LONG), Hold::Keep).await);
    assert!(hold(&*repository, &lease("one", LONG), Hold::Keep).await);
    assert!(hold(&*repository, &lease("one", LONG), Hold::Take).await);
}

/// Of several that take a campaign at once, one holds it.
pub async fn of_several_that_take_a_campaign_one_holds_it(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let _ = start(&*repository, &lease("one", LONG)).await;
    repository.release_campaign("c", "one").await.unwrap();
    let taking = (0..4).map(|n| {
        let repository = fixture.repository();
        tokio::spawn(
            async move { hold(&*repository, &lease(&n.to_string(), LONG), Hold::Take).await },
        )
    });
    let taken = join_all(taking).await;
    let taken = taken.into_iter().filter(|held| *held.as_ref().unwrap());
    assert_eq!(taken.count(), 1);
}

/// A lease that was released frees the campaign at once. Only its holder can release it.
pub async fn a_released_campaign_is_free(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let _ = start(&*repository, &lease("one", LONG)).await;
    repository.release_campaign("c", "two").await.unwrap();
    assert!(!hold(&*repository, &lease("two", LONG), Hold::Take).await);
    repository.release_campaign("c", "one").await.unwrap();
    assert!(!hold(&*repository, &lease("one", LONG), Hold::Keep).await);
    assert!(hold(&*repository, &lease("two", LONG), Hold::Take).await);
    repository.release_campaign("unknown", "one").await.unwrap();
    let one = lease("one", LONG);
    let unknown = repository.hold_campaign("unknown", &one, Hold::Take);
    assert!(!unknown.await.unwrap());
}

/// A lease that ran out frees the campaign for others; until one takes it, its holder keeps it.
pub async fn a_lease_that_ran_out_frees_the_campaign(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let short = lease("one", Duration::from_millis(20));
    let _ = start(&*repository, &short).await;
    let begin = Instant::now();
    while !hold(
        &*repository,
        &lease("two", Duration::from_millis(1)),
        Hold::Take,
    )
    .await
    {
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!hold(&*repository, &short, Hold::Keep).await);
    tokio::time::sleep(Duration::from_millis(20)).await;
    // Nobody has taken it.
    assert!(hold(&*repository, &lease("two", LONG), Hold::Keep).await);
    assert!(!hold(&*repository, &short, Hold::Take).await);
}

/// A step by a process that does not hold the campaign any more is a conflict and writes nothing; a step by its
/// holder lets the lease begin anew.
pub async fn a_step_without_the_campaign_is_a_conflict_and_writes_nothing(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = many_with_keys(fixture, "o_", 2).await;
    let short = lease("one", Duration::from_millis(1));
    let _ = start(&*repository, &short).await;
    let to = step(
        &lease("one", LONG),
        Advance::To {
            from: None,
            to: keys[0].scope.clone(),
        },
    );
    let rotation = change_sets::rotate(&keys[0]);
    let _ = repository.apply_step([rotation].into(), to).await.unwrap();
    assert!(!hold(&*repository, &lease("two", LONG), Hold::Take).await);

    repository.release_campaign("c", "one").await.unwrap();
    let on = Advance::To {
        from: Some(keys[0].scope.clone()),
        to: keys[1].scope.clone(),
    };
    for holder in [None, Some("two")] {
        if let Some(holder) = holder {
            assert!(hold(&*repository, &lease(holder, LONG), Hold::Take).await);
        }
        let picture = Picture::take(&*repository).await;
        for advance in [
            on.clone(),
            Advance::Retry,
            Advance::Finish {
                from: Some(keys[0].scope.clone()),
            },
        ] {
            let changes = [change_sets::rotate(&keys[1])].into();
            let late = step(&lease("one", LONG), advance);
            let error = repository.apply_step(changes, late).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
        picture.assert_unchanged(&*repository).await;
        let state = repository.campaign("c").await.unwrap().unwrap();
        assert_eq!(
            (state.done, state.cursor.as_ref()),
            (1, Some(&keys[0].scope))
        );
        assert_eq!((state.holder.as_deref(), state.finish_time), (holder, None));
    }
}

/// A campaign is found by its id, with what was stored.
pub async fn a_campaign_is_found_by_its_id(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    assert!(repository.campaign("c").await.unwrap().is_none());
    let _ = start(&*repository, &lease("one", LONG)).await;
    let state = repository.campaign("c").await.unwrap().unwrap();
    assert_eq!((&*state.kind, &*state.parameters), ("rotate", "p"));
    assert_eq!((state.total, state.done, state.unchanged), (2, 0, 0));
    assert!(repository.campaign("C").await.unwrap().is_none());
}

/// The list of campaigns says of each how far it is, and when it was begun and finished.
pub async fn campaigns_are_listed_with_how_far_they_are(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    assert!(repository.campaigns().await.unwrap().is_empty());
    let keys = many_with_keys(fixture, "o_", 1).await;
    let one = lease("one", LONG);
    let _ = start(&*repository, &one).await;
    let other = NewCampaign {
        id: "other".to_owned(),
        kind: "rewrap",
        ..new()
    };
    let _ = repository.start_campaign(&other, &one).await.unwrap();
    let to = ScopeId::new("o_9").unwrap();
    let first = CampaignStep {
        failures: vec![CampaignFailure {
            scope: to.clone(),
            kind: "TimedOut".to_owned(),
            message: "m".to_owned(),
        }],
        unchanged: vec![ScopeId::new("o_8").unwrap()],
        ..step(
            &one,
            Advance::To {
                from: None,
                to: to.clone(),
            },
        )
    };
    let rotation = [change_sets::rotate(&keys[0])].into();
    let _ = repository.apply_step(rotation, first).await.unwrap();
    let find = |id: &'static str| {
        let campaigns = repository.campaigns();
        async move {
            let campaigns = campaigns.await.unwrap();
            assert_eq!(campaigns.len(), 2);
            campaigns.into_iter().find(|known| known.id == id).unwrap()
        }
    };
    let campaign = find("c").await;
    assert_eq!((&*campaign.kind, &*campaign.parameters), ("rotate", "p"));
    let counts = (
        campaign.done,
        campaign.unchanged,
        campaign.failed,
        campaign.total,
    );
    assert_eq!(counts, (1, 1, 1, 2));
    assert_eq!(campaign.finish_time, None);
    assert_recent(campaign.create_time);
    assert_recent(campaign.update_time);

    let again = CampaignStep {
        unchanged: vec![to.clone()],
        ..step(&one, Advance::Retry)
    };
    let _ = repository.apply_step([].into(), again).await.unwrap();
    let finish = step(&one, Advance::Finish { from: Some(to) });
    let _ = repository.apply_step([].into(), finish).await.unwrap();
    let campaign = find("c").await;
    let counts = (
        campaign.done,
        campaign.unchanged,
        campaign.failed,
        campaign.total,
    );
    assert_eq!(counts, (1, 2, 0, 2));
    assert_recent(campaign.finish_time.unwrap());
    let other = find("other").await;
    assert_eq!(
        (&*other.kind, other.done, other.finish_time),
        ("rewrap", 0, None)
    );
}

/// Scopes are counted by the filter that pages through them.
pub async fn scopes_are_counted_as_they_are_paged_through(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut filter = ScopeFilter::default();
    assert_eq!(repository.count_scopes(&filter).await.unwrap(), 0);
    let keys = many_with_keys(fixture, "o_", 3).await;
    assert_eq!(repository.count_scopes(&filter).await.unwrap(), 3);
    filter.scopes = Some(vec![
        keys[1].scope.clone(),
        ScopeId::new("unknown").unwrap(),
    ]);
    assert_eq!(repository.count_scopes(&filter).await.unwrap(), 1);
    filter.scopes = None;
    filter.older_than = Some(Duration::from_secs(3600));
    assert_eq!(repository.count_scopes(&filter).await.unwrap(), 0);
    filter.older_than = Some(Duration::ZERO);
    assert_eq!(repository.count_scopes(&filter).await.unwrap(), 3);
}

const LONG: Duration = Duration::from_secs(3600);

fn lease(holder: &str, length: Duration) -> Lease {
    Lease {
        holder: holder.to_owned(),
        length,
    }
}

fn new() -> NewCampaign {
    NewCampaign {
        id: "c".to_owned(),
        kind: "rotate",
        parameters: "p".to_owned(),
        total: 2,
    }
}

async fn start(repository: &dyn Repository, lease: &Lease) -> kms_core::CampaignState {
    repository.start_campaign(&new(), lease).await.unwrap()
}

async fn hold(repository: &dyn Repository, lease: &Lease, hold: Hold) -> bool {
    repository.hold_campaign("c", lease, hold).await.unwrap()
}

fn step(lease: &Lease, advance: Advance) -> CampaignStep {
    CampaignStep {
        campaign: "c".to_owned(),
        lease: lease.clone(),
        advance,
        failures: Vec::new(),
        unchanged: Vec::new(),
    }
}

fn assert_recent(time: SystemTime) {
    let age = match time.duration_since(SystemTime::now()) {
        Ok(ahead) => ahead,
        Err(behind) => behind.duration(),
    };
    assert!(age < Duration::from_secs(60), "{age:?}");
}
