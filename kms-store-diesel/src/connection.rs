//! The operations on a connection of the caller's.

use kms_core::{ChangeSet, Error, ErrorKind, Receipt, Result, ScopeId, Snapshot};

use crate::apply::apply;
use crate::blocking::now;
use crate::dialect::Dialect;
use crate::failure::{Failure, query_error};
use crate::transaction::{ended, require_transaction};
use crate::whole::Whole;

/// Reads keys and applies changes on a diesel connection of the application's, inside its transaction
/// and beside its own rows: no second connection is taken.
///
/// Implemented for `diesel::PgConnection` and `diesel::SqliteConnection`, and so usable on what a pool
/// hands out. Everything is synchronous, as diesel is: in async code run the whole transaction where
/// blocking is allowed.
///
/// # Which transaction
///
/// - Apply change sets first, all of a transaction in one call, and keep the transaction short: every
///   change but the creation of a scope holds up every other change until the commit.
/// - On SQLite begin it with `immediate_transaction`. In a deferred one that has read before, the
///   database can refuse to let it write: [`ErrorKind::RestartTransaction`].
/// - On Postgres `read committed` is enough. A `repeatable read` or `serializable` one may have to be
///   run again as a whole: [`ErrorKind::RestartTransaction`].
/// - How long a statement waits for a lock is the connection's own setting (`lock_timeout` on Postgres,
///   `busy_timeout` on SQLite).
///
/// ```no_run
/// use diesel::prelude::*;
/// use kms_core::{ChangeSet, Error, Receipt};
/// use kms_store_diesel::KeyConnection;
///
/// # diesel::table! { organization (id) { id -> Text, } }
/// # #[derive(Debug)] enum Failure { Kms(Error), Diesel(diesel::result::Error) }
/// # impl From<Error> for Failure { fn from(e: Error) -> Self { Self::Kms(e) } }
/// # impl From<diesel::result::Error> for Failure { fn from(e: diesel::result::Error) -> Self { Self::Diesel(e) } }
/// # #[cfg(feature = "sqlite")]
/// fn create_organization(
///     connection: &mut SqliteConnection,
///     id: &str,
///     keys: &ChangeSet,
/// ) -> Result<Vec<Receipt>, Failure> {
///     connection.immediate_transaction(|connection| {
///         diesel::insert_into(organization::table)
///             .values(organization::id.eq(id))
///             .execute(connection)?;
///         Ok(connection.apply_changes(&[keys])?)
///     })
/// }
/// ```
pub trait KeyConnection {
    /// All rows of these scopes and the collection version, as this connection's transaction sees them.
    /// The engine opens them; they never go into its shared cache, since they may be rolled back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DatabaseUnreachable`], [`ErrorKind::RestartTransaction`], [`ErrorKind::Database`].
    /// On Postgres a failed query has aborted the caller's transaction.
    fn load_keys(&mut self, scopes: &[ScopeId]) -> Result<Snapshot>;

    /// Applies change sets of different scopes inside the caller's transaction: all of them or none. One
    /// receipt each, in their order; hand them to the engine after the commit.
    ///
    /// It runs in a savepoint: after any error nothing of it is left, and the caller's transaction can go
    /// on, unless the error is `DatabaseUnreachable` or `RestartTransaction`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`]: a scope changed since its change was prepared; prepare it again.
    /// [`ErrorKind::AlreadyExists`], [`ErrorKind::InUse`], [`ErrorKind::UseNotProven`].
    /// [`ErrorKind::MissingScopeRow`], where the database says so before the commit.
    /// [`ErrorKind::RestartTransaction`]: see above. [`ErrorKind::DatabaseBusy`]: a lock was not granted, or
    /// a statement not done, within the connection's own timeouts. [`ErrorKind::Conflict`] also if the server ended
    /// a deadlock by refusing this change: the locks that the transaction had before it still has.
    /// [`ErrorKind::DatabaseReadOnly`], [`ErrorKind::DatabaseFull`]. [`ErrorKind::Database`], also if the connection
    /// is in no transaction that diesel began.
    fn apply_changes(&mut self, changes: &[&ChangeSet]) -> Result<Vec<Receipt>>;
}

