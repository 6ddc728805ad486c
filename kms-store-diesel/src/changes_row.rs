//! What changed since an earlier collection version, as one statement gives it on either database.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text, Timestamp};
use kms_core::{Changes, CollectionVersion, ScopeId, Step};

use crate::stored_time::StoredTime;

/// Past so many steps, or marks of changed scopes, nothing is told: reading all rows anew is cheaper then.
const MAX_STEPS: i64 = 1_000;
const MAX_MARKS: usize = 10_000;

/// How many marks a statement fetches, so that one too many is seen. In its text: of a parameter, the server doesn't
/// know while it plans.
pub(crate) const LIMIT_OF_MARKS: &str = " limit 10001";

/// The types of the columns.
pub(crate) type ChangesSql = (SmallInt, BigInt, Nullable<Timestamp>, Nullable<Text>);

/// What the first column tells a row to be.
const COLLECTION: i16 = 0;
const FORMER: i16 = 1;

/// The collection version as it is, a former one, or the mark of a changed scope.
#[derive(Queryable)]
pub(crate) struct ChangesRow {
    tag: i16,
    version: i64,
    time: Option<StoredTime>,
    scope: Option<String>,
}

/// The versions that a statement asks about: more than the collection version as it is at rest.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// The version to begin with.
    pub(crate) since: i64,
    /// The highest one to which the way is told.
    pub(crate) last: i64,
}

impl Asked {
    /// If nothing is known, about versions that there are none of.
    pub(crate) fn about(since: Option<CollectionVersion>) -> Self {
        let since = since.map_or(i64::MAX, |since| since.version);
        Self {
            since,
            last: since.saturating_add(MAX_STEPS),
        }
    }
}

/// Which moves of the collection version a mark stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The one to its version.
    #[cfg_attr(
        not(any(feature = "diesel-async", feature = "postgres")),
        expect(dead_code, reason = "only Postgres knows")
    )]
    ThisStep,
    /// That one or the next.
    #[cfg_attr(
        not(feature = "sqlite"),
        allow(dead_code, reason = "only SQLite doesn't know")
    )]
    ThisStepOrNext,
}

impl ChangesRow {
    /// Puts the rows of one statement together.
    pub(crate) fn gather(
        rows: Vec<Self>,
        since: Option<CollectionVersion>,
        mark: Mark,
    ) -> QueryResult<Changes> {
        let mut collection = None;
        let mut formers = Vec::new();
        let mut marks = Vec::new();
        for row in rows {
            match (row.tag, row.scope) {
                (COLLECTION, _) => collection = Some(version(row.version, row.time)),
                (FORMER, _) => formers.push(version(row.version, row.time)),
                (_, Some(scope)) => marks.push((row.version, scope)),
                (_, None) => {}
            }
        }
        let collection = collection.ok_or(diesel::NotFound)?;
        Ok(Changes {
            collection,
            steps: since.and_then(|since| steps(since, collection, formers, marks, mark)),
        })
    }
}

fn version(version: i64, time: Option<StoredTime>) -> CollectionVersion {
    CollectionVersion {
        version,
        update_time: StoredTime::or_epoch(time),
    }
}

/// The steps from one version to another; `None` if these former versions are not all that were between them.
fn steps(
    since: CollectionVersion,
    collection: CollectionVersion,
    mut formers: Vec<CollectionVersion>,
    marks: Vec<(i64, String)>,
    mark: Mark,
) -> Option<Vec<Step>> {
    if since == collection {
        return Some(Vec::new());
    }
    formers.sort_unstable_by_key(|former| former.version);
    let versions = formers.iter().map(|former| former.version);
    if formers.first() != Some(&since)
        || !versions.eq(since.version..collection.version)
        || marks.len() > MAX_MARKS
    {
        return None;
    }
    let mut steps: Vec<_> = formers
        .into_iter()
        .skip(1)
        .chain([collection])
        .map(|collection| Step {
            collection,
            scopes: Vec::new(),
        })
        .collect();
    for (version, scope) in marks {
        let scope = ScopeId::from_stored(&scope);
        let next = usize::try_from(version - since.version).ok()?;
        if mark == Mark::ThisStepOrNext
            && let Some(step) = steps.get_mut(next)
        {
            step.scopes.push(scope.clone());
        }
        if let Some(step) = next.checked_sub(1).and_then(|this| steps.get_mut(this)) {
            step.scopes.push(scope);
        }
    }
    for step in &mut steps {
        step.scopes.sort_unstable();
        step.scopes.dedup();
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn at(version: i64) -> CollectionVersion {
        CollectionVersion {
            version,
            update_time: SystemTime::UNIX_EPOCH + Duration::from_secs(version.unsigned_abs()),
        }
    }

    fn told(mark: Mark, formers: &[i64], marks: &[(i64, &str)]) -> Option<Vec<(i64, Vec<String>)>> {
        let formers = formers.iter().copied().map(at).collect();
        let marks = marks
            .iter()
            .map(|(version, scope)| (*version, (*scope).to_owned()))
            .collect();
        let steps = steps(at(3), at(6), formers, marks, mark)?;
        Some(
            steps
                .into_iter()
                .map(|step| {
                    assert_eq!(step.collection, at(step.collection.version));
                    let scopes = step.scopes.iter().map(ToString::to_string).collect();
                    (step.collection.version, scopes)
                })
                .collect(),
        )
    }

    fn scopes(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_mark_stands_in_the_step_to_its_version() {
        assert_eq!(
            told(Mark::ThisStep, &[5, 3, 4], &[(4, "b"), (6, "c"), (4, "a")]),
            Some(vec![
                (4, scopes(&["a", "b"])),
                (5, Vec::new()),
                (6, scopes(&["c"]))
            ])
        );
    }

    #[test]
    fn a_mark_that_may_belong_to_the_next_step_stands_there_too_and_once() {
        assert_eq!(
            told(
                Mark::ThisStepOrNext,
                &[3, 4, 5],
                &[(3, "z"), (4, "a"), (5, "a"), (6, "c")]
            ),
            Some(vec![
                (4, scopes(&["a", "z"])),
                (5, scopes(&["a"])),
                (6, scopes(&["a", "c"]))
            ])
        );
    }

    #[test]
    fn a_way_with_a_gap_is_not_told() {
        for formers in [&[3, 5][..], &[3, 4], &[4, 5], &[2, 3, 4, 5], &[]] {
            assert_eq!(told(Mark::ThisStep, formers, &[]), None, "{formers:?}");
        }
    }

    #[test]
    fn another_time_of_a_version_is_not_its_own() {
        let formers = vec![at(3), at(4), at(5)];
        let other = CollectionVersion {
            update_time: at(3).update_time + Duration::from_micros(1),
            ..at(3)
        };
        let none = || Vec::<(i64, String)>::new();
        assert!(steps(at(3), at(6), formers.clone(), none(), Mark::ThisStep).is_some());
        assert!(steps(other, at(6), formers, none(), Mark::ThisStep).is_none());
        assert!(steps(other, at(3), Vec::new(), none(), Mark::ThisStep).is_none());
    }

    #[test]
    fn too_many_marks_are_not_told() {
        let marks = |count: usize| (0..count).map(|n| (4, format!("s{n}"))).collect::<Vec<_>>();
        let formers = vec![at(3), at(4), at(5)];
        let told =
            |count| steps(at(3), at(6), formers.clone(), marks(count), Mark::ThisStep).is_some();
        assert!(told(MAX_MARKS));
        assert!(!told(MAX_MARKS + 1));
        assert_eq!(LIMIT_OF_MARKS, format!(" limit {}", MAX_MARKS + 1));
    }
}
