//! A primary that is demoted while its connections live on, as behind a virtual address: every new connection leads to
//! the standby that became the primary.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use diesel::r2d2::{ConnectionManager, Pool};
use kms_core::{
    ErrorKind, Freshness, KeyBytes, Kms, KmsBuilder, Repository, Rewrap, ScopeId, Wrapper,
};
use kms_store_diesel::PostgresRepository;
use kms_testkit::change_sets;
use kms_wrapper_aead::{AeadWrapper, fastest};

use super::line::Line;
use crate::keys::{DATABASE, apply, rows, scope};

#[allow(dead_code, reason = "the test of a replica needs the rest")]
#[path = "../../../../bench/tests/replica/servers.rs"]
mod servers;

use servers::{APPLICATION, Servers};

/// How long changes may fail after the address leads to the new primary; two seconds, and more for a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// Two servers, and what leads to the one that is the primary.
struct Pair {
    /// Cut before the servers end.
    line: Line,
    servers: Servers,
}

impl Pair {
    /// None where the server's programs are not to be had.
    fn new() -> Option<Self> {
        let Some(servers) = Servers::start() else {
            // Past the capture of the test's output.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: a failover (no initdb and pg_basebackup on this machine)"
            );
            return None;
        };
        kms_migrations::postgres::run(&mut servers.primary.connection()).unwrap();
        servers.catch_up();
        let line = Line::to(&servers.primary.url());
        Some(Self { line, servers })
    }

    fn url(&self) -> String {
        let url = self.line.url(&self.servers.primary.url());
        format!("{url}&application_name={APPLICATION}")
    }

    fn fail_over(&self) {
        self.servers.fail_over();
        self.line.lead_to(&self.servers.replica.url());
    }

    /// Straight to the new primary.
    fn elsewhere(&self) -> PostgresRepository {
        PostgresRepository::builder(self.servers.replica.url())
            .build()
            .unwrap()
    }
}

fn on_a_pair(test: impl AsyncFnOnce(Pair)) {
    if let Some(pair) = Pair::new() {
        kms_testkit::repository::run(test(pair));
    }
}

/// One that goes on creating scopes, each as often as it takes.
struct Creator {
    name: String,
    repository: Arc<PostgresRepository>,
    ended: Arc<AtomicBool>,
}

/// What it was told: the scopes that were created, and when each was.
type Told = Vec<(ScopeId, Instant)>;

