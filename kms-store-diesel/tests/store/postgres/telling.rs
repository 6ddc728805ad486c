//! What the server refuses is told by its code: what passes from what does not, and whose affair it is.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use diesel::connection::{Connection as _, SimpleConnection as _};
use kms_core::{
    Advance, CampaignRepository as _, CampaignStep, ErrorKind, Hold, Lease, NewCampaign, OnDelete,
    Proof, Receipt, Repository as _, ScopeRows,
};
use kms_store_diesel::{KeyConnection as _, PostgresRepository};
use kms_testkit::change_sets;
use kms_testkit::repository::Fixture as _;

use super::database::PostgresDatabase;
use super::locking::until_somebody_waits;
use super::on_postgres;
use crate::application::Database as _;
use crate::keys::{DATABASE, apply, rows, scope, with_keys};

const SHORT: Duration = Duration::from_millis(300);

/// Longer than the server takes to find a deadlock, and than any test.
const LONG: Duration = Duration::from_secs(60);

fn repository(
    database: &PostgresDatabase,
    lock: Duration,
    statement: Duration,
) -> PostgresRepository {
    PostgresRepository::builder(database.url())
        .lock_timeout(lock)
        .statement_timeout(statement)
        .build()
        .unwrap()
}

/// Lets every insert into this table fail with a code, as the server itself would.
fn refuse(database: &PostgresDatabase, table: &str, code: &str, message: &str) {
    database.execute(&format!(
        "create function refuse() returns trigger language plpgsql as $$
         begin raise exception using errcode = '{code}', message = '{message}'; end; $$;
         create trigger refuse before insert on {table} for each row execute function refuse()"
    ));
}

fn defer_scope_rows(database: &PostgresDatabase) {
    database.execute(
        "alter table kms_root_key alter constraint kms_root_key_organization_fkey
         deferrable initially deferred",
    );
}

#[test]
fn two_transactions_that_create_scopes_in_opposite_order_are_a_conflict_for_one_of_them() {
    on_postgres(async |application| {
        for id in ["o_a", "o_b"] {
            application.add_scope(&scope(id)).await;
        }
        let (one_has, other_waits_for) = mpsc::channel::<()>();
        let (other_has, one_waits_for) = mpsc::channel::<()>();
        let mut ends = Vec::new();
        for (ids, has, waits_for) in [
            (["o_a", "o_b"], one_has, one_waits_for),
            (["o_b", "o_a"], other_has, other_waits_for),
        ] {
            let mut connection = application.database.connection();
            ends.push(thread::spawn(move || {
                let [first, second] =
                    ids.map(|id| change_sets::create(&scope(id), std::slice::from_ref(&DATABASE)));
                connection.transaction(|connection| {
                    let _ = connection.apply_changes(&[&first]).unwrap();
                    has.send(()).unwrap();
                    waits_for.recv().unwrap();
                    let end = connection.apply_changes(&[&second]);
                    // Whatever became of it, the transaction goes on.
                    connection.batch_execute("select 1").unwrap();
                    end.map_err(|error| {
                        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                        diesel::result::Error::RollbackTransaction
                    })
                })
            }));
        }
        let ends = ends.into_iter().map(|end| end.join().unwrap());
        assert_eq!(ends.filter(Result::is_ok).count(), 1);
        let repository = application.repository();
        for id in ["o_a", "o_b"] {
            assert!(rows(&*repository, &scope(id)).await.is_some());
        }
    });
}

#[test]
fn an_application_that_locked_its_row_and_creates_is_in_conflict_with_another_creation_at_worst() {
    on_postgres(async |application| {
        application.add_scope(&scope("o_1")).await;
        let mut connection = application.database.connection();
        let beside = repository(&application.database, LONG, LONG);
        let mut created_beside = None;
        let end: Result<Vec<Receipt>, diesel::result::Error> =
            connection.transaction(|connection| {
                connection.batch_execute("select from organization where id = 'o_1' for update")?;
                // It has the place of the root key, and waits for the row of the application.
                let change = change_sets::create(&scope("o_1"), &[DATABASE]);
                created_beside = Some(tokio::spawn(async move { apply(&beside, change).await }));
                until_somebody_waits(&application.database);
                let change = change_sets::create(&scope("o_1"), &[DATABASE]);
                // The server chooses which of the two it refuses.
                if let Err(error) = connection.apply_changes(&[&change]) {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    assert!(error.is_retryable());
                }
                Err(diesel::result::Error::RollbackTransaction)
            });
        assert!(end.is_err());
        let _ = created_beside.unwrap().await.unwrap().unwrap();
    });
}

