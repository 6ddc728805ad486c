//! Changes applied by the statements of `docs/transactions.md`, on a connection that knows nothing of this crate.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text};
use kms_core::{
    ChangeSet, DeletionTarget, KeyVersionId, Proof, Receipt, RootChange, RootName, ScopeRows,
    Writes, Written,
};
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::on_postgres;
use crate::keys::{DATABASE, rows, scope, with_keys};

const DOCUMENT: &str = include_str!("../../../../docs/transactions.md");

/// The statement of the document under this name.
fn statement(name: &str) -> &'static str {
    let block = format!("```sql\n-- {name}\n");
    let (_, rest) = DOCUMENT.split_once(&*block).unwrap();
    rest.split_once("\n```").unwrap().0
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    answer: String,
}

#[derive(QueryableByName)]
struct Verdict {
    #[diesel(sql_type = Bool)]
    same: bool,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    what: String,
    #[diesel(sql_type = Nullable<Text>)]
    id: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
}

fn answer(connection: &mut PgConnection, name: &str, id: &str) -> String {
    let sql = format!("select ({}) as answer", statement(name));
    let answer: Answer = diesel::sql_query(sql)
        .bind::<Text, _>(id)
        .get_result(connection)
        .unwrap();
    answer.answer
}

fn same(connection: &mut PgConnection, expected: &ScopeRows) -> bool {
    let (ids, keys): (Vec<_>, Vec<_>) = expected
        .wrapped_keys()
        .map(|(id, key)| (id.as_str().to_owned(), key))
        .unzip();
    let sql = format!("select ({}) as same", statement("compare"));
    let verdict: Verdict = diesel::sql_query(sql)
        .bind::<Text, _>(expected.root_key.as_str())
        .bind::<Array<Text>, _>(ids)
        .bind::<Array<Binary>, _>(keys)
        .get_result(connection)
        .unwrap();
    verdict.same
}

/// `None` if the rows are others than the change was prepared from.
fn apply(connection: &mut PgConnection, change: &ChangeSet) -> Option<Receipt> {
    connection
        .transaction::<_, diesel::result::Error, _>(|connection| {
            assert_eq!(answer(connection, "lock", change.root_key.as_str()), "ok");
            if !same(connection, change.expected.as_ref().unwrap()) {
                return Err(diesel::result::Error::RollbackTransaction);
            }
            let Some(deletion) = &change.delete else {
                return Ok(write(connection, change));
            };
            deletion.check(change.expected.as_ref().unwrap()).unwrap();
            let (name, id) = match &deletion.target {
                DeletionTarget::Scope => ("delete_scope", change.root_key.as_str()),
                DeletionTarget::Version(KeyVersionId::Root(id)) => {
                    ("delete_root_key_version", id.as_str())
                }
                DeletionTarget::Version(KeyVersionId::Data(id)) => {
                    ("delete_data_key_version", id.as_str())
                }
            };
            if deletion.target != DeletionTarget::Scope {
                assert_eq!(answer(connection, "hold", id), "ok");
            }
            let count = diesel::sql_query(statement(name))
                .bind::<Text, _>(id)
                .execute(connection)?;
            assert_eq!(count, 1);
            Ok(change.applied(|_| None).unwrap())
        })
        .ok()
}

fn write(connection: &mut PgConnection, change: &ChangeSet) -> Receipt {
    let rows: Vec<Row> = diesel::sql_query(statement("write"))
        .bind::<Text, _>(format!("[{}]", change.to_json()))
        .load(connection)
        .unwrap();
    let mut written = Written::default();
    for Row { what, id, number } in rows {
        match (&*what, id, number) {
            ("version", Some(id), Some(number)) => {
                written.numbers.insert(id, number);
            }
            ("updated", None, Some(number)) => written.updated = number.try_into().unwrap(),
            row => panic!("{row:?}"),
        }
    }
    let mut judged = Writes::of([change]).judge(&written).unwrap();
    judged.remove(0).unwrap()
}

#[test]
fn every_operation_is_done_by_the_documented_statements() {
    on_postgres(async |application| {
        let repository = application.repository();
        let mut connection = application.database.connection();
        let id = scope("o_1");
        application.add_scope(&id).await;
        let creation = change_sets::create(&id, &[DATABASE]);
        diesel::sql_query(statement("create"))
            .bind::<Text, _>(creation.to_json().to_string())
            .execute(&mut connection)
            .unwrap();
        let now = async || rows(&*repository, &id).await.unwrap();
        assert_eq!(now().await.root_key, creation.root_key);
        let before = repository.collection_version(None).await.unwrap();

        let rotation = change_sets::rotate_and_rewrap(&now().await);
        let receipt = apply(&mut connection, &rotation).unwrap();
        assert_eq!(receipt.scope(), &id);
        let keys = now().await;
        assert_eq!(keys.root_key_versions.len(), 2);
        assert_eq!(keys.data_keys[0].versions.len(), 2);
        let newest = keys.root_key_versions[1].id.clone();
        let mut versions = keys.data_keys[0].versions.iter();
        assert!(versions.all(|version| version.root_key_version == newest));
        let after = repository
            .collection_version(Some(before.collection))
            .await
            .unwrap();
        assert_eq!(after.steps.unwrap()[0].scopes, std::slice::from_ref(&id));

        let more = kms_core::Purpose::from_static("more");
        let _ = apply(&mut connection, &change_sets::reconcile(&keys, &[more])).unwrap();
        assert_eq!(now().await.data_keys.len(), 2);

        let name = RootName::new("eu").unwrap();
        let assigned = change_sets::assign_root(&now().await, RootChange::Assign(name.clone()));
        let _ = apply(&mut connection, &assigned).unwrap();
        assert_eq!(now().await.root, Some(name));
        let unassigned = change_sets::assign_root(&now().await, RootChange::Unassign);
        let _ = apply(&mut connection, &unassigned).unwrap();
        assert_eq!(now().await.root, None);

        let rewrap = change_sets::rewrap(&now().await);
        let _ = apply(&mut connection, &rewrap).unwrap();
        let keys = now().await;
        let root = keys.root_key_versions[0].id.clone();
        let revoked = change_sets::revoke(&keys, root, Proof::Required);
        let _ = apply(&mut connection, &revoked).unwrap();
        let keys = now().await;
        assert_eq!(keys.root_key_versions.len(), 1);
        let old = keys.data_keys[0].versions[0].id.clone();
        let revoked = change_sets::revoke(&keys, old, Proof::Skipped);
        let _ = apply(&mut connection, &revoked).unwrap();
        assert_eq!(now().await.data_keys[0].versions.len(), 1);
        let deleted = change_sets::delete(&now().await, Proof::Skipped);
        let _ = apply(&mut connection, &deleted).unwrap();
        assert!(rows(&*repository, &id).await.is_none());
    });
}

#[test]
fn the_documented_comparison_finds_what_changed_since_a_change_was_prepared() {
    on_postgres(async |application| {
        let repository = application.repository();
        let mut connection = application.database.connection();
        let keys = with_keys(&application, "o_1").await;
        let stale = change_sets::rotate(&keys);
        for other in [change_sets::rewrap, change_sets::rotate] {
            let keys = rows(&*repository, &keys.scope).await.unwrap();
            let _ = crate::keys::apply(&*repository, other(&keys))
                .await
                .unwrap();
            let before = rows(&*repository, &keys.scope).await.unwrap();
            assert!(apply(&mut connection, &stale).is_none());
            let after = rows(&*repository, &keys.scope).await.unwrap();
            assert!(after.same_keys(&before));
        }
    });
}
