//! How a repository on Postgres is made.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use diesel::PgConnection;
use diesel::r2d2::{ConnectionManager, Pool};
use kms_core::{Error, ErrorKind, Result, SecretBytes};

use super::address::Address;
use super::opening::{Opening, Password, Session};
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
    /// (`postgres://user:password@host:5432/database?sslmode=verify-full`) or keywords (`host=… dbname=…`). Whatever
    /// libpq takes is taken.
    ///
    /// # After a failover
    ///
    /// A write that meets a server which accepts none is tried once more on a new connection. If that one is to a server
    /// that accepts writes, all others are replaced before their next use, and the engine compares every cached key with
    /// its row. Otherwise the error is [`ErrorKind::DatabaseReadOnly`].
    ///
    /// Name all servers, and the one that is wanted, so that each new connection finds it:
    /// `postgres://app@one,two/app?target_session_attrs=read-write`. With `read-write` or `primary` a connection that
    /// has not been looked at for a second is asked before its next use whether its server is still that one, so that a
    /// process that only reads leaves a former primary as well.
    pub fn builder(address: impl Into<String>) -> PostgresBuilder {
        PostgresBuilder {
            address: address.into(),
            size: 10,
            limits: Limits::default(),
            pooler: false,
            password: None,
        }
    }

    /// Over a pool that the application already has. How long a call waits for a connection is the pool's
    /// `connection_timeout`; `statement_timeout` is what the pool's connections are set to; a change waits
    /// 5 seconds for a lock. A call takes no longer than [`with_call_timeout`](Self::with_call_timeout) says, and unless
    /// that says something, no longer than `connection_timeout` and 45 seconds.
    ///
    /// After a failover its connections are looked at one by one, as they are taken from the pool, and those to a server
    /// that accepts no writes are closed. Why a connection can't be made only the pool's error handler knows: the pool
    /// tries until its `connection_timeout`, and the error is [`ErrorKind::DatabaseUnreachable`], for a wrong password
    /// too.
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
    password: Option<Password>,
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

    /// Passwords that expire, as cloud databases have them: this is called for each new connection, on the thread of
    /// that connection, where it may block. The address must hold no password then.
    ///
    /// Tokens are often had by asynchronous calls. Let a runtime that goes on running do them:
    ///
    /// ```no_run
    /// # async fn token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn start() -> Result<(), kms_core::Error> {
    /// use kms_core::SecretBytes;
    /// use kms_store_diesel::PostgresRepository;
    ///
    /// let runtime = tokio::runtime::Handle::current();
    /// let repository = PostgresRepository::builder("postgres://app@db.example.org/app?sslmode=verify-full")
    ///     // RDS: `AuthTokenGenerator::auth_token` of `aws-sdk-rds`, which is good for 15 minutes.
    ///     .password_with(move || runtime.block_on(token()).map(|token| SecretBytes::new(token.into_bytes())))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If it fails, the call that needed the connection fails with [`ErrorKind::DatabaseUnreachable`], and that error's
    /// source is the one returned here. A password that the server refuses is [`ErrorKind::DatabaseLogin`].
    pub fn password_with<E>(
        mut self,
        password: impl Fn() -> Result<SecretBytes, E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.password = Some(Arc::new(move || {
            password().map_err(|error| {
                Error::new(ErrorKind::DatabaseUnreachable)
                    .with_detail("there is no password for a new connection: the function that returns it failed")
                    .with_boxed_source(error.into())
            })
        }));
        self
    }

    /// Makes the repository. Connects to nothing yet: a server that is not there is found at the first
    /// call, by [`ErrorKind::DatabaseUnreachable`], and a wrong role, password or database name by
    /// [`ErrorKind::DatabaseLogin`].
    ///
    /// Unless the address says otherwise, TCP keep-alives find a server that vanished after about a minute.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfiguration`] for an address that is no connection string, or has a password where
    /// [`password_with`](Self::password_with) is to give it, a pool of no connections, or a timeout of zero.
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
        if self.password.is_some() && address.sets("password") {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_operation(OPERATION)
                .with_detail("the address has a password, and password_with is to give it; leave one of them out"));
        }
        let defaults = vec![
            ("connect_timeout", whole_seconds(connection).to_string()),
            ("keepalives_idle", "30".to_owned()),
            ("keepalives_interval", "10".to_owned()),
            ("keepalives_count", "3".to_owned()),
            ("tcp_user_timeout", "60000".to_owned()),
        ];
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
        let opening = Opening {
            address,
            defaults,
            password: self.password,
            session,
        };
        Ok(PostgresRepository::over(Connections::new(PoolSettings {
            demand: opening.demand(),
            open: Box::new(move |by| opening.open(by)),
            size: self.size,
            limits: self.limits,
            transaction,
            place: None,
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