#[test]
fn what_outlasts_the_timeouts_of_the_callers_connection_is_busy_and_its_transaction_goes_on() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application.add_scope(&scope("o_2")).await;
        let rotation = change_sets::rotate(&keys);
        let creation = change_sets::create(&scope("o_2"), &[DATABASE]);
        let mut other = application.database.connection();
        for (held, change) in [
            (
                "update kms_collection_version set version = version + 1",
                &rotation,
            ),
            ("select from kms_root_key for no key update", &rotation),
            (
                "insert into kms_root_key (private_id, scope_id) values ('krk_x', 'o_2')",
                &creation,
            ),
            (
                "select from organization where id = 'o_2' for update",
                &creation,
            ),
        ] {
            other.batch_execute(&format!("begin; {held}")).unwrap();
            for timeout in ["lock_timeout", "statement_timeout"] {
                let mut connection = application.database.connection();
                connection
                    .batch_execute(&format!("set {timeout} = '300ms'"))
                    .unwrap();
                connection
                    .transaction(|connection| {
                        let error = connection.apply_changes(&[change]).unwrap_err();
                        assert_eq!(
                            error.kind(),
                            ErrorKind::DatabaseBusy,
                            "{timeout}, {held}: {error}"
                        );
                        assert!(error.is_retryable());
                        connection.batch_execute("insert into organization values (random()::text)")
                    })
                    .unwrap();
            }
            other.batch_execute("rollback").unwrap();
        }
    });
}

#[test]
fn what_outlasts_the_timeouts_of_a_repository_is_busy() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application.add_scope(&scope("o_2")).await;
        let rotation = change_sets::rotate(&keys);
        let creation = change_sets::create(&scope("o_2"), &[DATABASE]);
        let mut other = application.database.connection();
        for (held, change) in [
            ("select from kms_root_key for no key update", &rotation),
            (
                "select from organization where id = 'o_2' for update",
                &creation,
            ),
        ] {
            other.batch_execute(&format!("begin; {held}")).unwrap();
            for (lock, statement) in [(SHORT, LONG), (LONG, SHORT)] {
                let repository = repository(&application.database, lock, statement);
                let error = apply(&repository, change.clone()).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{held}: {error}");
            }
            other.batch_execute("rollback").unwrap();
        }
    });
}

#[test]
fn a_creation_without_the_scopes_row_says_so_also_where_the_foreign_key_is_deferred() {
    on_postgres(async |application| {
        let repository = application.repository();
        for deferred in [false, true] {
            if deferred {
                defer_scope_rows(&application.database);
            }
            let change = change_sets::create(&scope("o_none"), &[DATABASE]);
            let error = apply(&*repository, change).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MissingScopeRow, "{error}");
            assert!(!error.is_retryable());
            assert_eq!(error.context("table"), Some("kms_root_key"));
            let constraint = Some("kms_root_key_organization_fkey");
            assert_eq!(error.context("constraint"), constraint, "{error}");
        }
    });
}

#[test]
fn a_row_that_a_deferred_foreign_key_waits_for_too_long_is_busy() {
    on_postgres(async |application| {
        application.add_scope(&scope("o_1")).await;
        defer_scope_rows(&application.database);
        let mut other = application.database.connection();
        other
            .batch_execute("begin; select from organization where id = 'o_1' for update")
            .unwrap();
        let repository = repository(&application.database, SHORT, LONG);
        let change = change_sets::create(&scope("o_1"), &[DATABASE]);
        let error = apply(&repository, change.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
        assert!(rows(&repository, &scope("o_1")).await.is_none());
        other.batch_execute("rollback").unwrap();
        let _ = apply(&repository, change).await.unwrap();
    });
}

#[test]
fn a_server_that_takes_no_writes_is_read_only_and_leaves_what_is_in_doubt_open() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        application.add_scope(&scope("o_2")).await;
        application.database.execute(
            "do $$ begin execute format('alter database %I set default_transaction_read_only = on',
             current_database()); end; $$",
        );
        let repository = application.another_repository().await;
        for change in [
            change_sets::rotate(&keys),
            change_sets::create(&scope("o_2"), &[DATABASE]),
        ] {
            let error = apply(&*repository, change.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseReadOnly, "{error}");
            assert!(error.is_retryable());
            let doubt = repository.resolve(Arc::new([change])).await.unwrap_err();
            assert_eq!(doubt.kind(), ErrorKind::DatabaseReadOnly, "{doubt}");
        }
    });
}