impl Creator {
    async fn create(self) -> Told {
        let mut told = Told::new();
        while !self.ended.load(Ordering::SeqCst) {
            let scope = scope(&format!("{}_{}", self.name, told.len()));
            let change = change_sets::create(&scope, &[DATABASE]);
            match apply(&*self.repository, change).await {
                Ok(_) => told.push((scope, Instant::now())),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::DatabaseReadOnly, "{error}");
                    assert!(error.is_retryable());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        told
    }
}

/// Creates scopes from four places through a failover.
async fn goes_on_after_a_failover(pair: &Pair, repository: PostgresRepository) {
    let (repository, ended) = (Arc::new(repository), Arc::new(AtomicBool::new(false)));
    let creators: Vec<_> = (0..4)
        .map(|number| {
            let creator = Creator {
                name: format!("o_{number}"),
                repository: Arc::clone(&repository),
                ended: Arc::clone(&ended),
            };
            tokio::spawn(creator.create())
        })
        .collect();
    let old = &pair.servers.primary;
    let started = Instant::now();
    while old.sessions() < 4 {
        assert!(started.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::task::block_in_place(|| pair.fail_over());
    let back = Instant::now();
    // The first that finds it out has all others of the pool replaced.
    while old.sessions() > 0 {
        assert!(
            back.elapsed() < SOON,
            "{} are at the old one",
            old.sessions()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    ended.store(true, Ordering::SeqCst);
    let mut told = Told::new();
    for creator in creators {
        let its = creator.await.unwrap();
        let first = its.iter().map(|(_, at)| *at).find(|at| *at > back);
        let first = first.expect("it goes on") - back;
        eprintln!("the first change after {first:?}");
        assert!(first < SOON, "{first:?}");
        told.extend(its);
    }
    let elsewhere = pair.elsewhere();
    let stored = elsewhere
        .scopes(&<_>::default(), None, 100_000)
        .await
        .unwrap();
    let stored: HashSet<_> = stored.into_iter().collect();
    let lost: Vec<_> = told
        .iter()
        .filter(|(scope, _)| !stored.contains(scope))
        .collect();
    eprintln!("{} created, {} lost", told.len(), lost.len());
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn changes_go_on_soon_after_a_failover_and_none_is_lost() {
    on_a_pair(async |pair| {
        let builder = PostgresRepository::builder(pair.url()).pool_size(4);
        goes_on_after_a_failover(&pair, builder.build().unwrap()).await;
    });
}

#[test]
fn changes_over_the_applications_pool_go_on_soon_after_a_failover_and_none_is_lost() {
    on_a_pair(async |pair| {
        let pool = Pool::builder()
            .max_size(4)
            .test_on_check_out(false)
            .build(ConnectionManager::<PgConnection>::new(pair.url()))
            .unwrap();
        goes_on_after_a_failover(&pair, PostgresRepository::from_pool(pool)).await;
    });
}

/// Reads from several places until this holds.
async fn read_until(repository: &Arc<PostgresRepository>, what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON * 4, "{what}");
        let reads: Vec<_> = (0..8)
            .map(|_| {
                let repository = Arc::clone(repository);
                tokio::spawn(async move { repository.load(&[scope("o_1")]).await })
            })
            .collect();
        for read in reads {
            read.await.unwrap().unwrap();
        }
    }
}

#[test]
fn one_refused_write_has_all_connections_of_the_pool_replaced() {
    on_a_pair(async |pair| {
        let builder = PostgresRepository::builder(pair.url()).pool_size(3);
        let repository = Arc::new(builder.build().unwrap());
        let old = &pair.servers.primary;
        read_until(&repository, "it has three", || old.sessions() == 3).await;
        tokio::task::block_in_place(|| pair.fail_over());
        let change = change_sets::create(&scope("o_1"), &[DATABASE]);
        let _ = apply(&*repository, change).await.unwrap();
        read_until(&repository, "none is left", || old.sessions() == 0).await;
        assert_eq!(repository.server_changes(), 1);
    });
}

#[test]
fn a_connection_that_the_application_held_meanwhile_is_replaced_when_it_is_back() {
    on_a_pair(async |pair| {
        let pool = Pool::builder()
            .max_size(2)
            .test_on_check_out(false)
            .build(ConnectionManager::<PgConnection>::new(pair.url()))
            .unwrap();
        let repository = Arc::new(PostgresRepository::from_pool(pool.clone()));
        let held = pool.get().unwrap();
        tokio::task::block_in_place(|| pair.fail_over());
        let change = change_sets::create(&scope("o_1"), &[DATABASE]);
        let _ = apply(&*repository, change).await.unwrap();
        let old = &pair.servers.primary;
        assert_eq!(old.sessions(), 1, "the one that is held");
        drop(held);
        read_until(&repository, "none is left", || old.sessions() == 0).await;
        assert_eq!(repository.server_changes(), 1);
    });
}

/// Uses cached keys for an hour without asking.
async fn engine(repository: PostgresRepository, root: &Arc<dyn Wrapper>) -> Kms {
    KmsBuilder::new(Arc::new(repository), fastest())
        .root_wrapper(Arc::clone(root))
        .purposes([DATABASE])
        .freshness(Freshness::Within(Duration::from_secs(3600)))
        .build()
        .await
        .unwrap()
}

#[test]
fn what_was_read_from_the_former_primary_is_read_again_before_it_is_used() {
    on_a_pair(async |pair| {
        let key = KeyBytes::generate().unwrap();
        let root = AeadWrapper::builder("root").key(key).build().unwrap();
        let root: Arc<dyn Wrapper> = Arc::new(root);
        let builder = PostgresRepository::builder(pair.url()).pool_size(1);
        let kms = engine(builder.build().unwrap(), &root).await;
        let (one, other) = (scope("one"), scope("other"));
        kms.create_keys(&one, &[DATABASE]).await.unwrap();
        kms.create_keys(&other, &[DATABASE]).await.unwrap();
        let newest = async |kms: &Kms| {
            let wrapper = kms.wrapper(&one, &DATABASE).await.unwrap();
            wrapper.key_version_id().clone()
        };
        let first = newest(&kms).await;
        tokio::task::block_in_place(|| pair.fail_over());
        let elsewhere = engine(pair.elsewhere(), &root).await;
        elsewhere.rotate_keys(&one, Rewrap::Yes).await.unwrap();
        let second = newest(&elsewhere).await;
        assert_ne!(first, second);
        assert_eq!(newest(&kms).await, first, "it can't know yet");
        // It finds out with a change that has nothing to do with this scope.
        kms.rotate_keys(&other, Rewrap::Yes).await.unwrap();
        assert_eq!(newest(&kms).await, second);
    });
}

#[test]
fn a_process_that_only_reads_leaves_the_former_primary_where_its_address_asks_for_a_primary() {
    on_a_pair(async |pair| {
        let scope = scope("o_1");
        let repositories = ["read-write", "primary"].map(|target| {
            let url = format!("{}&target_session_attrs={target}", pair.url());
            let builder = PostgresRepository::builder(url).pool_size(1);
            builder.build().unwrap()
        });
        let change = change_sets::create(&scope, &[DATABASE]);
        let _ = apply(&repositories[0], change).await.unwrap();
        for repository in &repositories {
            rows(repository, &scope).await.unwrap();
            assert_eq!(repository.server_changes(), 0);
        }
        tokio::task::block_in_place(|| pair.fail_over());
        let elsewhere = pair.elsewhere();
        let keys = rows(&elsewhere, &scope).await.unwrap();
        let _ = apply(&elsewhere, change_sets::rotate(&keys)).await.unwrap();
        let started = Instant::now();
        while rows(&repositories[0], &scope)
            .await
            .unwrap()
            .same_keys(&keys)
        {
            assert!(started.elapsed() < SOON, "it reads what is old");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(repositories[0].server_changes(), 1);
        // A primary that is set to read only is one, and not left.
        assert!(
            rows(&repositories[1], &scope)
                .await
                .unwrap()
                .same_keys(&keys)
        );
        assert_eq!(repositories[1].server_changes(), 0);
    });
}

#[test]
fn a_server_that_accepts_no_writes_is_read_and_says_so_where_there_is_no_other() {
    on_a_pair(async |pair| {
        let scope = scope("o_1");
        let pool = Pool::builder()
            .max_size(2)
            .test_on_check_out(false)
            .build(ConnectionManager::<PgConnection>::new(pair.url()))
            .unwrap();
        let repositories = [
            PostgresRepository::builder(pair.url()).build().unwrap(),
            PostgresRepository::from_pool(pool),
        ];
        let change = change_sets::create(&scope, &[DATABASE]);
        let _ = apply(&repositories[0], change).await.unwrap();
        tokio::task::block_in_place(|| pair.servers.fail_over());
        for repository in &repositories {
            for _ in 0..3 {
                let keys = rows(repository, &scope).await.unwrap();
                for change in [
                    change_sets::rotate(&keys),
                    change_sets::create(&crate::keys::scope("o_2"), &[DATABASE]),
                ] {
                    let error = apply(repository, change.clone()).await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::DatabaseReadOnly, "{error}");
                    let error = repository.resolve(Arc::new([change])).await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::DatabaseReadOnly, "{error}");
                }
            }
            assert_eq!(repository.server_changes(), 0);
        }
    });
}
