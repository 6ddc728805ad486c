//! Campaigns: progress over many scopes, moved in the transaction of the batch it stands for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kms_core::{
    Advance, CampaignFailure, CampaignState, CampaignStep, ChangeSet, ErrorKind, Hold, Lease,
    NewCampaign, Outcome, Proof, Repository, Result, ScopeId, ScopeRows,
};

use super::Fixture;
use super::setup::{Picture, apply, assert_same, many_with_keys, rows, second_repository};
use crate::change_sets;

/// Starting a campaign twice finds it again, with what was stored the first time, wherever it is.
pub async fn starting_a_campaign_twice_finds_it_again(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = new_campaign("2027-Q1 ä");
    let state = repository.start_campaign(&new, &lease()).await.unwrap();
    assert_eq!(
        (&*state.kind, &state.parameters),
        (new.kind, &new.parameters)
    );
    assert_eq!(
        (state.cursor, state.done, state.finish_time),
        (None, 0, None)
    );
    assert!(state.failures.is_empty());

    // Whether the parameters fit is for the engine to say: it gets what is stored.
    let other = NewCampaign {
        kind: "rewrap",
        parameters: "other".to_owned(),
        ..new.clone()
    };
    let state = repository.start_campaign(&other, &lease()).await.unwrap();
    assert_eq!(
        (&*state.kind, &state.parameters),
        (new.kind, &new.parameters)
    );

    let keys = many_with_keys(fixture, "o_", 1).await.remove(0);
    let step = advance(&new, None, &keys.scope);
    let _ = step_ok(&*repository, [change_sets::rotate(&keys)], step).await;
    let state = repository.start_campaign(&new, &lease()).await.unwrap();
    assert_eq!((state.cursor, state.done), (Some(keys.scope), 1));
}

/// Several processes that start one campaign at once all find the same.
pub async fn starting_a_campaign_at_once_makes_one(fixture: &dyn Fixture) {
    let starting = (0..4).map(|_| {
        let repository = fixture.repository();
        tokio::spawn(async move {
            repository
                .start_campaign(&new_campaign("c"), &lease())
                .await
        })
    });
    for state in join_all(starting).await {
        let state = state.unwrap().unwrap();
        assert_eq!((state.cursor, state.done), (None, 0));
    }
}

/// The cursor moves with the batch, and the count by what was applied.
pub async fn the_cursor_moves_with_the_batch(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let keys = many_with_keys(fixture, "o_", 4).await;
    let first = advance(&new, None, &keys[1].scope);
    let _ = step_ok(
        &*repository,
        keys[..2].iter().map(change_sets::rotate),
        first,
    )
    .await;
    let state = state_of(&*repository, &new).await;
    assert_eq!(
        (state.cursor.as_ref(), state.done),
        (Some(&keys[1].scope), 2)
    );

    let second = advance(&new, Some(&keys[1].scope), &keys[3].scope);
    let _ = step_ok(
        &*repository,
        keys[2..].iter().map(change_sets::rotate),
        second,
    )
    .await;
    let state = state_of(&*repository, &new).await;
    assert_eq!(
        (state.cursor.as_ref(), state.done),
        (Some(&keys[3].scope), 4)
    );
    assert!(state.finish_time.is_none() && state.failures.is_empty());
    for before in &keys {
        assert_eq!(
            rows(&*repository, &before.scope)
                .await
                .root_key_versions
                .len(),
            2
        );
    }
}

/// A step from where the cursor is not, or no longer is, is a conflict, and writes nothing.
pub async fn a_step_from_elsewhere_is_a_conflict_and_writes_nothing(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let keys = many_with_keys(fixture, "o_", 4).await;
    let there = advance(&new, Some(&keys[0].scope), &keys[1].scope);
    refused_step(&*repository, &new, &keys[1], there).await;

    let to = advance(&new, None, &keys[0].scope);
    let _ = step_ok(&*repository, [change_sets::rotate(&keys[0])], to).await;
    for from in [None, Some(&keys[1].scope)] {
        let step = advance(&new, from, &keys[1].scope);
        refused_step(&*repository, &new, &keys[1], step).await;
        let step = CampaignStep {
            advance: Advance::Finish {
                from: from.cloned(),
            },
            ..advance(&new, None, &keys[1].scope)
        };
        refused_step(&*repository, &new, &keys[1], step).await;
    }
}