/// What [`KeyConnection`] does, on a connection of diesel-async: `AsyncPgConnection`, and so what its pools (deadpool,
/// bb8) hand out. No thread is blocked.
///
/// Everything that is said there of transactions, savepoints and errors holds here too.
///
/// # Futures that are dropped
///
/// If the future of [`apply_changes`](Self::apply_changes) is dropped before its end, as by a timeout around it, or
/// panics, the connection counts as broken from then on: the transaction's commit fails with
/// `BrokenTransactionManager`, diesel-async's pools drop the connection, and the server rolls everything back. So
/// neither a part of a change, nor rows of yours without their change, are ever committed. That of
/// [`load_keys`](Self::load_keys) may be dropped at any time.
///
/// ```no_run
/// use diesel::prelude::*;
/// use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
/// use kms_core::{ChangeSet, Error, Receipt};
/// use kms_store_diesel::AsyncKeyConnection;
///
/// # diesel::table! { organization (id) { id -> Text, } }
/// # #[derive(Debug)] enum Failure { Kms(Error), Diesel(diesel::result::Error) }
/// # impl From<Error> for Failure { fn from(e: Error) -> Self { Self::Kms(e) } }
/// # impl From<diesel::result::Error> for Failure { fn from(e: diesel::result::Error) -> Self { Self::Diesel(e) } }
/// async fn create_organization(
///     connection: &mut AsyncPgConnection,
///     id: &str,
///     keys: &ChangeSet,
/// ) -> Result<Vec<Receipt>, Failure> {
///     connection
///         .transaction(async |connection| {
///             diesel::insert_into(organization::table)
///                 .values(organization::id.eq(id))
///                 .execute(connection)
///                 .await?;
///             Ok(connection.apply_changes(&[keys]).await?)
///         })
///         .await
/// }
/// ```
#[cfg(feature = "diesel-async")]
pub trait AsyncKeyConnection {
    /// As [`KeyConnection::load_keys`].
    ///
    /// # Errors
    ///
    /// The same.
    fn load_keys(&mut self, scopes: &[ScopeId]) -> impl Future<Output = Result<Snapshot>> + Send;

    /// As [`KeyConnection::apply_changes`].
    ///
    /// # Errors
    ///
    /// The same.
    fn apply_changes(
        &mut self,
        changes: &[&ChangeSet],
    ) -> impl Future<Output = Result<Vec<Receipt>>> + Send;
}

#[cfg(feature = "diesel-async")]
impl AsyncKeyConnection for diesel_async::AsyncPgConnection {
    async fn load_keys(&mut self, scopes: &[ScopeId]) -> Result<Snapshot> {
        load(self, scopes).await
    }

    async fn apply_changes(&mut self, changes: &[&ChangeSet]) -> Result<Vec<Receipt>> {
        apply_all(self, changes).await
    }
}

#[cfg(feature = "postgres")]
impl KeyConnection for diesel::PgConnection {
    fn load_keys(&mut self, scopes: &[ScopeId]) -> Result<Snapshot> {
        now(load(self, scopes))
    }

    fn apply_changes(&mut self, changes: &[&ChangeSet]) -> Result<Vec<Receipt>> {
        now(apply_all(self, changes))
    }
}

#[cfg(feature = "sqlite")]
impl KeyConnection for diesel::SqliteConnection {
    fn load_keys(&mut self, scopes: &[ScopeId]) -> Result<Snapshot> {
        now(load(self, scopes))
    }

    fn apply_changes(&mut self, changes: &[&ChangeSet]) -> Result<Vec<Receipt>> {
        now(apply_all(self, changes))
    }
}

async fn load<C: Dialect>(connection: &mut C, scopes: &[ScopeId]) -> Result<Snapshot> {
    let scopes: Vec<_> = scopes.iter().map(ScopeId::as_str).collect();
    connection
        .snapshot(&scopes)
        .await
        .map_err(|error| outside::<C>(error.into()).with_operation("load_keys"))
}

async fn apply_all<C: Dialect>(connection: &mut C, changes: &[&ChangeSet]) -> Result<Vec<Receipt>> {
    let mut whole = Whole::begun(connection);
    let result = apply_in_savepoint(whole.connection(), changes).await;
    whole.done();
    result.map_err(|error| error.with_operation("apply_changes"))
}

async fn apply_in_savepoint<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
) -> Result<Vec<Receipt>> {
    require_transaction(connection)?;
    let begun = connection.begin().await;
    begun.map_err(|error| outside::<C>(error.into()))?;
    let applied = apply(connection, changes, None).await.and_then(|applied| {
        let outcomes = applied.outcomes.into_iter();
        outcomes.collect::<Result<_>>().map_err(Failure::Ready)
    });
    ended(connection, applied).await.map_err(outside::<C>)
}

/// The error to hand out where the transaction is the caller's, and only the caller can run it again.
fn outside<C: Dialect>(failure: Failure) -> Error {
    match failure {
        Failure::Query(error) if C::is_busy(&error) => {
            Error::new(ErrorKind::RestartTransaction).with_source(error)
        }
        Failure::Query(error) if crate::sqlstate::is_serialization(&error) => {
            Error::new(ErrorKind::RestartTransaction).with_source(error)
        }
        Failure::Query(error) => match C::condition(&error) {
            Some(kind) => Error::new(kind).with_source(error),
            None => query_error(error),
        },
        other => other.into_error(),
    }
}
