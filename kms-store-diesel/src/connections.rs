//! Calls on pooled connections, off the async threads, with every wait bounded.

mod threads;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::r2d2::{
    ConnectionManager, CustomizeConnection, Error as ManagerError, HandleError, Pool,
    PooledConnection, R2D2Connection,
};
use kms_core::{Error, ErrorKind, Result, SCHEMA_VERSION, schema_mismatch};
use kms_migrations::EXTENSION_VERSION;
use tokio::sync::Semaphore;

use crate::dialect::{Dialect, SchemaVersions};
use crate::failure::{Failure, query_error};
use crate::transaction::Terms;
use threads::Threads;

type Pooled<C> = PooledConnection<ConnectionManager<C>>;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Waiting for a connection.
    pub(crate) connection: Duration,
    /// Waiting for a lock.
    pub(crate) lock: Duration,
    /// One statement.
    pub(crate) statement: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connection: Duration::from_secs(5),
            lock: Duration::from_secs(5),
            statement: Duration::from_secs(30),
        }
    }
}

/// A pool, and the number of calls that may use it at one time.
pub(crate) struct Connections<C: R2D2Connection + Send + 'static> {
    pool: Pool<ConnectionManager<C>>,
    /// Those of a pool of our own. After the pool, as in the order in which they are dropped.
    threads: Option<Arc<Threads>>,
    /// One for each connection: who waits, waits here as a task, not as a thread.
    slots: Arc<Semaphore>,
    pub(crate) limits: Limits,
    /// Settings of each of our transactions.
    transaction: Option<Arc<str>>,
    last_failure: Arc<LastFailure>,
}

impl<C: R2D2Connection + Send + 'static> Clone for Connections<C> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            threads: self.threads.clone(),
            slots: Arc::clone(&self.slots),
            limits: self.limits,
            transaction: self.transaction.clone(),
            last_failure: Arc::clone(&self.last_failure),
        }
    }
}

/// Settings of a pool of our own.
pub(crate) struct PoolSettings<C: Dialect> {
    pub(crate) url: String,
    pub(crate) size: u32,
    pub(crate) limits: Limits,
    pub(crate) customizer: Box<dyn CustomizeConnection<C, ManagerError>>,
    /// Statements for the settings of each transaction: where sessions don't keep theirs.
    pub(crate) transaction: Option<Arc<str>>,
    /// Takes secrets out of a message of the database's client library.
    pub(crate) redact: Box<dyn Fn(&str) -> String + Send + Sync>,
}

impl<C: Dialect> Connections<C> {
    /// A pool of our own. Connects to nothing yet.
    pub(crate) fn new(settings: PoolSettings<C>) -> Self {
        let last_failure = Arc::new(LastFailure::default());
        let threads = Threads::new(settings.limits.connection);
        let pool = Pool::builder()
            .thread_pool(threads.pool())
            .max_size(settings.size)
            // Opened when they are needed: constructing does no I/O.
            .min_idle(Some(0))
            // A `select 1` for each call would double its latency; a dead connection is noticed, and
            // replaced, when it is used.
            .test_on_check_out(false)
            .connection_timeout(settings.limits.connection)
            .connection_customizer(settings.customizer)
            .error_handler(Box::new(Recorder {
                last_failure: Arc::clone(&last_failure),
                redact: settings.redact,
            }))
            .build_unchecked(ConnectionManager::new(settings.url));
        Self {
            threads: Some(Arc::new(threads)),
            transaction: settings.transaction,
            ..Self::over(pool, settings.limits, last_failure)
        }
    }

    /// A pool that the application has. Its own settings stay.
    pub(crate) fn from_pool(pool: Pool<ConnectionManager<C>>) -> Self {
        let limits = Limits {
            connection: pool.connection_timeout(),
            ..Limits::default()
        };
        Self::over(pool, limits, Arc::default())
    }

    fn over(
        pool: Pool<ConnectionManager<C>>,
        limits: Limits,
        last_failure: Arc<LastFailure>,
    ) -> Self {
        let slots = usize::try_from(pool.max_size()).unwrap_or(usize::MAX);
        Self {
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            pool,
            threads: None,
            limits,
            transaction: None,
            last_failure,
        }
    }

