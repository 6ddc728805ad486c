//! A commit that takes long: the server waits for a standby that does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use kms_core::{ErrorKind, Repository as _, Resolution};
use kms_store_diesel::PostgresRepository;
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::database::PostgresDatabase;
use super::line::Line;
use super::locking::until_somebody_waits;
use super::on_postgres;
use crate::keys::{DATABASE, apply, rows, scope, with_keys};

/// A database whose commits wait for a standby that is not there, until this is dropped. Those of other databases do
/// not, since the server of the tests has `synchronous_commit` off.
struct SlowCommits<'a>(&'a PostgresDatabase);

impl<'a> SlowCommits<'a> {
    /// `None`, and a line that says so, where it would hold up other tests.
    fn of(database: &'a PostgresDatabase) -> Option<Self> {
        let mut connection = database.connection();
        let setting: String =
            diesel::dsl::sql::<Text>("select current_setting('synchronous_commit')")
                .get_result(&mut connection)
                .unwrap();
        if setting != "off" {
            eprintln!("skipped: postgres (its synchronous_commit is {setting}, not off)");
            return None;
        }
        connection
            .batch_execute("alter system set synchronous_standby_names = 'nobody'")
            .unwrap();
        connection.batch_execute("select pg_reload_conf()").unwrap();
        Some(Self(database))
    }

    /// The address of the database, for sessions whose commits wait.
    fn url(&self) -> String {
        let url = self.0.url();
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}options=-csynchronous_commit%3Don")
    }

    /// Waits until a commit waits for the standby.
    fn until_one_waits(&self) {
        let started = Instant::now();
        while !self.one_waits() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "no commit waits"
            );
            std::thread::yield_now();
        }
    }

    fn one_waits(&self) -> bool {
        diesel::select(diesel::dsl::sql::<Bool>(
            "exists (select from pg_stat_activity
                      where datname = current_database() and wait_event = 'SyncRep')",
        ))
        .get_result(&mut self.0.connection())
        .unwrap()
    }

    /// Lets the commits that wait, and all later ones, come to their end.
    fn end(&self) {
        let mut connection = self.0.connection();
        connection
            .batch_execute("alter system reset synchronous_standby_names")
            .unwrap();
        connection.batch_execute("select pg_reload_conf()").unwrap();
    }
}

impl Drop for SlowCommits<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_commit_that_the_server_still_works_on_is_in_doubt_until_it_has_ended() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application.add_scope(&scope("o_2")).await;
        for change in [
            change_sets::create(&scope("o_2"), &[DATABASE]),
            change_sets::rotate(&keys),
        ] {
            let Some(slow) = SlowCommits::of(&application.database) else {
                return;
            };
            let mut line = Line::to(&slow.url());
            let committing = PostgresRepository::builder(line.url(&slow.url()))
                .build()
                .unwrap();
            let lost = {
                let change = change.clone();
                tokio::spawn(async move { apply(&committing, change).await })
            };
            slow.until_one_waits();
            line.cut();
            let lost = lost.await.unwrap().unwrap_err();
            assert_eq!(lost.kind(), ErrorKind::OutcomeUnknown, "{lost}");

            let asked: Arc<[_]> = Arc::new([change.clone()]);
            let impatient = PostgresRepository::builder(application.database.url())
                .lock_timeout(Duration::from_millis(300))
                .build()
                .unwrap();
            let doubt = impatient.resolve(Arc::clone(&asked)).await;
            assert_eq!(doubt.unwrap_err().kind(), ErrorKind::DatabaseBusy);

            let patient = application.repository();
            let told = tokio::spawn(async move { patient.resolve(asked).await });
            until_somebody_waits(&application.database);
            slow.end();
            assert_eq!(told.await.unwrap().unwrap(), [Resolution::Applied]);
            assert!(rows(&impatient, &change.scope).await.is_some());
        }
    });
}
