//! The engine behind a pooler that gives each transaction any session of the server.
//!
//! `KMS_TEST_PGBOUNCER` names the program, `KMS_TEST_POSTGRES_URL` the server. Without one of them these tests are
//! skipped, loudly, or fail if `KMS_TEST_REQUIRE` names it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "pooler/pgbouncer.rs"]
mod pgbouncer;

mod postgres_behind_pgbouncer {
    use std::fmt::{Display, Formatter};
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use diesel::connection::BoxableConnection;
    use diesel::connection::{CacheSize, SimpleConnection as _};
    use diesel::migration::{
        self, Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion,
    };
    use diesel::pg::Pg;
    use diesel::prelude::*;
    use diesel::sql_types::Text;
    use kms_bench::database::Database;
    use kms_bench::world::{PURPOSES, builder, local_root, scope};
    use kms_kit::migrations::ErrorKind as MigrationErrorKind;
    use kms_kit::{
        CampaignOptions, ErrorKind, Freshness, KeyConnection as _, Kms, PostgresRepository,
        Repository, Rewrap, RewrapKeys, ScopeId, Scopes, Wrapper,
    };
    use tokio::task::JoinSet;

    use crate::pgbouncer::PgBouncer;

    struct Behind {
        pooler: PgBouncer,
        database: Database,
        root: Arc<dyn Wrapper>,
    }

    impl Behind {
        /// With so many sessions of the server; none where a service is missing.
        fn new(sessions: u32) -> Option<Self> {
            Self::in_mode("transaction", sessions)
        }

        fn in_mode(mode: &str, sessions: u32) -> Option<Self> {
            let server = service("postgres", "KMS_TEST_POSTGRES_URL")?;
            let program = PathBuf::from(service("pgbouncer", "KMS_TEST_PGBOUNCER")?);
            let database = Database::postgres(&server).unwrap();
            Some(Self {
                pooler: PgBouncer::before(&program, url(&database), mode, sessions),
                database,
                root: local_root("root").unwrap(),
            })
        }

        /// As an application configures it.
        fn repository(&self) -> Arc<dyn Repository> {
            Arc::new(
                PostgresRepository::builder(&self.pooler.url)
                    .transaction_pooler()
                    .pool_size(4)
                    .build()
                    .unwrap(),
            )
        }

        async fn engine(&self) -> Kms {
            builder(self.repository(), &self.root)
                .freshness(Freshness::Always)
                .build()
                .await
                .unwrap()
        }

