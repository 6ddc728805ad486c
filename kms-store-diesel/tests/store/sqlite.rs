//! SQLite: the suite, each property on a file of its own, and what is particular to SQLite.

mod database;

use self::database::SqliteDatabase;
use crate::application::Application;

async fn fixture() -> Application<SqliteDatabase> {
    Application::on(SqliteDatabase::new())
}

mod suite {
    use super::fixture;

    kms_testkit::repository_suite!(fixture);
}
