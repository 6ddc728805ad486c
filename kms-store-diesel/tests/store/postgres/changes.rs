//! What is told of changes since a collection version.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use kms_core::Repository as _;
use kms_store_diesel::PostgresRepository;

use super::on_postgres;
use crate::application::Database as _;
use crate::changes;
use crate::starting::counted_pool;

#[test]
fn changes_are_asked_for_with_one_statement() {
    on_postgres(async |application| {
        let (pool, sent) = counted_pool(application.database.url());
        let repository = PostgresRepository::from_pool(pool);
        changes::are_asked_for_with_one_statement(&application, &repository, &sent).await;
    });
}

#[test]
fn changes_are_not_told_across_a_gap() {
    on_postgres(async |application| changes::are_not_told_across_a_gap(&application).await);
}

#[test]
fn changes_are_told_up_to_a_limit() {
    on_postgres(async |application| changes::are_told_up_to_a_limit(&application).await);
}

#[test]
fn changes_by_hand_are_told_with_the_next_move() {
    on_postgres(async |application| {
        changes::by_hand_are_told_with_the_next_move(&application).await;
    });
}

/// Planning takes longer than running at rest: a session plans once, however many changes there are.
#[test]
fn asking_for_changes_is_planned_once_in_a_session() {
    on_postgres(async |application| {
        application.database.execute(
            "update kms_collection_version set version = 10001;
             insert into kms_collection_history (version, update_time)
               select n, now() from generate_series(1, 10000) n;
             insert into kms_scope_change (collection_version, scope_id)
               select n, 's_' || m from generate_series(1, 10000) n, generate_series(1, 10) m;
             analyze kms_collection_history; analyze kms_scope_change; analyze kms_collection_version",
        );
        let (pool, _) = counted_pool(application.database.url());
        let repository = PostgresRepository::from_pool(pool.clone());
        let mut since = None;
        for _ in 0..20 {
            let changes = repository.collection_version(since).await.unwrap();
            since = Some(changes.collection);
        }
        let mut connection = pool.get().unwrap();
        let plans: Plans = diesel::sql_query(
            "select custom_plans, generic_plans from pg_prepared_statements where statement like 'with way%'",
        )
        .get_result(&mut connection)
        .unwrap();
        assert_eq!((plans.custom_plans, plans.generic_plans), (5, 15));
    });
}

#[derive(QueryableByName)]
struct Plans {
    #[diesel(sql_type = BigInt)]
    custom_plans: i64,
    #[diesel(sql_type = BigInt)]
    generic_plans: i64,
}
