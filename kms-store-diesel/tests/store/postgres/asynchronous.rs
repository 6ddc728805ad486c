//! Connections and pools of diesel-async.

mod callers;
mod calls;

use std::sync::Arc;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use kms_core::Repository;
use kms_store_diesel::AsyncPostgresRepository;

use super::database::PostgresDatabase;
use crate::application::Application;

fn pool(url: String, size: usize) -> Pool<AsyncPgConnection> {
    let manager = AsyncDieselConnectionManager::new(url);
    Pool::builder(manager).max_size(size).build().unwrap()
}

fn open(url: String) -> Arc<dyn Repository> {
    Arc::new(AsyncPostgresRepository::from_pool(pool(url, 10)))
}

async fn fixture() -> Option<Application<PostgresDatabase>> {
    PostgresDatabase::new().map(|database| Application::on(database.opened_by(open)))
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
