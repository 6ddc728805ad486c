//! Finding things: what lacks, whose a version is, copied keys, referencing tables.

use std::collections::BTreeSet;

use kms_core::{
    DataKeyVersionId, KeyVersionId, Lack, MissingKeys, OnDelete, Purpose, Repository,
    RootKeyVersionId, ScopeId,
};

use super::fixture::{Feature, Fixture, REFERENCE_COLUMN, can};
use super::setup::{DATABASE, OIDC, applied, apply, data_versions, new_scope, with_keys};
use crate::change_sets;

/// Of each scope the purposes that it lacks; a scope that lacks nothing is absent.
pub async fn missing_names_the_purposes_that_a_scope_lacks(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let japanese = Purpose::new("日本").unwrap();
    let asked = [DATABASE, OIDC, japanese.clone()];
    let mut expected = Vec::new();
    let have: [(&str, &[Purpose]); 5] = [
        ("o_all", &asked),
        (
            "o_more",
            &[
                DATABASE,
                OIDC,
                japanese.clone(),
                Purpose::from_static("more"),
            ],
        ),
        ("o_none", &[]),
        ("o_one", &[OIDC]),
        ("o_other", &[Purpose::from_static("other")]),
    ];
    for (id, purposes) in have {
        let scope = new_scope(fixture, id).await;
        let _ = apply(&*repository, change_sets::create(&scope, purposes))
            .await
            .unwrap();
        let lacking: BTreeSet<_> = asked
            .iter()
            .filter(|purpose| !purposes.contains(purpose))
            .cloned()
            .collect();
        if !lacking.is_empty() {
            expected.push((scope, lacking));
        }
    }
    assert_eq!(expected.len(), 3);
    let found = missing(&*repository, &asked, None).await;
    assert_eq!(found, expected);

    let some = [expected[1].0.clone(), ScopeId::new("o_all").unwrap()];
    let found = missing(&*repository, &asked, Some(&some)).await;
    assert_eq!(found, [expected[1].clone()]);
}

/// A scope that was asked for and has no root key is reported as such, and doesn't hide the others.
pub async fn missing_reports_a_scope_without_root_key(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_keys").await;
    let without = new_scope(fixture, "o_without").await;
    let more = Purpose::from_static("more");
    let asked = [without.clone(), keys.scope.clone()];
    let mut found = repository
        .missing(&[DATABASE, more.clone()], Some(&asked))
        .await
        .unwrap();
    found.sort_by(|one, other| one.scope.cmp(&other.scope));
    let expected = [
        MissingKeys {
            scope: keys.scope.clone(),
            lack: Lack::Purposes(vec![more]),
        },
        MissingKeys {
            scope: without,
            lack: Lack::RootKey,
        },
    ];
    assert_eq!(found, expected);
    // Of all scopes that have keys, none has no root key.
    let found = repository.missing(&[DATABASE], None).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
}

/// Asked about no scope, it finds nothing.
pub async fn missing_of_no_scope_is_nothing(fixture: &dyn Fixture) {
    let _ = with_keys(fixture, "o_1").await;
    let more = [Purpose::from_static("more")];
    let found = fixture
        .repository()
        .missing(&more, Some(&[]))
        .await
        .unwrap();
    assert!(found.is_empty(), "{found:?}");
}

