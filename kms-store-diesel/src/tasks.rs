//! Calls on connections of diesel-async: each in a task, with every wait bounded, and no thread blocked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel_async::pooled_connection::deadpool::{Object, Pool, PoolError};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use kms_core::{Error, ErrorKind, Result};
use tokio::time::timeout_at;

use crate::calls::{Calls, Pooled, Work};
use crate::connections::{Deadlines, Limits, Site, exhausted};
use crate::explaining::explain;
use crate::failure::Failure;
use crate::repository::DieselRepository;
use crate::transaction::Terms;

/// Keys in Postgres, 15 or later, over a pool of diesel-async that the application has: no thread is blocked, and no
/// libpq needed.
///
/// Each call runs in a task of its own, on the tokio runtime that it is made in, so that it is worked on to its end when
/// the caller goes away. Calls wait for connections in the order of the pool.
///
/// ```no_run
/// use diesel_async::AsyncPgConnection;
/// use diesel_async::pooled_connection::AsyncDieselConnectionManager;
/// use diesel_async::pooled_connection::deadpool::Pool;
/// use kms_store_diesel::AsyncPostgresRepository;
///
/// let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new("postgres://app@localhost/app");
/// let pool = Pool::builder(manager).max_size(8).build()?;
/// let repository = AsyncPostgresRepository::from_pool(pool.clone());
/// # Ok::<(), diesel_async::pooled_connection::deadpool::BuildError>(())
/// ```
pub type AsyncPostgresRepository = DieselRepository<AsyncPgConnection>;

impl AsyncPostgresRepository {
    /// Over a pool that the application already has.
    ///
    /// A call waits for a connection as long as the pool's own timeout for waiting says, or 5 seconds; a change waits
    /// 5 seconds for a lock; `statement_timeout` is what the pool's connections are set to. All of a call takes no
    /// longer than [`with_call_timeout`](Self::with_call_timeout) says, and unless that says something, no longer than
    /// the wait for a connection and 45 seconds. Then the call is abandoned and its connection closed, so that the pool
    /// has room for another one at once.
    ///
    /// If the server turns out to accept no writes any more, the pool's idle connections are closed, and the call runs
    /// once more on a fresh one: name all servers and `target_session_attrs=read-write` in the pool's URL.
    ///
    /// How connections are made, by TLS for instance, is the pool's: `ManagerConfig::custom_setup`. With
    /// `RecyclingMethod::Verified`, which is diesel-async's default, each call costs a query more; `Fast` is enough here.
    #[must_use]
    pub fn from_pool(pool: Pool<AsyncPgConnection>) -> Self {
        let mut limits = Limits::default();
        if let Some(wait) = pool.timeouts().wait {
            limits.connection = wait;
        }
        Self::over(Tasks {
            pool,
            limits,
            server_changes: Arc::default(),
        })
    }
}

impl Pooled for AsyncPgConnection {
    type Calls = Tasks;

    fn with_call_limit(mut calls: Tasks, limit: Duration) -> Tasks {
        calls.limits.call = Some(limit);
        calls
    }
}

/// The connections of a repository.
#[derive(Clone)]
pub struct Tasks {
    pool: Pool<AsyncPgConnection>,
    limits: Limits,
    server_changes: Arc<AtomicU64>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("size", &self.pool.status().max_size)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Calls<AsyncPgConnection> for Tasks {
    fn server_changes(&self) -> u64 {
        self.server_changes.load(Ordering::Relaxed)
    }

    async fn run<D: Send + Sync + 'static, T: Send + 'static>(
        &self,
        operation: &'static str,
        given: D,
        work: Work<AsyncPgConnection, D, T>,
    ) -> Result<T> {
        let calls = self.clone();
        let task = tokio::spawn(async move { calls.call(&given, work).await });
        let result = task.await.unwrap_or_else(|source| {
            Err(Error::new(ErrorKind::Internal)
                .with_detail("the task of the database call ended early")
                .with_source(source))
        });
        result.map_err(|error| error.with_operation(operation))
    }
}

impl Tasks {
    async fn call<D: Sync, T>(&self, given: &D, work: Work<AsyncPgConnection, D, T>) -> Result<T> {
        let deadlines = self.limits.deadlines();
        let committing = AtomicBool::new(false);
        let may_commit = || {
            committing.store(true, Ordering::Relaxed);
            true
        };
        let terms = Terms {
            lock: self.limits.lock,
            settings: None,
            again: false,
            may_commit: &may_commit,
            site: Site::SERVER,
        };
        match timeout_at(deadlines.call, self.perform(given, work, terms, deadlines)).await {
            Ok(result) => result,
            Err(_) => {
                let kind = if committing.load(Ordering::Relaxed) {
                    ErrorKind::OutcomeUnknown
                } else {
                    ErrorKind::DatabaseUnreachable
                };
                let limit = self.limits.call();
                Err(Error::new(kind)
                    .with_detail(format!("the database did not answer within {limit:?}")))
            }
        }
    }

