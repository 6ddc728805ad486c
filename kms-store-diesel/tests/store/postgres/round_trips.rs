//! How often a change goes to the server and back, counted on the line.

use std::sync::Arc;

use kms_core::{ChangeSet, Proof, Repository as _, ScopeRows};
use kms_store_diesel::{PostgresBuilder, PostgresRepository};
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::database::PostgresDatabase;
use super::line::Line;
use super::on_postgres;
use crate::application::{Application, Database as _};
use crate::keys::{DATABASE, apply, rows, scope, with_keys};

struct Counted {
    line: Line,
    repository: PostgresRepository,
}

impl Counted {
    fn new(
        database: &PostgresDatabase,
        set: impl FnOnce(PostgresBuilder) -> PostgresBuilder,
    ) -> Self {
        let url = database.url();
        let line = Line::to(&url);
        let builder = PostgresRepository::builder(line.url(&url)).pool_size(1);
        let repository = set(builder).build().unwrap();
        Self { line, repository }
    }

    async fn apply(&self, change: ChangeSet) -> usize {
        self.apply_all(vec![change]).await
    }

    async fn apply_all(&self, changes: Vec<ChangeSet>) -> usize {
        let before = self.line.round_trips();
        for outcome in self.repository.apply(changes.into()).await.unwrap() {
            let _ = outcome.unwrap();
        }
        self.line.round_trips() - before
    }
}

async fn new_scope(application: &Application<PostgresDatabase>, id: &str) -> ChangeSet {
    let scope = scope(id);
    application.add_scope(&scope).await;
    change_sets::create(&scope, &[DATABASE])
}

/// Creates a scope's keys and rotates them, as often as it takes to have everything prepared, and once more.
async fn creation_and_rotation(
    application: &Application<PostgresDatabase>,
    counted: &Counted,
) -> (usize, usize) {
    let mut last = (0, 0);
    for number in 0..2 {
        let creation = new_scope(application, &format!("o_{number}")).await;
        let scope = creation.scope.clone();
        let created = counted.apply(creation).await;
        let keys: ScopeRows = rows(&counted.repository, &scope).await.unwrap();
        let rotated = counted.apply(change_sets::rotate_and_rewrap(&keys)).await;
        last = (created, rotated);
    }
    last
}

#[test]
fn a_creation_is_one_round_trip_and_a_rotation_with_rewrap_is_four() {
    on_postgres(async |application| {
        let counted = Counted::new(&application.database, |builder| builder);
        let round_trips = creation_and_rotation(&application, &counted).await;
        assert_eq!(round_trips, (1, 4));
    });
}

#[test]
fn behind_a_pooler_in_transaction_mode_it_is_as_many() {
    on_postgres(async |application| {
        let counted = Counted::new(&application.database, PostgresBuilder::transaction_pooler);
        let round_trips = creation_and_rotation(&application, &counted).await;
        assert_eq!(round_trips, (1, 4));
    });
}

#[test]
fn a_batch_takes_two_more_round_trips_however_many_scopes_it_has() {
    on_postgres(async |application| {
        let counted = Counted::new(&application.database, |builder| builder);
        for size in [2, 40] {
            let mut creations = Vec::new();
            for number in 0..size {
                creations.push(new_scope(&application, &format!("o_{size}_{number}")).await);
            }
            let created = counted.apply_all(creations.clone()).await;
            let mut rotations = Vec::new();
            for creation in &creations {
                let keys = rows(&counted.repository, &creation.scope).await.unwrap();
                rotations.push(change_sets::rotate_and_rewrap(&keys));
            }
            let rotated = counted.apply_all(rotations).await;
            if size > 2 {
                assert_eq!((created, rotated), (6, 6));
            }
        }
    });
}

#[test]
fn a_creation_whose_answer_was_lost_is_found_to_be_applied() {
    on_postgres(async |application| {
        let counted = Counted::new(&application.database, |builder| builder);
        let first = new_scope(&application, "o_1").await;
        counted.apply(first).await;
        let creation = new_scope(&application, "o_2").await;
        let id = creation.root_key.clone();
        counted.line.lose_next_answer();
        let _ = apply(&counted.repository, creation).await.unwrap();
        let keys = rows(&counted.repository, &scope("o_2")).await.unwrap();
        assert_eq!(keys.root_key, id);
    });
}

#[test]
fn a_creation_on_a_closed_connection_takes_a_fresh_one_and_succeeds() {
    on_postgres(async |application| {
        let counted = Counted::new(&application.database, |builder| builder);
        counted.repository.collection_version(None).await.unwrap();
        application.database.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        );
        let creation = new_scope(&application, "o_1").await;
        let _ = apply(&counted.repository, creation).await.unwrap();
    });
}

#[test]
fn a_creation_that_is_refused_leaves_nothing_behind() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let repository = application.repository();
        let taken = change_sets::create(&keys.scope, &[DATABASE]);
        let error = apply(&*repository, taken).await.unwrap_err();
        assert_eq!(error.kind(), kms_core::ErrorKind::AlreadyExists, "{error}");
        // Bound to a number that the database does not give.
        let mut other = new_scope(&application, "o_2").await;
        other.insert.data_key_versions[0].version = 3;
        let error = apply(&*repository, other).await.unwrap_err();
        assert_eq!(error.kind(), kms_core::ErrorKind::Conflict, "{error}");
        assert!(rows(&*repository, &scope("o_2")).await.is_none());
        let mut third = new_scope(&application, "o_3").await;
        third.root_key = keys.root_key.clone();
        let error = apply(&*repository, third).await.unwrap_err();
        assert_eq!(error.kind(), kms_core::ErrorKind::Conflict, "{error}");
        let after = rows(&*repository, &keys.scope).await.unwrap();
        assert!(after.same_keys(&keys));
        let deletion = change_sets::delete(&keys, Proof::Skipped);
        let outcomes = repository.apply(Arc::new([deletion])).await.unwrap();
        assert!(outcomes[0].is_ok());
    });
}
