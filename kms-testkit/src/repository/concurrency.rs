//! Many tasks at once on few scopes: nothing is lost, nothing waits for ever.

use std::sync::Arc;

use futures_util::future::join_all;
use kms_core::{ChangeSet, ErrorKind, Purpose, Repository, ScopeId, ScopeRows};

use super::Fixture;
use super::setup::{
    all_rows, apply, assert_consistent, collection, data_versions, rows, second_repository,
    with_keys,
};
use crate::change_sets;

const TASKS: usize = 32;
const SCOPES: usize = 8;
const CHANGES_PER_TASK: usize = 3;

/// What a task did, to be found again in the rows.
#[derive(Default)]
struct Done {
    rotations: Vec<(ScopeId, ChangeSet)>,
    data_keys: Vec<(ScopeId, Purpose)>,
    changes: i64,
}

/// Thirty-two tasks rotate, rewrap and reconcile eight scopes, each preparing anew on a conflict. At the
/// end every version that was added is there, numbers are consecutive, and the collection version has
/// moved at least once per change.
pub async fn many_tasks_at_once_lose_no_change(fixture: &dyn Fixture) {
    let repositories = [fixture.repository(), second_repository(fixture).await];
    let mut scopes = Vec::new();
    for number in 0..SCOPES {
        scopes.push(with_keys(fixture, &format!("o_{number}")).await.scope);
    }
    let repository = fixture.repository();
    let before = collection(&*repository).await;
    let tasks = (0..TASKS).map(|task| {
        let repository = Arc::clone(&repositories[task % repositories.len()]);
        let scopes = scopes.clone();
        tokio::spawn(async move { work(&*repository, &scopes, task).await })
    });
    let mut done = Vec::new();
    for task in join_all(tasks).await {
        done.push(task.unwrap());
    }

    let changes: i64 = done.iter().map(|task| task.changes).sum();
    assert_eq!(changes, i64::try_from(TASKS * CHANGES_PER_TASK).unwrap());
    let after = collection(&*repository).await;
    assert!(
        after.version >= before.version + changes,
        "a bump per change"
    );
    for scope in &scopes {
        let found = rows(&*repository, scope).await;
        assert_consistent(&found);
        let rotations: Vec<_> = done
            .iter()
            .flat_map(|task| &task.rotations)
            .filter(|(rotated, _)| rotated == scope)
            .collect();
        assert_eq!(found.root_key_versions.len(), 1 + rotations.len());
        for (_, rotation) in rotations {
            assert_rotation_there(&found, rotation);
        }
        let data_keys = done
            .iter()
            .flat_map(|task| &task.data_keys)
            .filter(|(reconciled, _)| reconciled == scope)
            .count();
        assert_eq!(found.data_keys.len(), 2 + data_keys);
    }
}

async fn work(repository: &dyn Repository, scopes: &[ScopeId], task: usize) -> Done {
    let mut done = Done::default();
    for round in 0..CHANGES_PER_TASK {
        let scope = &scopes[(task + round * 3) % scopes.len()];
        // Every task adds a purpose of its own, so that no two mean the same data key.
        let purpose = Purpose::new(format!("purpose of {task} in {round}")).unwrap();
        let change = loop {
            let keys = rows(repository, scope).await;
            let change = match (task + round) % 4 {
                0 => change_sets::rotate(&keys),
                1 => change_sets::rotate_and_rewrap(&keys),
                2 => change_sets::rewrap(&keys),
                _ => change_sets::reconcile(&keys, std::slice::from_ref(&purpose)),
            };
            match apply(repository, change.clone()).await {
                Ok(_) => break change,
                // The time limit of the property bounds this.
                Err(error) if error.is_retryable() => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        done.changes += 1;
        if !change.insert.root_key_versions.is_empty() {
            done.rotations.push((scope.clone(), change));
        } else if !change.insert.data_keys.is_empty() {
            done.data_keys.push((scope.clone(), purpose));
        }
    }
    done
}

#[track_caller]
fn assert_rotation_there(found: &ScopeRows, rotation: &ChangeSet) {
    for new in &rotation.insert.root_key_versions {
        let row = found.root_key_versions.iter().find(|row| row.id == new.id);
        assert_eq!(row.map(|row| row.version), Some(new.version));
    }
    for new in &rotation.insert.data_key_versions {
        let row = data_versions(found).find(|row| row.id == new.id);
        assert_eq!(row.map(|row| row.version), Some(new.version));
    }
}

/// Batches that hold the same scopes in different orders don't deadlock: each scope's change is applied
/// or a conflict.
pub async fn batches_in_different_orders_do_not_deadlock(fixture: &dyn Fixture) {
    const ROUNDS: usize = 5;
    let repository = fixture.repository();
    let mut scopes = Vec::new();
    for number in 0..SCOPES {
        scopes.push(with_keys(fixture, &format!("o_{number}")).await.scope);
    }
    for round in 1..=ROUNDS {
        let keys = all_rows(&*repository, &scopes).await;
        let forth: Arc<[_]> = keys.iter().map(change_sets::rotate).collect();
        let back: Arc<[_]> = keys.iter().rev().map(change_sets::rotate).collect();
        let applying = [forth, back].map(|changes| {
            let repository = fixture.repository();
            tokio::spawn(async move { repository.apply(changes).await })
        });
        let mut applied = 0;
        for outcomes in join_all(applying).await {
            for outcome in outcomes.unwrap().unwrap() {
                match outcome {
                    Ok(_) => applied += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    }
                }
            }
        }
        assert_eq!(applied, SCOPES, "each scope rotated once");
        for scope in &scopes {
            let found = rows(&*repository, scope).await;
            assert_eq!(found.root_key_versions.len(), 1 + round);
            assert_consistent(&found);
        }
    }
}