    /// Runs the work. If the server has closed the connection and nothing was committed, or accepts no writes, it runs
    /// once more on another connection. Work that may have been committed, and can be repeated, runs once more too; if
    /// that does not succeed it says nothing about the first time, whose outcome stays unknown.
    async fn perform<D: Sync, T>(
        &self,
        given: &D,
        work: Work<AsyncPgConnection, D, T>,
        terms: Terms<'_>,
        deadlines: Deadlines,
    ) -> Result<T> {
        let mut lent = self.connection(deadlines).await?;
        let mut started = Instant::now();
        let mut result = work(given, lent.connection(), terms).await;
        let mut unanswered = None;
        if let Err(failure) = result {
            let read_only = failure.is_read_only();
            if !(read_only || failure.lost_before_commit() || failure.is_unanswered()) {
                return Err(self.explain(lent, failure, started.elapsed()).await);
            }
            drop(lent);
            if read_only {
                // Was this the primary, then so it was of the others.
                self.pool.retain(|_, _| false);
                self.server_changes.fetch_add(1, Ordering::Relaxed);
            }
            unanswered = Some(failure).filter(Failure::is_unanswered);
            lent = match self.answering_connection(deadlines).await {
                Ok(lent) => lent,
                Err(error) => return Err(unanswered.map_or(error, Failure::into_error)),
            };
            let again = unanswered.is_some();
            started = Instant::now();
            result = work(given, lent.connection(), Terms { again, ..terms }).await;
        }
        match (result, unanswered) {
            (Ok(value), _) => {
                lent.give_back();
                Ok(value)
            }
            (Err(_), Some(first)) => Err(first.into_error()),
            (Err(failure), None) => Err(self.explain(lent, failure, started.elapsed()).await),
        }
    }

    async fn explain(&self, mut lent: Lent, failure: Failure, elapsed: Duration) -> Error {
        if failure.is_lost() {
            return failure.into_error();
        }
        let error = explain(lent.connection(), failure, elapsed, &self.limits).await;
        lent.give_back();
        error
    }

    /// A connection of the pool that answers: its others may have been closed with the one that was.
    async fn answering_connection(&self, deadlines: Deadlines) -> Result<Lent> {
        loop {
            let mut lent = self.connection(deadlines).await?;
            if lent.connection().batch_execute("select 1").await.is_ok() {
                return Ok(lent);
            }
        }
    }

    async fn connection(&self, deadlines: Deadlines) -> Result<Lent> {
        match timeout_at(deadlines.connection, self.pool.get()).await {
            Ok(Ok(object)) => Ok(Lent(Some(object))),
            Ok(Err(PoolError::Timeout(deadpool::managed::TimeoutType::Wait))) | Err(_)
                if self.is_exhausted() =>
            {
                let size = u32::try_from(self.pool.status().max_size).unwrap_or(u32::MAX);
                Err(exhausted(size, self.limits.connection()))
            }
            Ok(Err(source)) => Err(no_connection().with_source(source)),
            Err(_) => Err(no_connection()),
        }
    }

    /// Whether others have all connections, or are about to open them.
    fn is_exhausted(&self) -> bool {
        let status = self.pool.status();
        status.size >= status.max_size
    }
}

fn no_connection() -> Error {
    Error::new(ErrorKind::DatabaseUnreachable).with_detail("the pool opened no connection")
}

/// A connection that belongs to a call. Unless the call gives it back, it is closed, and its place in the pool is free:
/// an answer to somebody who does not wait any more may still be under way on it, or a transaction be open.
struct Lent(Option<Object<AsyncPgConnection>>);

impl Lent {
    fn connection(&mut self) -> &mut AsyncPgConnection {
        self.0.as_mut().expect("it has one until it is given back")
    }

    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
