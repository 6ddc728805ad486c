//! Postgres through threads of libpq and through tasks of tokio-postgres, under the same load: calls per second of each,
//! turn by turn on one database. `KMS_TEST_POSTGRES_URL` names the server.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "it prints what it finds"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::pg::PgConnection;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use kms_core::{ChangeSet, Purpose, Repository, ScopeId};
use kms_store_diesel::{AsyncPostgresRepository, PostgresRepository};
use kms_testkit::change_sets;

const CONNECTIONS: usize = 8;
const CALLERS: usize = 64;
const LOADS: usize = 100;
const CHANGES: usize = 5;
const ROUNDS: usize = 5;
const PURPOSE: Purpose = Purpose::from_static("database");

#[tokio::main]
async fn main() {
    let Ok(server) = std::env::var("KMS_TEST_POSTGRES_URL") else {
        println!("skipped: postgres (KMS_TEST_POSTGRES_URL is not set)");
        return;
    };
    let name = format!("kms_pools_{}", std::process::id());
    let mut admin = PgConnection::establish(&server).unwrap();
    admin
        .batch_execute(&format!("create database {name}"))
        .unwrap();
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    kms_migrations::postgres::run(&mut PgConnection::establish(&url).unwrap()).unwrap();
    measure(&url).await;
    admin
        .batch_execute(&format!("drop database {name} with (force)"))
        .unwrap();
}

async fn measure(url: &str) {
    let threads: Arc<dyn Repository> = Arc::new(
        PostgresRepository::builder(url)
            .pool_size(CONNECTIONS.try_into().unwrap())
            .connection_timeout(Duration::from_secs(60))
            .build()
            .unwrap(),
    );
    let mut config = ManagerConfig::<AsyncPgConnection>::default();
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::new_with_config(url, config);
    let pool = Pool::builder(manager)
        .max_size(CONNECTIONS)
        .build()
        .unwrap();
    let tasks: Arc<dyn Repository> = Arc::new(
        AsyncPostgresRepository::from_pool(pool).with_call_timeout(Duration::from_secs(120)),
    );
    let both = [("threads", threads), ("tasks", tasks)];

    let creations: Vec<ChangeSet> = (0..CALLERS)
        .map(|number| change_sets::create(&scope(number), &[PURPOSE]))
        .collect();
    for outcome in both[0].1.apply(creations.into()).await.unwrap() {
        let _ = outcome.unwrap();
    }
    for round in 0..ROUNDS {
        for (name, repository) in &both {
            let loads = per_second(LOADS, repository, load).await;
            let changes = per_second(CHANGES, repository, rewrap).await;
            println!("round {round}, {name}: {loads:.0} loads/s, {changes:.0} changes/s");
        }
    }
}

fn scope(number: usize) -> ScopeId {
    ScopeId::new(format!("o_{number}")).unwrap()
}

async fn load(repository: Arc<dyn Repository>, scope: ScopeId) {
    repository.load(&[scope]).await.unwrap();
}

async fn rewrap(repository: Arc<dyn Repository>, scope: ScopeId) {
    let rows = repository.load(&[scope]).await.unwrap();
    let change = change_sets::rewrap(&rows.scopes[0]);
    for outcome in repository.apply(Arc::new([change])).await.unwrap() {
        let _ = outcome.unwrap();
    }
}

/// Calls of all callers, each on its own scope and one after the other.
async fn per_second<F>(
    calls: usize,
    repository: &Arc<dyn Repository>,
    call: fn(Arc<dyn Repository>, ScopeId) -> F,
) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let started = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let repository = Arc::clone(repository);
            tokio::spawn(async move {
                for _ in 0..calls {
                    call(Arc::clone(&repository), scope(number)).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let total = (CALLERS * calls) as f64;
    total / started.elapsed().as_secs_f64()
}