/// A wrapped key that another scope holds too is found, byte for byte, whatever kind of key it is.
pub async fn a_wrapped_key_in_another_scope_is_found_as_a_copy(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let keys = with_keys(fixture, "o_1").await;
    let root = keys.root_key_versions[0].key.clone();
    let data = keys.data_keys[0].versions[0].key.clone();
    let all: Vec<_> = data_versions(&keys)
        .map(|row| row.key.clone())
        .chain([root.clone()])
        .collect();
    // Its own rows are no copies.
    assert!(
        repository
            .copies(&keys.scope, &all)
            .await
            .unwrap()
            .is_empty()
    );

    let scope = new_scope(fixture, "o_2").await;
    let mut change = change_sets::create(&scope, &[DATABASE, OIDC]);
    // A root key's ciphertext in a data key's row, and the other way round.
    change.insert.root_key_versions[0].key.clone_from(&data);
    change.insert.data_key_versions[1].key.clone_from(&root);
    // However the rest of the wrapped key reads.
    change.insert.data_key_versions[0].key = [b"head".as_slice(), &data, b"tail"].concat();
    let copied: BTreeSet<KeyVersionId> = [
        change.insert.root_key_versions[0].id.clone().into(),
        change.insert.data_key_versions[0].id.clone().into(),
        change.insert.data_key_versions[1].id.clone().into(),
    ]
    .into();
    let _ = applied(&*repository, change).await;

    let found = repository.copies(&keys.scope, &all).await.unwrap();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), copied);
    let unknown = [change_sets::wrapped_key()];
    assert!(
        repository
            .copies(&keys.scope, &unknown)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        repository
            .copies(&keys.scope, &[])
            .await
            .unwrap()
            .is_empty()
    );
}

/// A key version's scope is found, of either kind, old or new; of an unknown one none.
pub async fn the_scope_of_a_key_version_is_found(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    let _ = with_keys(fixture, "o_other").await;
    let keys = with_keys(fixture, "o_1").await;
    let keys = applied(&*repository, change_sets::rotate(&keys)).await;
    let root = keys
        .root_key_versions
        .iter()
        .map(|row| row.id.clone().into());
    let data = data_versions(&keys).map(|row| row.id.clone().into());
    let ids: Vec<KeyVersionId> = root.chain(data).collect();
    assert_eq!(ids.len(), 6);
    for id in ids {
        assert_eq!(
            repository.scope_of(&id).await.unwrap().as_ref(),
            Some(&keys.scope)
        );
    }
    for unknown in [
        RootKeyVersionId::generate().into(),
        DataKeyVersionId::generate().into(),
    ] {
        assert_eq!(repository.scope_of(&unknown).await.unwrap(), None);
    }
}

/// Every table with a foreign key to the data key versions is listed, with its column and rule, and the
/// system's own tables are not.
pub async fn referencers_are_the_tables_of_the_application(fixture: &dyn Fixture) {
    let repository = fixture.repository();
    assert_eq!(repository.referencers().await.unwrap(), []);
    if !can(fixture, Feature::Referencers) {
        return;
    }
    let tables = [
        ("a_strict", OnDelete::Restrict),
        ("b_inactive", OnDelete::NoAction),
        ("c_cascading", OnDelete::Cascade),
        ("d_emptied", OnDelete::SetNull),
        ("e_defaulted", OnDelete::SetDefault),
    ];
    for (table, on_delete) in tables {
        fixture.add_referencer(table, on_delete).await;
    }
    let mut found = repository.referencers().await.unwrap();
    found.sort();
    let found: Vec<_> = found
        .iter()
        .map(|known| (known.table.as_str(), known.column.as_str(), known.on_delete))
        .collect();
    let expected = tables.map(|(table, on_delete)| (table, REFERENCE_COLUMN, on_delete));
    assert_eq!(found, expected);
    for (table, _) in tables {
        fixture.drop_referencer(table).await;
    }
    assert_eq!(repository.referencers().await.unwrap(), []);
}

/// What lacks, with the order taken out.
async fn missing(
    repository: &dyn Repository,
    purposes: &[Purpose],
    scopes: Option<&[ScopeId]>,
) -> Vec<(ScopeId, BTreeSet<Purpose>)> {
    let mut found: Vec<_> = repository
        .missing(purposes, scopes)
        .await
        .unwrap()
        .into_iter()
        .map(|missing| match missing.lack {
            Lack::Purposes(purposes) => (missing.scope, purposes.into_iter().collect()),
            Lack::RootKey => panic!("{} has a root key", missing.scope),
        })
        .collect();
    found.sort();
    found
}
