//! Paging through the scopes that have keys.

use std::collections::BTreeSet;
use std::time::Duration;

use kms_core::{Proof, Repository, ScopeFilter, ScopeId};

use super::fixture::{Feature, Fixture, can};
use super::setup::{applied, apply, many_with_keys, new_scope, newest_root, rows, with_keys};
use crate::change_sets;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Pages of any size are together all scopes that have keys, each once, and an empty page is the end.
pub async fn pages_of_any_size_are_complete_and_without_duplicates(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let mut all: BTreeSet<_> = many_with_keys(fixture, "o_", 20)
        .await
        .into_iter()
        .map(|rows| rows.scope)
        .collect();
    // Ids that a collation might take for equal, or order in its own way.
    for name in [
        "A", "a", "ä", "a\u{308}", "a b", "a-b", "ab", "Ab", "z", "日本",
    ] {
        all.insert(with_keys(fixture, name).await.scope);
    }
    let _ = new_scope(fixture, "o_without_keys").await;
    for limit in [1, 2, 3, 7, all.len() - 1, all.len(), all.len() + 1] {
        let found = page_through(&*repository, &ScopeFilter::default(), limit).await;
        let distinct: BTreeSet<_> = found.iter().cloned().collect();
        assert_eq!(distinct, all, "pages of {limit}");
        assert_eq!(
            found.len(),
            distinct.len(),
            "no scope twice in pages of {limit}"
        );
    }
}

/// Paging goes on after a scope that is gone meanwhile, and does not come back to one behind it.
pub async fn paging_goes_on_after_a_scope_that_is_gone(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let _ = many_with_keys(fixture, "o_", 9).await;
    let filter = ScopeFilter::default();
    let whole = repository.scopes(&filter, None, 100).await.unwrap();
    let cursor = &whole[3];
    let deletion = change_sets::delete(&rows(&*repository, cursor).await, Proof::Skipped);
    let _ = apply(&*repository, deletion).await.unwrap();
    let rest = repository.scopes(&filter, Some(cursor), 100).await.unwrap();
    assert_eq!(rest, whole[4..]);
}

/// A list of scopes limits the pages to those of them that have keys; an empty list to none.
pub async fn a_list_of_scopes_limits_the_pages(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let many = many_with_keys(fixture, "o_", 10).await;
    let mut listed: Vec<_> = many
        .iter()
        .step_by(2)
        .map(|rows| rows.scope.clone())
        .collect();
    let expected: BTreeSet<_> = listed.iter().cloned().collect();
    listed.push(ScopeId::new("o_unknown").unwrap());
    listed.push(listed[0].clone());
    let filter = only(listed);
    for limit in [1, 2, 100] {
        let found = page_through(&*repository, &filter, limit).await;
        assert_eq!(found.len(), expected.len(), "each once");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    assert!(
        page_through(&*repository, &only(Vec::new()), 5)
            .await
            .is_empty()
    );
}

/// An age limits the pages to scopes whose newest root key version has reached it.
pub async fn an_age_limits_the_pages(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let _ = many_with_keys(fixture, "o_", 3).await;
    assert_eq!(
        page_through(&*repository, &older_than(Duration::ZERO), 2)
            .await
            .len(),
        3
    );
    assert!(
        page_through(&*repository, &older_than(HOUR), 2)
            .await
            .is_empty()
    );
}

/// An age that nothing can have matches no scope, and is no error.
pub async fn an_age_beyond_all_time_matches_no_scope(fixture: &dyn Fixture) {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let repository = fixture.repository();
    let _ = many_with_keys(fixture, "o_", 2).await;
    for age in [10_000 * YEAR, 1_000_000 * YEAR, Duration::MAX] {
        assert!(
            page_through(&*repository, &older_than(age), 2)
                .await
                .is_empty(),
            "{age:?}"
        );
    }
}

/// The age is that of the newest root key version: an old scope that was rotated lately is not old.
pub async fn the_age_is_that_of_the_newest_root_key_version(fixture: &dyn Fixture) {
    if !can(fixture, Feature::Aging) {
        return;
    }
    let repository = fixture.repository();
    let _ = with_keys(fixture, "o_new").await;
    let old = with_keys(fixture, "o_old").await;
    let rotated = with_keys(fixture, "o_rotated").await;
    for keys in [&old, &rotated] {
        fixture.set_age(&newest_root(keys).id, 2 * HOUR).await;
    }
    let rotated = rows(&*repository, &rotated.scope).await;
    let _ = applied(&*repository, change_sets::rotate(&rotated)).await;

    let filter = older_than(HOUR);
    assert_eq!(
        page_through(&*repository, &filter, 10).await,
        std::slice::from_ref(&old.scope)
    );
    assert!(
        page_through(&*repository, &older_than(3 * HOUR), 10)
            .await
            .is_empty()
    );
    let mut both = filter;
    both.scopes = Some(vec![rotated.scope]);
    assert!(page_through(&*repository, &both, 10).await.is_empty());
}

fn only(scopes: Vec<ScopeId>) -> ScopeFilter {
    let mut filter = ScopeFilter::default();
    filter.scopes = Some(scopes);
    filter
}

fn older_than(age: Duration) -> ScopeFilter {
    let mut filter = ScopeFilter::default();
    filter.older_than = Some(age);
    filter
}

async fn page_through(
    repository: &dyn Repository,
    filter: &ScopeFilter,
    limit: usize,
) -> Vec<ScopeId> {
    let mut found: Vec<ScopeId> = Vec::new();
    loop {
        let page = repository
            .scopes(filter, found.last(), limit)
            .await
            .unwrap();
        assert!(page.len() <= limit, "a page holds {limit} at most");
        assert!(found.len() < 1_000, "paging comes to an end");
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}
