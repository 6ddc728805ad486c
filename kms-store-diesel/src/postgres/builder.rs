//! How a repository on Postgres is made.

use std::fmt;
use std::time::Duration;

use diesel::PgConnection;
use diesel::QueryResult;
use diesel::connection::{CacheSize, Connection as _, SimpleConnection as _};
use diesel::r2d2::{ConnectionManager, Pool};
use kms_core::{Error, ErrorKind, Result};

use super::address::Address;
use crate::connections::{Connections, Limits, PoolSettings};
use crate::repository::DieselRepository;

/// Keys in Postgres, 15 or later.
///
/// The schema is that of `kms-migrations`, in whichever schema of the database comes first in the
/// connection's `search_path`.
///
/// ```no_run
/// use std::time::Duration;
/// use kms_store_diesel::PostgresRepository;
///
/// let repository = PostgresRepository::builder("postgres://app@localhost/app")
///     .pool_size(8)
///     .lock_timeout(Duration::from_secs(2))
///     .build()?;
/// # Ok::<(), kms_core::Error>(())
/// ```
pub type PostgresRepository = DieselRepository<PgConnection>;

impl PostgresRepository {
    /// Settings for a pool of its own. The address is a libpq connection string: a URI
    /// (`postgres://user:password@host:5432/database?sslmode=verify-full`) or keywords (`host=… dbname=…`).
    pub fn builder(address: impl Into<String>) -> PostgresBuilder {
        PostgresBuilder {
            address: address.into(),
            size: 10,
            limits: Limits::default(),
            pooler: false,
        }
    }

    /// Over a pool that the application already has. How long a call waits for a connection is the pool's
    /// `connection_timeout`; `statement_timeout` is what the pool's connections are set to; a change waits
    /// 5 seconds for a lock. A call takes no longer than [`with_call_timeout`](Self::with_call_timeout) says, and unless
    /// that says something, no longer than `connection_timeout` and 45 seconds.
    ///
    /// A call that got no answer in time keeps its connection, which can't be taken from the application's pool until
    /// the database, or the operating system, ends the wait.
    ///
    /// Build the pool with `test_on_check_out(false)`: else each call costs a query more. If its connections go
    /// through a transaction pooler, they must keep no prepared statements
    /// (`set_prepared_statement_cache_size(CacheSize::Disabled)`, in a `CustomizeConnection`).
    #[must_use]
    pub fn from_pool(pool: Pool<ConnectionManager<PgConnection>>) -> Self {
        Self::over(Connections::from_pool(pool))
    }
}

/// Settings of a [`PostgresRepository`] with a pool of its own.
#[derive(Clone)]
#[must_use = "build it"]
pub struct PostgresBuilder {
    address: String,
    size: u32,
    limits: Limits,
    pooler: bool,
}

impl PostgresBuilder {
    /// Connections at most; 10 if not set. They are opened when needed, and closed after ten idle minutes.
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.size = connections;
        self
    }

    /// How long a call waits for a connection, and how long the server may take to accept one; 5 seconds if not set.
    /// A server that refuses a connection is told at once. When the last handle to the repository is dropped, that
    /// waits as long at most for its threads to close their connections, so that the process can exit then.
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connection = timeout;
        self
    }

    /// How long a statement waits for a lock (`lock_timeout`); 5 seconds if not set.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.limits.lock = timeout;
        self
    }

    /// How long a statement may take (`statement_timeout`); 30 seconds if not set.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.limits.statement = timeout;
        self
    }

    /// How long a call may take in all, from the wait for a connection to the answer, whatever the server does.
    ///
    /// If not set, it is `connection_timeout`, `statement_timeout` and three times `lock_timeout` together: 50 seconds
    /// with their defaults. A read is one statement. A change waits for locks at three places: the collection version,
    /// the root keys, and the place of a new root key. So the limits of the server come first, whose errors say more;
    /// this one is for a server that says nothing at all. Set it lower where nobody waits that long for an answer. A
    /// change that comes to this limit before its commit is rolled back.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.limits.call = Some(timeout);
        self
    }

    /// The address is that of a pooler which gives each transaction any session of the server: pgbouncer with
    /// `pool_mode = transaction`, say. Without this, statements are prepared in one session and run in another.
    ///
    /// Then nothing is expected of a session. Statements are sent unprepared, so that the server plans each anew,
    /// also where the pooler could follow prepared ones (pgbouncer since 1.21). The timeouts are set in each
    /// transaction that writes; a read, or a creation of one scope's keys, is one statement, and may take as long as the
    /// `statement_timeout` of the server's role says: set it there.
    ///
    /// A pooler takes no `options` in the address: set a `search_path` for the role or the database.
    pub fn transaction_pooler(mut self) -> Self {
        self.pooler = true;
        self
    }

    /// Makes the repository. Connects to nothing yet: a server that is not there is found at the first
    /// call, by [`ErrorKind::DatabaseUnreachable`].
    ///
    /// Unless the address says otherwise, TCP keep-alives find a server that vanished after about a minute.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfiguration`] for an address that is no connection string, a pool of no
    /// connections, or a timeout of zero.
    pub fn build(self) -> Result<PostgresRepository> {
        const OPERATION: &str = "PostgresRepository::builder";
        self.limits.check(OPERATION)?;
        if self.size == 0 {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_operation(OPERATION)
                .with_detail("the pool size must be more than zero"));
        }
        let Limits {
            connection,
            lock,
            statement,
            ..
        } = self.limits;
        let address = Address::new(&self.address)?;
        let url = address.with_defaults(&[
            ("connect_timeout", whole_seconds(connection).to_string()),
            ("keepalives_idle", "30".to_owned()),
            ("keepalives_interval", "10".to_owned()),
            ("keepalives_count", "3".to_owned()),
            ("tcp_user_timeout", "60000".to_owned()),
        ]);
        // Between two statements of a change nothing is waited for; the last of them is for a process that was
        // stopped in the middle.
        let timeouts = |set: &str| {
            let (statement, lock) = (statement.as_millis().max(1), lock.as_millis().max(1));
            format!(
                "{set} statement_timeout = {statement}; {set} lock_timeout = {lock}; \
                 {set} idle_in_transaction_session_timeout = {statement}"
            )
        };
        let (session, transaction) = if self.pooler {
            (Session::Foreign, Some(timeouts("set local").into()))
        } else {
            (Session::Own(timeouts("set")), None)
        };
        Ok(PostgresRepository::over(Connections::new(PoolSettings {
            url,
            size: self.size,
            limits: self.limits,
            prepare: Box::new(move |connection| session.prepare(connection)),
            transaction,
            redact: Box::new(move |message| address.redact(message)),
        })))
    }
}

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBuilder")
            .field("size", &self.size)
            .field("limits", &self.limits)
            .field("transaction_pooler", &self.pooler)
            .finish_non_exhaustive()
    }
}

/// libpq takes whole seconds, and makes 2 of 1.
fn whole_seconds(timeout: Duration) -> u64 {
    (timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0)).max(2)
}

/// Whose the server's sessions are.
#[derive(Debug)]
enum Session {
    /// A connection's, with these settings.
    Own(String),
    /// A pooler's: nothing that is kept in them is found again.
    Foreign,
}

impl Session {
    fn prepare(&self, connection: &mut PgConnection) -> QueryResult<()> {
        match self {
            Self::Own(settings) => connection.batch_execute(settings),
            Self::Foreign => {
                connection.set_prepared_statement_cache_size(CacheSize::Disabled);
                Ok(())
            }
        }
    }
}
