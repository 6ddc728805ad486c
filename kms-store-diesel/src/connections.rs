//! Calls on pooled connections, each on a thread of its connection, with every wait bounded.
//!
//! ```text
//! caller ── job ──▶ worker thread ── answer ──▶ caller
//!    │                   │
//!    └──── lease ────────┘   the call's: ended by the thread, or abandoned by the caller at its deadline
//! ```

mod departure;
mod generation;
mod lease;
mod limits;
mod pace;
mod place;
mod session;
mod silence;
mod source;
mod turn;
mod waiting;
mod worker;

use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Object, PoolError, QueueMode, Timeouts};
use diesel::r2d2::{ConnectionManager, Pool, R2D2Connection};
use kms_core::{Error, ErrorKind, Result, SCHEMA_VERSION, schema_mismatch};
use kms_migrations::EXTENSION_VERSION;
use tokio::sync::oneshot;

use crate::blocking::{Blocking, now};
use crate::calls::{Calls, Work};
use crate::dialect::SchemaVersions;
use crate::failure::{Failure, REPAIR};
use crate::transaction::Terms;
use departure::Departure;
use generation::Generation;
use lease::{Lease, Stage};
use silence::{Admission, Silence};
use source::{Opening, Source};
use turn::job;
use waiting::Waiting;
use worker::Workers;

#[cfg(feature = "diesel-async")]
pub(crate) use limits::Deadlines;
pub(crate) use limits::Limits;
pub(crate) use place::{Place, Site};
pub(crate) use source::{Holds, Open, exhausted};

/// A free connection is closed, and its thread ends, when no call needed it for this long.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// More connections than any database takes.
const LARGEST: u32 = 1 << 16;

/// The threads of a repository, one for each connection.
pub struct Connections<C: R2D2Connection + Send + 'static> {
    pool: managed::Pool<Workers<C>>,
    /// After the pool, as in the order in which they are dropped.
    departure: Arc<Departure>,
    shared: Arc<Shared<C>>,
    limits: Limits,
}

/// What the callers and the threads have in common.
struct Shared<C: R2D2Connection + Send + 'static> {
    source: Source<C>,
    limits: Limits,
    /// Settings of each of our transactions.
    transaction: Option<Box<str>>,
    silence: Silence,
    generation: Generation,
}

impl<C: R2D2Connection + Send + 'static> Clone for Connections<C> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            departure: Arc::clone(&self.departure),
            shared: Arc::clone(&self.shared),
            limits: self.limits,
        }
    }
}

/// Settings of a pool of our own.
pub(crate) struct PoolSettings<C> {
    pub(crate) open: Open<C>,
    /// What must hold of the server of each connection, or it is given up.
    pub(crate) demand: Option<Holds<C>>,
    pub(crate) size: u32,
    pub(crate) limits: Limits,
    /// Statements for the settings of each transaction: where sessions don't keep theirs.
    pub(crate) transaction: Option<Box<str>>,
    /// Where the database is, if that is a place where another one can be put.
    pub(crate) place: Option<Place>,
}

impl<C: R2D2Connection + Send + 'static> Connections<C> {
    /// A pool of our own. Connects to nothing yet.
    pub(crate) fn new(settings: PoolSettings<C>) -> Self {
        let opening = Opening {
            open: settings.open,
            demand: settings.demand,
            place: settings.place,
            warnings: pace::Pace::default(),
        };
        Self::over(
            Source::Own(opening),
            settings.size,
            settings.limits,
            settings.transaction,
            IDLE,
        )
    }

    /// Over a pool that the application has. Its own settings stay.
    pub(crate) fn from_pool(pool: Pool<ConnectionManager<C>>) -> Self {
        let size = pool.max_size();
        let limits = Limits {
            connection: pool.connection_timeout(),
            ..Limits::default()
        };
        Self::over(Source::Application(pool), size, limits, None, IDLE)
    }

    fn over(
        source: Source<C>,
        size: u32,
        limits: Limits,
        transaction: Option<Box<str>>,
        idle: Duration,
    ) -> Self {
        let size = usize::try_from(size.min(LARGEST)).unwrap_or(usize::MAX);
        let (running, all_ended) = mpsc::channel();
        let shared = Arc::new(Shared {
            source,
            limits,
            transaction,
            silence: Silence::new(size),
            generation: Generation::default(),
        });
        let workers = Workers {
            shared: Arc::clone(&shared),
            idle,
            running,
        };
        let pool = managed::Pool::builder(workers)
            .max_size(size)
            // The one that was used last, so that the others become idle.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with a runtime and without timeouts can be built");
        Self {
            pool,
            departure: Arc::new(Departure::new(all_ended, limits.connection())),
            shared,
            limits,
        }
    }

    /// Runs the work on a thread that has a connection, and waits for it until the call's deadline. The work goes on
    /// to its end when the caller goes away.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Fn(&mut C, Terms<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T>
    where
        C: Blocking,
    {
        let replacements = self.server_changes();
        let result = self.call(work).await;
        if self.server_changes() != replacements {
            // Each would find out for itself, but keep the former database open until then.
            self.pool.retain(|_, _| false);
        }
        result.map_err(|error| error.with_operation(operation))
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl Fn(&mut C, Terms<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T>
    where
        C: Blocking,
    {
        let silence = &self.shared.silence;
        let admission = silence.admit()?;
        let deadlines = self.limits.deadlines();
        let worker = self.worker().await?;
        if admission == Admission::Usual {
            // Calls before this one may have got no answer while it waited.
            silence.admit()?;
        }
        let jobs = worker.jobs.clone();
        let lease = Arc::new(Lease::new(worker));
        let (reply, answer) = oneshot::channel();
        let job = job(
            Arc::clone(&lease),
            Arc::clone(&self.shared),
            deadlines,
            work,
            reply,
        );
        if jobs.try_send(job).is_err() {
            lease.abandon(Stage::Committing);
            return Err(Error::new(ErrorKind::Internal)
                .with_detail("the thread of the connection has ended"));
        }
        let waiting = Waiting {
            shared: Arc::clone(&self.shared),
            lease,
            answer,
            limits: self.limits,
            deadlines,
        };
        waiting.answer().await
    }

    async fn worker(&self) -> Result<Object<Workers<C>>> {
        let limit = self.limits.connection().min(self.limits.call());
        let timeouts = Timeouts {
            wait: Some(limit),
            ..Timeouts::new()
        };
        self.pool
            .timeout_get(&timeouts)
            .await
            .map_err(|error| match error {
                PoolError::Timeout(_) => exhausted(self.size(), limit),
                PoolError::Backend(source) => Error::new(ErrorKind::DatabaseBusy)
                    .with_detail("no thread could be started for a connection")
                    .with_source(source),
                other => Error::new(ErrorKind::Internal).with_source(other),
            })
    }
}

impl<C: Blocking> Calls<C> for Connections<C> {
    fn server_changes(&self) -> u64 {
        self.server_changes()
    }

    async fn run<D: Send + Sync + 'static, T: Send + 'static>(
        &self,
        operation: &'static str,
        given: D,
        work: Work<C, D, T>,
    ) -> Result<T> {
        self.run(operation, move |connection, terms| {
            now(work(&given, connection, terms))
        })
        .await
    }
}

impl<C: R2D2Connection + Send + 'static> Connections<C> {
    /// The same connections, with another limit for all of a call.
    pub(crate) fn with_call_limit(mut self, limit: Duration) -> Self {
        self.limits.call = Some(limit);
        self
    }

    /// How often the connections were found to be to the wrong server, or to a database that was replaced.
    pub(crate) fn server_changes(&self) -> u64 {
        self.shared.generation.current() + self.shared.source.replacements()
    }

    fn size(&self) -> u32 {
        u32::try_from(self.pool.status().max_size).unwrap_or(LARGEST)
    }
}