/// A step of a campaign that was not started is refused, and writes nothing.
pub async fn a_step_of_an_unknown_campaign_is_refused(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = many_with_keys(fixture, "o_", 1).await.remove(0);
    let before = Picture::take(&*repository).await;
    let step = advance(&new_campaign("unknown"), None, &keys.scope);
    let _ = step_with(&*repository, [change_sets::rotate(&keys)], step)
        .await
        .unwrap_err();
    before.assert_unchanged(&*repository).await;
}

/// Of two processes that carry on one campaign from the same place, one is told that the other did, and
/// no scope is rotated twice.
pub async fn of_two_steps_from_one_place_one_is_a_conflict(fixture: &dyn Fixture) {
    let here = fixture.repository();
    let there = second_repository(fixture).await;
    let new = started(&*here, "c").await;
    let keys = many_with_keys(fixture, "o_", 10).await;
    let mut from = None;
    for keys in &keys {
        let stepping = [&here, &there].map(|repository| {
            let repository = Arc::clone(repository);
            let step = advance(&new, from, &keys.scope);
            let change = change_sets::rotate(keys);
            tokio::spawn(async move { step_with(&*repository, [change], step).await })
        });
        let results: Vec<_> = join_all(stepping).await;
        let mut refusals = Vec::new();
        for result in results {
            match result.unwrap() {
                Ok(outcomes) => assert!(outcomes[0].is_ok(), "{outcomes:?}"),
                Err(error) => refusals.push(error),
            }
        }
        assert_eq!(refusals.len(), 1, "one is refused: {refusals:?}");
        assert_eq!(refusals[0].kind(), ErrorKind::Conflict, "{}", refusals[0]);
        assert_eq!(rows(&*here, &keys.scope).await.root_key_versions.len(), 2);
        from = Some(&keys.scope);
    }
    assert_eq!(state_of(&*here, &new).await.done, 10);
}

/// A change that is refused is recorded as the scope's failure, with what its outcome says; the cursor
/// moves on, and the count by the others.
pub async fn a_refused_change_is_recorded_and_does_not_stop_the_step(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let keys = many_with_keys(fixture, "o_", 3).await;
    let mut stale = keys[1].clone();
    stale.root_key_versions[0].key.push(1);
    let changes = [&keys[0], &stale, &keys[2]].map(change_sets::rotate);
    let step = advance(&new, None, &keys[2].scope);
    let outcomes = step_ok(&*repository, changes, step).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);

    let state = state_of(&*repository, &new).await;
    assert_eq!(
        (state.cursor.as_ref(), state.done),
        (Some(&keys[2].scope), 2)
    );
    let [failure] = &state.failures[..] else {
        panic!("one failure: {state:?}");
    };
    assert_eq!(failure.scope, keys[1].scope);
    assert_eq!(failure.kind, error.kind().name());
    assert!(!failure.message.is_empty());
    assert_same(&rows(&*repository, &keys[1].scope).await, &keys[1]);
}

/// Scopes for which no change could be prepared are recorded too; a scope has one failure, the latest.
pub async fn a_scope_has_one_failure_the_latest(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let keys = many_with_keys(fixture, "o_", 2).await;
    let first = failure(&keys[0].scope, ErrorKind::Unreachable, "first: 'quoted', ä");
    let step = CampaignStep {
        failures: vec![first.clone()],
        ..advance(&new, None, &keys[0].scope)
    };
    let _ = step_ok(&*repository, [], step).await;
    assert_eq!(state_of(&*repository, &new).await.failures, [first]);

    let second = failure(&keys[0].scope, ErrorKind::TamperedKey, "second");
    let step = CampaignStep {
        failures: vec![second.clone()],
        ..retry(&new)
    };
    let _ = step_ok(&*repository, [], step).await;
    let state = state_of(&*repository, &new).await;
    assert_eq!(state.failures, [second]);
    assert_eq!(
        (state.cursor.as_ref(), state.done),
        (Some(&keys[0].scope), 0)
    );
}