        /// A connection of the application's own.
        fn connection(&self) -> PgConnection {
            let mut connection = PgConnection::establish(&self.pooler.url).unwrap();
            connection.set_prepared_statement_cache_size(CacheSize::Disabled);
            connection
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_clients_create_use_and_change_keys_on_few_sessions() {
        let Some(behind) = Behind::new(3) else {
            return;
        };
        let mut clients = JoinSet::new();
        for client in 0..4 {
            let kms = behind.engine().await;
            for task in 0..4 {
                let kms = kms.clone();
                clients.spawn(async move {
                    for round in 0..4 {
                        live(&kms, &scope(client * 100 + task * 10 + round)).await;
                    }
                });
            }
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }

        let kms = behind.engine().await;
        let options = CampaignOptions::new("all").batch_size(7);
        let outcome = kms.rotate_all(&options, Rewrap::Yes, |_| {}).await.unwrap();
        let outcome = outcome.report().unwrap();
        assert_eq!((outcome.done, outcome.failures.len()), (64, 0));
        let census = kms.census().await.unwrap();
        assert_eq!((census.scopes, census.unreadable), (64, 0));
        let reconciled = kms.reconcile_keys(Scopes::All, &PURPOSES).await.unwrap();
        assert!(reconciled.created.is_empty() && reconciled.failed.is_empty());
    }

    /// What is done with a scope in its life, but for its end.
    async fn live(kms: &Kms, scope: &ScopeId) {
        kms.create_keys(scope, &PURPOSES[..2]).await.unwrap();
        let wrapper = kms.wrapper(scope, &PURPOSES[0]).await.unwrap();
        let old = wrapper.encrypt_to_vec(b"secret", b"row").unwrap();
        kms.rotate_keys(scope, Rewrap::Yes).await.unwrap();
        kms.rewrap_keys(scope, RewrapKeys::All).await.unwrap();
        let only = std::slice::from_ref(scope);
        let reconciled = kms
            .reconcile_keys(Scopes::Only(only), &PURPOSES)
            .await
            .unwrap();
        assert_eq!(reconciled.created.len(), 1);
        let wrapper = kms.wrapper(scope, &PURPOSES[0]).await.unwrap();
        let old = kms_kit::Blob::decode(&old).unwrap();
        assert_eq!(wrapper.decrypt(&old, b"row").unwrap().expose(), b"secret");
        let keys = kms.list_keys(scope).await.unwrap();
        assert_eq!(keys.len(), 1 + PURPOSES.len());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn with_a_session_for_each_client_nothing_is_to_be_set() {
        let Some(behind) = Behind::in_mode("session", 10) else {
            return;
        };
        let mut clients = JoinSet::new();
        for client in 0..2 {
            let repository = PostgresRepository::builder(&behind.pooler.url).pool_size(4);
            let kms = builder(Arc::new(repository.build().unwrap()), &behind.root);
            let kms = kms.freshness(Freshness::Always).build().await.unwrap();
            for task in 0..4 {
                let kms = kms.clone();
                clients.spawn(async move { live(&kms, &scope(client * 10 + task)).await });
            }
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keys_are_revoked_deleted_and_created_beside_rows_of_the_application() {
        let Some(behind) = Behind::new(2) else {
            return;
        };
        let kms = behind.engine().await;
        let (one, other) = (scope(1), scope(2));
        PgConnection::establish(url(&behind.database))
            .unwrap()
            .batch_execute(
                "create table tenant (
                   id text primary key,
                   key_version_id text references kms_data_key_version (private_id)
                     deferrable initially deferred);
                 create index on tenant (key_version_id)",
            )
            .unwrap();
        let prepared = kms.prepare_create_keys(&one, &PURPOSES).await.unwrap();
        let receipts = tokio::task::block_in_place(|| {
            let mut connection = behind.connection();
            connection
                .transaction(|connection| {
                    diesel::sql_query("insert into tenant (id) values ($1)")
                        .bind::<Text, _>(one.as_str())
                        .execute(connection)?;
                    anyhow::Ok(connection.apply_changes(&[prepared.change_set()])?)
                })
                .unwrap()
        });
        kms.accept(&receipts);
        kms.create_keys(&other, &PURPOSES).await.unwrap();
        kms.rotate_keys(&one, Rewrap::Yes).await.unwrap();
        let rows = behind
            .repository()
            .load(std::slice::from_ref(&one))
            .await
            .unwrap();
        let oldest = rows.scopes[0].data_keys[0].versions[0].id.clone();
        kms.revoke_key_version(&oldest.into()).await.unwrap();
        kms.delete_keys(&other).await.unwrap();
        assert_eq!(kms.census().await.unwrap().scopes, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn timeouts_hold_and_none_stays_in_a_session_of_the_server() {
        let Some(behind) = Behind::new(1) else {
            return;
        };
        let kms = behind.engine().await;
        kms.create_keys(&scope(1), &PURPOSES).await.unwrap();
        kms.rotate_keys(&scope(1), Rewrap::Yes).await.unwrap();
        // There is one session, so that this is the one that did it.
        let mut connection = behind.connection();
        for name in [
            "lock_timeout",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
        ] {
            let set: String = diesel::select(diesel::dsl::sql::<Text>(&format!(
                "current_setting('{name}')"
            )))
            .get_result(&mut connection)
            .unwrap();
            assert_eq!(set, "0", "{name}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_waits_for_a_lock_no_longer_than_it_may() {
        let Some(behind) = Behind::new(2) else {
            return;
        };
        behind
            .engine()
            .await
            .create_keys(&scope(1), &PURPOSES)
            .await
            .unwrap();
        let mut holder = PgConnection::establish(url(&behind.database)).unwrap();
        holder
            .batch_execute("begin; update kms_collection_version set version = version + 1")
            .unwrap();
        let short = Duration::from_millis(200);
        let repository = |lock: Duration, statement: Duration| {
            PostgresRepository::builder(&behind.pooler.url)
                .transaction_pooler()
                .lock_timeout(lock)
                .statement_timeout(statement)
                .build()
                .unwrap()
        };
        let long = Duration::from_secs(3600);
        for repository in [repository(short, long), repository(long, short)] {
            let kms = builder(Arc::new(repository), &behind.root)
                .build()
                .await
                .unwrap();
            let started = Instant::now();
            let error = kms.rotate_keys(&scope(1), Rewrap::No).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DatabaseBusy, "{error}");
            assert!(started.elapsed() < Duration::from_secs(60));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn migrations_run_through_it_by_several_at_once_in_the_schema_of_the_database() {
        let Some(behind) = Behind::new(3) else {
            return;
        };
        let mut direct = PgConnection::establish(url(&behind.database)).unwrap();
        // What a session's options can't say any more.
        direct
            .batch_execute(
                "create schema keys;
                 do $$ begin execute format(
                   'alter database %I set search_path = keys', current_database()); end $$;",
            )
            .unwrap();
        tokio::task::block_in_place(|| {
            std::thread::scope(|threads| {
                for _ in 0..3 {
                    threads.spawn(|| {
                        kms_kit::migrations::postgres::run(&mut behind.connection()).unwrap();
                    });
                }
            });
        });
        behind
            .engine()
            .await
            .create_keys(&scope(1), &PURPOSES)
            .await
            .unwrap();
        let count = |table: &str| {
            let sql = format!("(select count(*)::text from {table})");
            let mut connection = PgConnection::establish(url(&behind.database)).unwrap();
            diesel::select(diesel::dsl::sql::<Text>(&sql))
                .get_result::<String>(&mut connection)
                .unwrap()
        };
        assert_eq!(count("keys.kms_root_key"), "1");
        assert_eq!(count("public.kms_root_key"), "0");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_migration_without_transaction_says_that_its_lock_was_lost() {
        let Some(behind) = Behind::new(2) else {
            return;
        };
        let lost = tokio::task::block_in_place(|| {
            let source = MeetsAnother {
                url: behind.pooler.url.clone(),
                other: Arc::default(),
            };
            kms_kit::migrations::postgres::run_with(&mut behind.connection(), &source)
        });
        assert_eq!(*lost.unwrap_err().kind(), MigrationErrorKind::LockLost);
    }

    /// A migration in no transaction, while which another client takes the session that has the lock.
    #[derive(Clone)]
    struct MeetsAnother {
        url: String,
        other: Arc<Mutex<Option<PgConnection>>>,
    }

    impl Migration<Pg> for MeetsAnother {
        fn run(&self, _: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
            let mut other = PgConnection::establish(&self.url)?;
            other.batch_execute("begin; select 1")?;
            *self.other.lock().unwrap() = Some(other);
            Ok(())
        }

        fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
            Ok(())
        }

        fn metadata(&self) -> &dyn MigrationMetadata {
            self
        }

        fn name(&self) -> &dyn MigrationName {
            self
        }
    }

    impl MigrationMetadata for MeetsAnother {
        fn run_in_transaction(&self) -> bool {
            false
        }
    }

    impl MigrationName for MeetsAnother {
        fn version(&self) -> MigrationVersion<'_> {
            "20260101000000".into()
        }
    }

    impl Display for MeetsAnother {
        fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
            f.write_str("20260101000000_meets_another")
        }
    }

    impl MigrationSource<Pg> for MeetsAnother {
        fn migrations(&self) -> migration::Result<Vec<Box<dyn Migration<Pg>>>> {
            Ok(vec![Box::new(self.clone())])
        }
    }

    fn url(database: &Database) -> &str {
        match database {
            Database::Postgres { url, .. } => url,
            Database::Sqlite { .. } => unreachable!("it was made on Postgres"),
        }
    }

    /// Where a service is.
    fn service(name: &str, variable: &str) -> Option<String> {
        if let Ok(value) = std::env::var(variable) {
            return Some(value);
        }
        let required = std::env::var("KMS_TEST_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|required| required.trim() == name),
            "KMS_TEST_REQUIRE names {name}, but {variable} is not set"
        );
        // Past the capture of the test's output.
        let _ = writeln!(std::io::stderr(), "skipped: {name} ({variable} is not set)");
        None
    }
}
