//! How a repository on SQLite is made.

use std::time::Duration;

use diesel::SqliteConnection;
use diesel::r2d2::{ConnectionManager, Pool};
use kms_core::{Error, ErrorKind, Result};

use super::location::Location;
use super::opening::open;
use crate::connections::{Connections, Limits, Place, PoolSettings};
use crate::repository::DieselRepository;

/// Keys in a SQLite file.
///
/// Connections are set to `journal_mode = wal` (readers and the writer don't wait for each other),
/// `foreign_keys = on` (the schema and every proof of disuse depend on it) and `synchronous = extra`, which with the
/// log is the same as `full`: with `normal` a power failure could take back the last commits, and with them a key under
/// which something outside of this database is encrypted already, or a destruction that was reported as done.
///
/// A file that can't be switched to the log, because another process writes to it all the time or because it can't be
/// written to, is used in the mode that it has. Nothing else is written by opening it, so that an engine that only
/// decrypts works on every file that SQLite can read: with `?mode=ro`, say, or with `?immutable=1` in a folder that
/// can't be written to, where nobody else changes the file. (There SQLite itself reads a file with a log only if the
/// log's `-shm` file is there, too.)
///
/// ```no_run
/// use kms_store_diesel::SqliteRepository;
///
/// let repository = SqliteRepository::builder("/var/lib/app/app.sqlite3").build()?;
/// # Ok::<(), kms_core::Error>(())
/// ```
pub type SqliteRepository = DieselRepository<SqliteConnection>;

impl SqliteRepository {
    /// Settings for a pool of its own. The location is a path, or a URI `sqlite://path` or `file:path`.
    /// The file must be there, with its schema: what migrates it makes it.
    pub fn builder(location: impl Into<String>) -> SqliteBuilder {
        SqliteBuilder {
            location: location.into(),
            size: 4,
            limits: Limits::default(),
        }
    }

    /// Over a pool that the application already has. How long a call waits for a connection is the pool's
    /// `connection_timeout`. Its connections must be set to `busy_timeout`, `foreign_keys = on` and
    /// `journal_mode = wal`, by a `CustomizeConnection`, say; without `foreign_keys` deletions are refused.
    ///
    /// A call takes no longer than [`with_call_timeout`](Self::with_call_timeout) says, and unless that says something,
    /// no longer than `connection_timeout` and 45 seconds. If it got no answer in that time it keeps its connection,
    /// which can't be taken from the application's pool until the operating system ends the wait.
    #[must_use]
    pub fn from_pool(pool: Pool<ConnectionManager<SqliteConnection>>) -> Self {
        Self::over(Connections::from_pool(pool))
    }
}

/// Settings of a [`SqliteRepository`] with a pool of its own.
#[derive(Clone, Debug)]
#[must_use = "build it"]
pub struct SqliteBuilder {
    location: String,
    size: u32,
    limits: Limits,
}

impl SqliteBuilder {
    /// Connections at most; 4 if not set. One writes at a time, whatever their number.
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.size = connections;
        self
    }

    /// How long a call waits for a connection; 5 seconds if not set. When the last handle to the repository is
    /// dropped, that waits as long at most for its threads to close their connections.
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connection = timeout;
        self
    }

    /// How long a change waits for another process or connection that writes (`busy_timeout`, in whole
    /// milliseconds); 5 seconds if not set.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.limits.lock = timeout;
        self
    }

    /// How long a call may take in all, from the wait for a connection to the answer, whatever the file system does.
    ///
    /// If not set, it is `connection_timeout`, three times `busy_timeout` and half a minute together: 50 seconds with
    /// their defaults. So a change that waits for another writer is told that the database is busy; this limit is for
    /// a file system that does not answer at all. A change that comes to it before its commit is rolled back.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.limits.call = Some(timeout);
        self
    }

    /// Makes the repository. Opens nothing yet: a file that is not there is found at the first call, by
    /// [`ErrorKind::DatabaseUnreachable`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfiguration`] for a database in memory, a pool of no connections, or a
    /// timeout of zero.
    pub fn build(self) -> Result<SqliteRepository> {
        const OPERATION: &str = "SqliteRepository::builder";
        self.limits.check(OPERATION)?;
        if self.size == 0 {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_operation(OPERATION)
                .with_detail("the pool size must be more than zero"));
        }
        let Location { uri, path } = Location::parse(&self.location)?;
        let shown = path.display().to_string();
        let lock = self.limits.lock;
        Ok(SqliteRepository::over(Connections::new(PoolSettings {
            open: Box::new(move |_| open(&uri, &shown, lock)),
            demand: None,
            size: self.size,
            limits: self.limits,
            transaction: None,
            place: Some(Place::new(path)),
        })))
    }
}