    /// What our transactions go by.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            lock: self.limits.lock,
            settings: self.transaction.clone(),
        }
    }

    /// Runs the work on a thread where blocking is allowed. It goes on to its end when the caller goes
    /// away. If the server has closed the connection and nothing was committed, it runs once more on a
    /// connection that answers.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Fn(&mut C) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let deadline = Instant::now() + self.limits.connection;
        let slot = Arc::clone(&self.slots).acquire_owned();
        let Ok(Ok(slot)) = tokio::time::timeout(self.limits.connection, slot).await else {
            return Err(self.exhausted().with_operation(operation));
        };
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let result = this.run_blocking(deadline, work);
            drop(slot);
            result
        })
        .await
        .unwrap_or_else(|source| {
            Err(Error::new(ErrorKind::Internal)
                .with_detail("the task of the database call ended early")
                .with_source(source))
        })
        .map_err(|error| error.with_operation(operation))
    }

    fn run_blocking<T>(
        &self,
        deadline: Instant,
        work: impl Fn(&mut C) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut connection = self.connection(deadline)?;
        let mut started = Instant::now();
        let mut result = work(&mut connection);
        if let Err(failure) = &result
            && failure.lost_before_commit()
        {
            // Diesel has noticed too, so that the pool drops it.
            drop(connection);
            connection = self.answering_connection()?;
            started = Instant::now();
            result = work(&mut connection);
        }
        result.map_err(|failure| self.explain(&mut connection, failure, started.elapsed()))
    }

    fn connection(&self, deadline: Instant) -> Result<Pooled<C>> {
        let remaining = deadline.saturating_duration_since(Instant::now());
        self.pool
            .get_timeout(remaining.max(Duration::from_millis(1)))
            .map_err(|_| {
                // The pool's own error may quote the address, so it is not kept.
                if self.pool.state().connections < self.pool.max_size() {
                    self.unreachable()
                } else {
                    self.exhausted()
                }
            })
    }

    /// A connection that was just seen to answer. Others in the pool may be as dead as the first one was.
    fn answering_connection(&self) -> Result<Pooled<C>> {
        let deadline = Instant::now() + self.limits.connection;
        for _ in 0..=self.pool.max_size() {
            let mut connection = self.connection(deadline)?;
            if connection.ping().is_ok() {
                return Ok(connection);
            }
        }
        Err(self.unreachable())
    }

    fn explain(&self, connection: &mut C, failure: Failure, elapsed: Duration) -> Error {
        match &failure {
            Failure::Query(error) | Failure::Commit(error) if C::is_busy(error) => busy(failure),
            _ if failure.is_unclassified() => {
                if elapsed >= self.limits.lock.min(self.limits.statement) {
                    return busy(failure);
                }
                match connection.schema_versions() {
                    Ok(versions) => check(&versions)
                        .err()
                        .unwrap_or_else(|| failure.into_error()),
                    Err(_) => failure.into_error(),
                }
            }
            _ => failure.into_error(),
        }
    }

    fn exhausted(&self) -> Error {
        Error::new(ErrorKind::DatabaseBusy).with_detail(format!(
            "no connection of the pool ({}) was free within {:?}",
            self.pool.max_size(),
            self.limits.connection
        ))
    }

    fn unreachable(&self) -> Error {
        let error = Error::new(ErrorKind::DatabaseUnreachable);
        match self.last_failure.get() {
            Some(reason) => error.with_detail(reason),
            None => error.with_detail(format!(
                "no connection within {:?}; the pool's error handler knows more",
                self.limits.connection
            )),
        }
    }
}

/// Checks that the shared version is the one that this code was written for, and that of our own part that one or a
/// later one: what migrations add to it does not disturb processes that don't know it yet.
pub(crate) fn check(versions: &SchemaVersions) -> Result<String> {
    let found = versions.shared.as_deref();
    if found != Some(SCHEMA_VERSION) {
        return Err(schema_mismatch(SCHEMA_VERSION, found));
    }
    let extension = versions.extension.as_deref();
    if extension.and_then(number) < number(EXTENSION_VERSION) {
        return Err(schema_mismatch(EXTENSION_VERSION, extension)
            .with_detail("of kms_extension_version, beside the version shared with Go kms"));
    }
    Ok(SCHEMA_VERSION.to_owned())
}

/// The number of a version like `v2`; nothing for any other text.
fn number(version: &str) -> Option<u32> {
    let digits = version.strip_prefix('v')?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

fn busy(failure: Failure) -> Error {
    let error = Error::new(ErrorKind::DatabaseBusy).with_detail("a lock was not granted in time");
    match failure {
        Failure::Query(source) | Failure::Commit(source) => error.with_source(source),
        _ => error,
    }
}

impl<C: R2D2Connection + Send + 'static> fmt::Debug for Connections<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("size", &self.pool.max_size())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Why the pool could not connect when it last tried, fit to be shown.
#[derive(Default)]
struct LastFailure(Mutex<Option<String>>);

impl LastFailure {
    fn set(&self, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    fn get(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

struct Recorder {
    last_failure: Arc<LastFailure>,
    redact: Box<dyn Fn(&str) -> String + Send + Sync>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl HandleError<ManagerError> for Recorder {
    fn handle_error(&self, error: ManagerError) {
        let reason = match error {
            ManagerError::ConnectionError(error) => (self.redact)(error.to_string().trim()),
            ManagerError::QueryError(error) => query_error(error).to_string(),
        };
        tracing::warn!(reason, "no connection to the database");
        self.last_failure.set(reason);
    }
}
