//! Scopes with keys, for tests to begin with.

use std::sync::Arc;

use kms_core::{ChangeSet, Outcome, Purpose, Repository, ScopeId, ScopeRows};
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture;

pub(crate) const DATABASE: Purpose = Purpose::from_static("database");

pub(crate) fn scope(id: &str) -> ScopeId {
    ScopeId::new(id).unwrap()
}

/// Creates the application's scope row and a data key for `database`.
pub(crate) async fn with_keys(fixture: &dyn Fixture, id: &str) -> ScopeRows {
    let scope = scope(id);
    fixture.add_scope(&scope).await;
    let repository = fixture.repository();
    let _ = apply(&*repository, change_sets::create(&scope, &[DATABASE]))
        .await
        .unwrap();
    rows(&*repository, &scope).await.unwrap()
}

pub(crate) async fn apply(repository: &dyn Repository, change: ChangeSet) -> Outcome {
    let outcomes = repository.apply(Arc::new([change])).await;
    outcomes.and_then(|mut outcomes| outcomes.remove(0))
}

pub(crate) async fn rows(repository: &dyn Repository, scope: &ScopeId) -> Option<ScopeRows> {
    let snapshot = repository.load(std::slice::from_ref(scope)).await.unwrap();
    snapshot.scopes.into_iter().next()
}
