//! Postgres: the suite, each property in a database of its own, and what is particular to Postgres.
//!
//! `KMS_TEST_POSTGRES_URL` names a server where databases may be created. Without it these tests are
//! skipped, loudly, or fail if `KMS_TEST_REQUIRE` names `postgres`.

mod addresses;
#[cfg(feature = "diesel-async")]
mod asynchronous;
mod breaking;
mod by_hand;
mod callers;
mod changes;
mod committing;
mod database;
mod failover;
mod hanging;
mod line;
mod locking;
mod login;
mod pooling;
mod rights;
mod roles;
mod round_trips;
mod schemas;
mod telling;

use self::database::PostgresDatabase;
use crate::application::Application;

async fn fixture() -> Option<Application<PostgresDatabase>> {
    PostgresDatabase::new().map(Application::on)
}

/// Runs the test with a database of its own, where there is a server.
fn on_postgres(test: impl AsyncFnOnce(Application<PostgresDatabase>)) {
    kms_testkit::repository::run(async {
        if let Some(application) = fixture().await {
            test(application).await;
        }
    });
}

mod suite {
    use super::fixture;

    kms_testkit::repository_suite!(fixture);
}
