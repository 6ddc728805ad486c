//! Postgres finds the rows of few scopes among many by its indexes: read off the plans of what is really run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "plans/tap.rs"]
mod tap;

mod postgres {
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::sync::Arc;
    use std::time::Duration;

    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, PgConnection};
    use kms_bench::database::Database;
    use kms_bench::many;
    use kms_bench::world::{PURPOSES, builder, local_root, scope};
    use kms_kit::core::ScopeFilter;
    use kms_kit::{
        CampaignOptions, Freshness, KeyVersionId, Kms, PostgresRepository, Repository, Rewrap,
        RewrapKeys, ScopeId, Scopes, Wrapper,
    };
    use serde_json::Value;

    use crate::tap::{Tap, Told};

    const SCOPES: usize = 10_000;
    const KEY_TABLES: [&str; 4] = [
        "kms_root_key",
        "kms_root_key_version",
        "kms_data_key",
        "kms_data_key_version",
    ];
    /// As often as it takes for a session to settle on a plan for a prepared statement, and more.
    const OFTEN: usize = 8;

    /// Many scopes, of which the first is used by many rows of the application's.
    struct World {
        tap: Tap,
        repository: Arc<dyn Repository>,
        kms: Kms,
        database: Database,
    }

    impl World {
        /// None where there is no server.
        async fn new() -> Option<Self> {
            let server = server()?;
            let database = Database::postgres(&server).unwrap();
            let root = local_root("root").unwrap();
            let url = url(&database);
            many::fill(url, &root, SCOPES, 2).await.unwrap();
            // Statistics stay what `fill` gathered, and don't change when autovacuum happens to come by: on a batch
            // of a campaign among so few scopes the two ways cost about the same.
            for table in KEY_TABLES {
                let off = "set (autovacuum_enabled = off)";
                execute(url, &format!("alter table {table} {off}"));
            }
            execute(
                url,
                "create table secret (
                   id bigint primary key generated always as identity,
                   key_version_id text not null references kms_data_key_version (private_id)
                     deferrable initially deferred);
                 create index on secret (key_version_id);
                 insert into secret (key_version_id)
                 select v.private_id from kms_data_key_version v, generate_series(1, 3)
                  where v.version = 2;
                 analyze secret",
            );
            let tap = Tap::before(url);
            let repository: Arc<dyn Repository> = Arc::new(
                PostgresRepository::builder(&tap.url)
                    .pool_size(1)
                    .build()
                    .unwrap(),
            );
            let kms = engine(&repository, &root).await;
            Some(Self {
                tap,
                repository,
                kms,
                database,
            })
        }

        /// The plans of what the work runs, each time that it is done.
        async fn plans(&self, times: usize, mut work: impl AsyncFnMut(usize)) -> Plans {
            let _ = self.tap.take();
            for time in 0..times {
                work(time).await;
            }
            Plans(self.tap.take())
        }
    }

    async fn engine(repository: &Arc<dyn Repository>, root: &Arc<dyn Wrapper>) -> Kms {
        builder(Arc::clone(repository), root)
            .freshness(Freshness::Always)
            .build()
            .await
            .unwrap()
    }

    struct Plans(Vec<Told>);

    impl Plans {
        /// Something was run on the key tables, and no key table was read from one end to the other.
        fn use_indexes(&self, what: &str) {
            let mut read = BTreeSet::new();
            for told in &self.0 {
                visit(&told.plan, &mut |node| {
                    let (Some(kind), Some(table)) =
                        (node["Node Type"].as_str(), node["Relation Name"].as_str())
                    else {
                        return;
                    };
                    if KEY_TABLES.contains(&table) {
                        read.insert(table.to_owned());
                        assert_ne!(
                            kind, "Seq Scan",
                            "{what} reads all of {table}: {}\n{:#}",
                            told.statement, told.plan
                        );
                    }
                });
            }
            assert!(!read.is_empty(), "{what}: no plan was told");
        }
    }

    fn visit(node: &Value, see: &mut impl FnMut(&Value)) {
        see(node);
        for below in node["Plans"].as_array().into_iter().flatten() {
            visit(below, see);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn reading_few_scopes_among_many_uses_indexes() {
        let Some(world) = World::new().await else {
            return;
        };
        let repository = &world.repository;
        world
            .plans(OFTEN, async |time| {
                let found = repository.load(&[scope(time)]).await.unwrap();
                assert_eq!(found.scopes.len(), 1);
            })
            .await
            .use_indexes("one scope");
        // A batch of a campaign, and a page of the census.
        for count in [50, 500] {
            world
                .plans(OFTEN, async |time| {
                    let first = 1000 * time;
                    let scopes: Vec<_> = (first..first + count).map(scope).collect();
                    let found = repository.load(&scopes).await.unwrap();
                    assert_eq!(found.scopes.len(), count);
                })
                .await
                .use_indexes("many scopes");
        }
        for (what, filter) in [
            ("a page of scopes", ScopeFilter::default()),
            ("a page of old scopes", {
                let mut filter = ScopeFilter::default();
                filter.older_than = Some(Duration::from_secs(0));
                filter
            }),
            ("a page of some scopes", {
                let mut filter = ScopeFilter::default();
                filter.scopes = Some((0..100).map(|number| scope(number * 99)).collect());
                filter
            }),
        ] {
            for after in [None, Some(scope(SCOPES / 2))] {
                world
                    .plans(OFTEN, async |_| {
                        let page = repository
                            .scopes(&filter, after.as_ref(), 50)
                            .await
                            .unwrap();
                        assert!(!page.is_empty());
                    })
                    .await
                    .use_indexes(what);
            }
        }
        let some: Vec<ScopeId> = (0..20).map(|number| scope(number * 450)).collect();
        world
            .plans(OFTEN, async |_| {
                let missing = repository.missing(&PURPOSES, Some(&some)).await.unwrap();
                assert!(missing.is_empty());
            })
            .await
            .use_indexes("what some scopes lack");
        let rows = repository.load(&[scope(7)]).await.unwrap().scopes.remove(0);
        let ids = [
            KeyVersionId::from(rows.root_key_versions[0].id.clone()),
            KeyVersionId::from(rows.data_keys[0].versions[0].id.clone()),
        ];
        for id in ids {
            world
                .plans(OFTEN, async |_| {
                    assert_eq!(repository.scope_of(&id).await.unwrap(), Some(scope(7)));
                })
                .await
                .use_indexes("the scope of a version");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changing_few_scopes_among_many_uses_indexes() {
        let Some(world) = World::new().await else {
            return;
        };
        let kms = &world.kms;
        world
            .plans(OFTEN, async |time| {
                kms.create_keys(&scope(SCOPES + time), &PURPOSES)
                    .await
                    .unwrap();
            })
            .await
            .use_indexes("creating");
        world
            .plans(OFTEN, async |time| {
                kms.rotate_keys(&scope(time), Rewrap::Yes).await.unwrap();
            })
            .await
            .use_indexes("rotating");
        world
            .plans(OFTEN, async |time| {
                kms.rewrap_keys(&scope(time), RewrapKeys::All)
                    .await
                    .unwrap();
            })
            .await
            .use_indexes("rewrapping");
        let some: Vec<ScopeId> = (0..200).map(|number| scope(number * 37)).collect();
        world
            .plans(1, async |_| {
                let options = CampaignOptions::new("some").scopes(some.clone());
                let outcome = kms.rotate_all(&options, Rewrap::Yes, |_| {}).await.unwrap();
                let outcome = outcome.report().unwrap();
                assert_eq!(outcome.done, 200);
            })
            .await
            .use_indexes("a campaign");
        world
            .plans(OFTEN, async |_| {
                let scopes = Scopes::Only(&some[..20]);
                let outcome = kms.reconcile_keys(scopes, &PURPOSES).await.unwrap();
                assert!(outcome.created.is_empty());
            })
            .await
            .use_indexes("reconciling");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn revoking_and_deleting_use_the_indexes_of_ours_and_of_the_application() {
        let Some(world) = World::new().await else {
            return;
        };
        let (kms, repository) = (&world.kms, &world.repository);
        world
            .plans(OFTEN, async |time| {
                // Of the first versions no row of the application makes use.
                let rows = repository
                    .load(&[scope(time)])
                    .await
                    .unwrap()
                    .scopes
                    .remove(0);
                let id = rows.data_keys[0].versions[0].id.clone();
                kms.revoke_key_version(&id.into()).await.unwrap();
            })
            .await
            .use_indexes_and_that_of("secret", "revoking a data key version");
        world
            .plans(OFTEN, async |time| {
                let scope = scope(100 + time);
                kms.rewrap_keys(&scope, RewrapKeys::All).await.unwrap();
                let rows = repository.load(&[scope]).await.unwrap().scopes.remove(0);
                let id = rows.root_key_versions[0].id.clone();
                kms.revoke_key_version(&id.into()).await.unwrap();
            })
            .await
            .use_indexes("revoking a root key version");
        world
            .plans(OFTEN, async |time| {
                let scope = scope(200 + time);
                execute(
                    url(&world.database),
                    &format!(
                        "delete from secret using kms_data_key_version v
                           join kms_data_key k on k.private_id = v.data_key_id
                           join kms_root_key r on r.private_id = k.root_key_id
                          where r.scope_id = '{scope}' and v.private_id = key_version_id"
                    ),
                );
                kms.delete_keys(&scope).await.unwrap();
            })
            .await
            .use_indexes_and_that_of("secret", "deleting a scope");
    }

    impl Plans {
        /// The same, and so is the application's table.
        fn use_indexes_and_that_of(&self, table: &str, what: &str) {
            self.use_indexes(what);
            let mut kinds = BTreeSet::new();
            for told in &self.0 {
                visit(&told.plan, &mut |node| {
                    if node["Relation Name"] == table {
                        kinds.insert(node["Node Type"].as_str().unwrap().to_owned());
                    }
                });
            }
            // The checks of a foreign key: by an index, or by a bitmap made of one.
            assert!(!kinds.is_empty(), "{what} does not look into {table}");
            assert!(!kinds.contains("Seq Scan"), "{what} reads all of {table}");
        }
    }

    fn url(database: &Database) -> &str {
        match database {
            Database::Postgres { url, .. } => url,
            Database::Sqlite { .. } => unreachable!("it was made on Postgres"),
        }
    }

    fn execute(url: &str, sql: &str) {
        PgConnection::establish(url)
            .unwrap()
            .batch_execute(sql)
            .unwrap();
    }

    /// The server's URL.
    fn server() -> Option<String> {
        const URL: &str = "KMS_TEST_POSTGRES_URL";
        if let Ok(url) = std::env::var(URL) {
            return Some(url);
        }
        let required = std::env::var("KMS_TEST_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|name| name.trim() == "postgres"),
            "KMS_TEST_REQUIRE names postgres, but {URL} is not set"
        );
        // Past the capture of the test's output.
        let _ = writeln!(std::io::stderr(), "skipped: postgres ({URL} is not set)");
        None
    }
}