/// A scope that failed and is tried again with success counts, and its failure goes; one that is void
/// goes without counting.
pub async fn a_failure_goes_when_its_scope_is_done_or_not_wanted(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let keys = many_with_keys(fixture, "o_", 3).await;
    all_failed(&*repository, &new, &keys).await;

    let _ = step_ok(&*repository, [change_sets::rotate(&keys[0])], retry(&new)).await;
    let state = state_of(&*repository, &new).await;
    assert_eq!(
        (state.done, failed(&state)),
        (1, vec![&keys[1].scope, &keys[2].scope])
    );

    let step = CampaignStep {
        unchanged: vec![keys[1].scope.clone()],
        ..retry(&new)
    };
    let _ = step_ok(&*repository, [], step).await;
    let state = state_of(&*repository, &new).await;
    assert_eq!((state.done, failed(&state)), (1, vec![&keys[2].scope]));
    assert_eq!(state.cursor.as_ref(), Some(&keys[2].scope));
    assert_eq!(
        rows(&*repository, &keys[0].scope)
            .await
            .root_key_versions
            .len(),
        2
    );
}

/// Trying again a scope that is not among the failures, or no longer is, is a conflict that writes
/// nothing: another process did it already.
pub async fn trying_again_what_has_not_failed_is_a_conflict(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let keys = many_with_keys(fixture, "o_", 2).await;
    all_failed(&*repository, &new, &keys[..1]).await;
    refused_step(&*repository, &new, &keys[1], retry(&new)).await;

    let _ = step_ok(&*repository, [change_sets::rotate(&keys[0])], retry(&new)).await;
    let now = rows(&*repository, &keys[0].scope).await;
    refused_step(&*repository, &new, &now, retry(&new)).await;

    let before = Picture::take(&*repository).await;
    let late = CampaignStep {
        failures: vec![failure(&keys[0].scope, ErrorKind::Throttled, "late")],
        ..retry(&new)
    };
    let settled = CampaignStep {
        unchanged: vec![keys[0].scope.clone()],
        ..retry(&new)
    };
    for step in [late, settled] {
        let error = step_with(&*repository, [], step).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    before.assert_unchanged(&*repository).await;
    assert!(state_of(&*repository, &new).await.failures.is_empty());
}

/// A campaign is finished when every scope is done: not while some have failed. Then it takes no further step.
pub async fn a_campaign_is_finished_when_no_scope_has_failed(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let keys = many_with_keys(fixture, "o_", 2).await;
    all_failed(&*repository, &new, &keys[..1]).await;
    let from = Some(keys[0].scope.clone());
    let finish = CampaignStep {
        advance: Advance::Finish { from: from.clone() },
        ..retry(&new)
    };
    refused_step(&*repository, &new, &keys[1], finish.clone()).await;
    let state = state_of(&*repository, &new).await;
    assert_eq!(state.finish_time, None);
    assert_eq!(failed(&state), [&keys[0].scope]);

    let _ = step_ok(&*repository, [change_sets::rotate(&keys[0])], retry(&new)).await;
    let _ = step_ok(&*repository, [], finish.clone()).await;
    let state = state_of(&*repository, &new).await;
    assert!(state.finish_time.is_some() && state.failures.is_empty());
    assert_eq!((state.done, state.holder), (1, None));

    assert!(take(&*repository, &new, &lease()).await);
    refused_step(&*repository, &new, &keys[1], finish).await;
    let on = advance(&new, from.as_ref(), &keys[1].scope);
    refused_step(&*repository, &new, &keys[1], on).await;
}

/// A campaign over no scope at all finishes from its start.
pub async fn an_empty_campaign_finishes_from_its_start(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let finish = CampaignStep {
        advance: Advance::Finish { from: None },
        ..retry(&new)
    };
    let _ = step_ok(&*repository, [], finish).await;
    let state = state_of(&*repository, &new).await;
    assert_eq!((state.cursor, state.done), (None, 0));
    assert!(state.finish_time.is_some());
}

/// Campaigns don't see each other's cursor, count and failures.
pub async fn campaigns_are_apart(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let one = started(&*repository, "one").await;
    let other = started(&*repository, "other").await;
    let keys = many_with_keys(fixture, "o_", 2).await;
    all_failed(&*repository, &one, &keys).await;
    let untouched = state_of(&*repository, &other).await;
    assert_eq!((untouched.cursor, untouched.done), (None, 0));
    assert!(untouched.failures.is_empty());
    let step = advance(&other, None, &keys[0].scope);
    let _ = step_ok(&*repository, [change_sets::rotate(&keys[0])], step).await;
    let state = state_of(&*repository, &one).await;
    assert_eq!(failed(&state), [&keys[0].scope, &keys[1].scope]);
}

/// A failure may be of a scope that is deleted before or after: it stays until it is settled.
pub async fn the_failure_of_a_deleted_scope_stays_until_it_is_settled(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let new = started(&*repository, "c").await;
    let keys = many_with_keys(fixture, "o_", 1).await;
    all_failed(&*repository, &new, &keys).await;
    let deletion = change_sets::delete(&keys[0], Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    let state = state_of(&*repository, &new).await;
    assert_eq!(failed(&state), [&keys[0].scope]);

    let outcomes = step_ok(&*repository, [change_sets::rotate(&keys[0])], retry(&new)).await;
    assert_eq!(
        outcomes[0].as_ref().unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let step = CampaignStep {
        unchanged: vec![keys[0].scope.clone()],
        ..retry(&new)
    };
    let _ = step_ok(&*repository, [], step).await;
    assert!(state_of(&*repository, &new).await.failures.is_empty());
}

/// The lease that these campaigns are started with.
fn lease() -> Lease {
    Lease {
        holder: "one".to_owned(),
        length: Duration::from_secs(60),
    }
}

async fn take(repository: &dyn Repository, campaign: &NewCampaign, lease: &Lease) -> bool {
    repository
        .hold_campaign(&campaign.id, lease, Hold::Take)
        .await
        .unwrap()
}

fn new_campaign(id: &str) -> NewCampaign {
    NewCampaign {
        id: id.to_owned(),
        kind: "rotate",
        parameters: "older_than=3600;scopes='ä'".to_owned(),
        total: 7,
    }
}

async fn started(repository: &dyn Repository, id: &str) -> NewCampaign {
    let new = new_campaign(id);
    let _ = repository.start_campaign(&new, &lease()).await.unwrap();
    new
}

async fn state_of(repository: &dyn Repository, campaign: &NewCampaign) -> CampaignState {
    repository.start_campaign(campaign, &lease()).await.unwrap()
}

fn failed(state: &CampaignState) -> Vec<&ScopeId> {
    let mut scopes: Vec<_> = state.failures.iter().map(|known| &known.scope).collect();
    scopes.sort();
    scopes
}

fn failure(scope: &ScopeId, kind: ErrorKind, message: &str) -> CampaignFailure {
    CampaignFailure {
        scope: scope.clone(),
        kind: kind.name().to_owned(),
        message: message.to_owned(),
    }
}

/// Moves the cursor from the start past these scopes, all of which failed.
async fn all_failed(repository: &dyn Repository, campaign: &NewCampaign, keys: &[ScopeRows]) {
    let last = &keys.last().expect("a scope").scope;
    let step = CampaignStep {
        failures: keys
            .iter()
            .map(|keys| failure(&keys.scope, ErrorKind::Unreachable, "unreachable"))
            .collect(),
        ..advance(campaign, None, last)
    };
    let _ = step_ok(repository, [], step).await;
}

fn advance(campaign: &NewCampaign, from: Option<&ScopeId>, to: &ScopeId) -> CampaignStep {
    CampaignStep {
        advance: Advance::To {
            from: from.cloned(),
            to: to.clone(),
        },
        ..retry(campaign)
    }
}

fn retry(campaign: &NewCampaign) -> CampaignStep {
    CampaignStep {
        campaign: campaign.id.clone(),
        lease: lease(),
        advance: Advance::Retry,
        failures: Vec::new(),
        unchanged: Vec::new(),
    }
}

async fn step_with(
    repository: &dyn Repository,
    changes: impl IntoIterator<Item = ChangeSet>,
    step: CampaignStep,
) -> Result<Vec<Outcome>> {
    repository
        .apply_step(changes.into_iter().collect(), step)
        .await
}

async fn step_ok(
    repository: &dyn Repository,
    changes: impl IntoIterator<Item = ChangeSet>,
    step: CampaignStep,
) -> Vec<Outcome> {
    step_with(repository, changes, step).await.unwrap()
}

/// A step with a rotation of these keys, which must be a conflict as a whole: neither keys nor campaign
/// change.
async fn refused_step(
    repository: &dyn Repository,
    campaign: &NewCampaign,
    keys: &ScopeRows,
    step: CampaignStep,
) {
    let picture = Picture::take(repository).await;
    let before = state_of(repository, campaign).await;
    let error = step_with(repository, [change_sets::rotate(keys)], step)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    picture.assert_unchanged(repository).await;
    let after = state_of(repository, campaign).await;
    assert_eq!((&after.cursor, after.done), (&before.cursor, before.done));
    assert_eq!(
        (after.finish_time, &after.failures),
        (before.finish_time, &before.failures)
    );
}
