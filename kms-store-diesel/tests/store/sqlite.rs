//! SQLite: the suite, each property on a file of its own, and what is particular to SQLite.

mod callers;
mod changes;
mod database;
mod opening;
mod read_only;
mod reading;
mod refusing;
mod replacing;

use self::database::SqliteDatabase;
use crate::application::Application;

async fn fixture() -> Application<SqliteDatabase> {
    Application::on(SqliteDatabase::new())
}

/// Runs the test with a database of its own.
fn on_sqlite(test: impl AsyncFnOnce(Application<SqliteDatabase>)) {
    kms_testkit::repository::run(async { test(fixture().await).await });
}

mod suite {
    use super::fixture;

    kms_testkit::repository_suite!(fixture);
}