/// Checks that the shared version is the one that this code was written for, and that of our own part that one or a
/// later one: what migrations add to it does not disturb processes that don't know it yet.
pub(crate) fn check(versions: &SchemaVersions) -> Result<String> {
    let found = versions.shared.as_deref();
    if found != Some(SCHEMA_VERSION) {
        let mismatch = schema_mismatch(SCHEMA_VERSION, found);
        return Err(match found {
            None => mismatch.with_detail(REPAIR),
            Some(_) => mismatch,
        });
    }
    let extension = versions.extension.as_deref();
    if extension.and_then(number) < number(EXTENSION_VERSION) {
        return Err(
            schema_mismatch(EXTENSION_VERSION, extension).with_detail(match extension {
                None => REPAIR_EXTENSION,
                Some(_) => "of kms_extension_version, beside the version shared with Go kms",
            }),
        );
    }
    Ok(SCHEMA_VERSION.to_owned())
}

const REPAIR_EXTENSION: &str = "\
kms_extension_version is missing, or has no row: then `repair` of kms-migrations puts it back";

/// The number of a version like `v2`; nothing for any other text.
fn number(version: &str) -> Option<u32> {
    let digits = version.strip_prefix('v')?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

impl<C: R2D2Connection + Send + 'static> fmt::Debug for Connections<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("size", &self.size())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::time::Instant;

    use diesel::prelude::*;
    use diesel::sqlite::SqliteConnection;

    use super::*;

    fn in_memory(idle: Duration) -> Connections<SqliteConnection> {
        let opening = Opening {
            open: Box::new(|_| {
                Ok(SqliteConnection::establish(":memory:").expect("it needs no file"))
            }),
            demand: None,
            place: None,
            warnings: pace::Pace::default(),
        };
        Connections::over(Source::Own(opening), 1, Limits::default(), None, idle)
    }

    async fn one(connections: &Connections<SqliteConnection>) -> Result<i32> {
        let one = diesel::dsl::sql::<diesel::sql_types::Integer>("select 1");
        connections
            .run("one", move |connection, _| {
                Ok(one.clone().get_result::<i32>(connection)?)
            })
            .await
    }

    #[test]
    fn a_thread_ends_when_it_is_idle_and_the_next_call_has_another() {
        kms_testkit::repository::run(async {
            let connections = in_memory(Duration::from_millis(20));
            let without_threads = Arc::strong_count(&connections.shared);
            for _ in 0..3 {
                assert_eq!(one(&connections).await.unwrap(), 1);
                let started = Instant::now();
                while Arc::strong_count(&connections.shared) > without_threads {
                    assert!(started.elapsed() < Duration::from_secs(20));
                    tokio::task::yield_now().await;
                }
            }
        });
    }

    #[test]
    fn a_panic_in_a_call_is_its_error_and_leaves_the_pool_whole() {
        kms_testkit::repository::run(async {
            let connections = in_memory(IDLE);
            for _ in 0..3 {
                let error = connections
                    .run("panic", |_, _| -> Result<(), Failure> {
                        panic!("as the test wants")
                    })
                    .await
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Internal);
                assert_eq!(one(&connections).await.unwrap(), 1);
            }
        });
    }
}