#[test]
fn a_full_disk_is_named_whatever_the_servers_language_and_passes() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let message = "konnte Datei nicht erweitern: kein Platz";
        refuse(
            &application.database,
            "kms_data_key_version",
            "53100",
            message,
        );
        let repository = application.repository();
        let error = apply(&*repository, change_sets::rotate(&keys))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseFull, "{error}");
        assert!(error.is_retryable());
        assert_eq!(error.source().unwrap().to_string(), message);
        let after = rows(&*repository, &keys.scope).await.unwrap();
        assert!(after.same_keys(&keys));
    });
}

/// A step of a campaign that rotates this scope.
fn step(campaign: &NewCampaign, keys: &ScopeRows) -> CampaignStep {
    CampaignStep {
        campaign: campaign.id.clone(),
        lease: lease(),
        advance: Advance::To {
            from: None,
            to: keys.scope.clone(),
        },
        failures: Vec::new(),
        unchanged: Vec::new(),
    }
}

fn campaign() -> NewCampaign {
    NewCampaign {
        id: "yearly".to_owned(),
        kind: "rotate",
        parameters: String::new(),
        total: 1,
    }
}

fn lease() -> Lease {
    Lease {
        holder: "this run".to_owned(),
        length: LONG,
    }
}

#[test]
fn a_campaign_waits_for_a_full_disk_and_records_why_a_scope_was_refused() {
    on_postgres(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let repository = application.repository();
        let campaign = campaign();
        let _ = repository
            .start_campaign(&campaign, &lease())
            .await
            .unwrap();
        let changes: Arc<[_]> = Arc::new([change_sets::rotate(&keys)]);

        refuse(
            &application.database,
            "kms_data_key_version",
            "53100",
            "kein Platz",
        );
        let error = repository
            .apply_step(Arc::clone(&changes), step(&campaign, &keys))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseFull, "{error}");
        let state = repository.campaign("yearly").await.unwrap().unwrap();
        assert_eq!((state.cursor, state.failures), (None, Vec::new()));
        application.database.execute("drop function refuse cascade");

        refuse(
            &application.database,
            "kms_data_key_version",
            "P0001",
            "this tenant is frozen",
        );
        let outcomes = repository
            .apply_step(changes, step(&campaign, &keys))
            .await
            .unwrap();
        assert_eq!(
            outcomes[0].as_ref().unwrap_err().kind(),
            ErrorKind::Database
        );
        let state = repository.campaign("yearly").await.unwrap().unwrap();
        let message = &state.failures[0].message;
        assert!(message.ends_with(": this tenant is frozen"), "{message}");
    });
}

#[test]
fn a_wait_that_somebody_cancels_is_busy_before_its_time() {
    on_postgres(async |application| {
        let repository = Arc::new(repository(&application.database, LONG, LONG));
        let campaign = campaign();
        let _ = repository
            .start_campaign(&campaign, &lease())
            .await
            .unwrap();
        let mut other = application.database.connection();
        for (held, holding) in [
            ("update kms_campaign set cursor = 'o_9'", true),
            (
                "update kms_collection_version set version = version + 1",
                false,
            ),
        ] {
            other.batch_execute(&format!("begin; {held}")).unwrap();
            let waiting = Arc::clone(&repository);
            let waiting = tokio::spawn(async move {
                if holding {
                    let lease = lease();
                    let held = waiting.hold_campaign("yearly", &lease, Hold::Keep).await;
                    held.map(drop)
                } else {
                    waiting.scramble_collection_version().await
                }
            });
            until_somebody_waits(&application.database);
            application.database.execute(
                "select pg_cancel_backend(pid) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock'",
            );
            let error = waiting.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{held}: {error}");
            other.batch_execute("rollback").unwrap();
        }
    });
}

#[test]
fn a_row_that_the_application_is_just_deleting_keeps_its_key_version_busy_and_not_in_use() {
    on_postgres(async |application| {
        application
            .add_referencer("client", OnDelete::Restrict)
            .await;
        let first = with_keys(&application, "o_1").await;
        let repository = repository(&application.database, SHORT, LONG);
        let _ = apply(&repository, change_sets::rotate(&first))
            .await
            .unwrap();
        let keys = rows(&repository, &first.scope).await.unwrap();
        let version = first.data_keys[0].versions[0].id.clone();
        let revocation = change_sets::revoke(&keys, version.clone(), Proof::Required);
        application.add_reference("client", &version).await;
        let mut other = application.database.connection();
        other.batch_execute("begin; delete from client").unwrap();
        let error = apply(&repository, revocation.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
        other.batch_execute("commit").unwrap();
        let _ = apply(&repository, revocation).await.unwrap();
    });
}
