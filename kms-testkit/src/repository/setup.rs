//! What properties begin with and compare.

use std::sync::Arc;

use kms_core::{
    ChangeSet, CollectionVersion, DataKeyRow, DataKeyVersionRow, ErrorKind, Outcome, Purpose,
    Repository, RootKeyVersionRow, ScopeFilter, ScopeId, ScopeRows,
};

use super::{Feature, Fixture};
use crate::change_sets;

pub(super) const DATABASE: Purpose = Purpose::from_static("database");
pub(super) const OIDC: Purpose = Purpose::from_static("oidc");

/// A scope of the application, without keys yet.
pub(super) async fn new_scope(fixture: &dyn Fixture, id: &str) -> ScopeId {
    let scope = ScopeId::new(id).unwrap();
    fixture.add_scope(&scope).await;
    scope
}

/// A scope with a root key and data keys for `database` and `oidc`.
pub(super) async fn with_keys(fixture: &dyn Fixture, id: &str) -> ScopeRows {
    let scope = new_scope(fixture, id).await;
    let change = change_sets::create(&scope, &[DATABASE, OIDC]);
    applied(&*fixture.repository(), change).await
}

/// Many scopes with keys, `prefix` and a number each, created in one batch.
pub(super) async fn many_with_keys(
    fixture: &dyn Fixture,
    prefix: &str,
    count: usize,
) -> Vec<ScopeRows> {
    let mut scopes = Vec::new();
    for number in 0..count {
        scopes.push(new_scope(fixture, &format!("{prefix}{number:04}")).await);
    }
    let changes: Arc<[_]> = scopes
        .iter()
        .map(|scope| change_sets::create(scope, &[DATABASE]))
        .collect();
    let repository = fixture.repository();
    for outcome in repository.apply(changes).await.unwrap() {
        let _ = outcome.unwrap();
    }
    all_rows(&*repository, &scopes).await
}

/// A repository to act at the same time as the fixture's: as another process would, or where there is
/// none, as another task.
pub(super) async fn second_repository(fixture: &dyn Fixture) -> Arc<dyn Repository> {
    if fixture.unsupported().contains(&Feature::AnotherRepository) {
        fixture.repository()
    } else {
        fixture.another_repository().await
    }
}

pub(super) async fn apply(repository: &dyn Repository, change: ChangeSet) -> Outcome {
    let mut outcomes = repository.apply(Arc::new([change])).await.unwrap();
    assert_eq!(outcomes.len(), 1, "one outcome for each change set");
    outcomes.remove(0)
}

/// Applies it, which must succeed, and gives the scope's rows after it.
pub(super) async fn applied(repository: &dyn Repository, change: ChangeSet) -> ScopeRows {
    let scope = change.scope.clone();
    let operation = change.operation;
    let receipt = apply(repository, change).await.unwrap();
    assert_eq!((receipt.operation(), receipt.scope()), (operation, &scope));
    rows(repository, &scope).await
}

/// Applies it, which must be refused with this kind and change nothing.
pub(super) async fn refused(
    repository: &dyn Repository,
    change: ChangeSet,
    kind: ErrorKind,
) -> kms_core::Error {
    let before = Picture::take(repository).await;
    let error = apply(repository, change).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    before.assert_unchanged(repository).await;
    error
}

pub(super) async fn find_rows(repository: &dyn Repository, scope: &ScopeId) -> Option<ScopeRows> {
    let mut snapshot = repository.load(std::slice::from_ref(scope)).await.unwrap();
    assert!(snapshot.scopes.len() <= 1, "only what was asked for");
    let rows = snapshot.scopes.pop();
    if let Some(rows) = &rows {
        assert_eq!(rows.scope, *scope);
    }
    rows
}

pub(super) async fn rows(repository: &dyn Repository, scope: &ScopeId) -> ScopeRows {
    find_rows(repository, scope)
        .await
        .unwrap_or_else(|| panic!("{scope} has keys"))
}

/// The rows of these scopes, in the order of the list.
pub(super) async fn all_rows(repository: &dyn Repository, scopes: &[ScopeId]) -> Vec<ScopeRows> {
    let mut found = repository.load(scopes).await.unwrap().scopes;
    assert_eq!(found.len(), scopes.len());
    found.sort_by_key(|rows| scopes.iter().position(|scope| *scope == rows.scope));
    found
}

pub(super) async fn collection(repository: &dyn Repository) -> CollectionVersion {
    repository
        .collection_version(None)
        .await
        .unwrap()
        .collection
}

/// All that a repository holds, to see that nothing has changed.
pub(super) struct Picture {
    collection: CollectionVersion,
    scopes: Vec<ScopeRows>,
}

impl Picture {
    pub(super) async fn take(repository: &dyn Repository) -> Self {
        let scopes = repository
            .scopes(&ScopeFilter::default(), None, 10_000)
            .await
            .unwrap();
        Self {
            collection: collection(repository).await,
            scopes: all_rows(repository, &scopes).await,
        }
    }

    pub(super) async fn assert_unchanged(&self, repository: &dyn Repository) {
        let now = Self::take(repository).await;
        assert_eq!(now.collection, self.collection, "the collection version");
        assert_eq!(now.scopes.len(), self.scopes.len(), "the scopes");
        for (now, before) in now.scopes.iter().zip(&self.scopes) {
            assert_same(now, before);
        }
    }
}

#[track_caller]
pub(super) fn assert_same(left: &ScopeRows, right: &ScopeRows) {
    assert!(left.same_keys(right), "{left:#?}\nis not\n{right:#?}");
}

pub(super) fn data_key<'a>(rows: &'a ScopeRows, purpose: &Purpose) -> &'a DataKeyRow {
    rows.data_keys
        .iter()
        .find(|key| key.purpose == *purpose)
        .unwrap_or_else(|| panic!("a data key for {purpose}"))
}

/// A version of the data key for `database`, by its place.
pub(super) fn data_version(rows: &ScopeRows, position: usize) -> &DataKeyVersionRow {
    &data_key(rows, &DATABASE).versions[position]
}

pub(super) fn data_versions(rows: &ScopeRows) -> impl Iterator<Item = &DataKeyVersionRow> {
    rows.data_keys.iter().flat_map(|key| &key.versions)
}

pub(super) fn newest_root(rows: &ScopeRows) -> &RootKeyVersionRow {
    rows.root_key_versions
        .last()
        .expect("a root key has a version")
}

/// Checks what must hold of any scope at any time: numbers from 1 on without a gap (as long as nothing
/// was revoked), and every wrapping root key version there.
#[track_caller]
pub(super) fn assert_consistent(rows: &ScopeRows) {
    assert_numbered(rows.root_key_versions.iter().map(|row| row.version));
    for key in &rows.data_keys {
        assert_numbered(key.versions.iter().map(|row| row.version));
    }
    for row in data_versions(rows) {
        assert!(
            rows.root_key_versions
                .iter()
                .any(|root| root.id == row.root_key_version),
            "{} is wrapped by a root key version of its scope",
            row.id
        );
    }
}

#[track_caller]
fn assert_numbered(numbers: impl Iterator<Item = i64>) {
    let numbers: Vec<_> = numbers.collect();
    let expected: Vec<_> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "consecutive, from 1, ascending");
    assert!(!numbers.is_empty(), "at least one version");
}
