//! The operations on a connection of the caller's.

use kms_core::{ChangeSet, Error, ErrorKind, Receipt, Result, ScopeId, Snapshot};

use crate::apply::apply;
use crate::dialect::Dialect;
use crate::failure::{Failure, query_error};
use crate::transaction::require_transaction;

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

#[cfg(feature = "postgres")]
impl KeyConnection for diesel::PgConnection {
    fn load_keys(&mut self, scopes: &[ScopeId]) -> Result<Snapshot> {
        load(self, scopes)
    }

    fn apply_changes(&mut self, changes: &[&ChangeSet]) -> Result<Vec<Receipt>> {
        apply_all(self, changes)
    }
}

#[cfg(feature = "sqlite")]
impl KeyConnection for diesel::SqliteConnection {
    fn load_keys(&mut self, scopes: &[ScopeId]) -> Result<Snapshot> {
        load(self, scopes)
    }

    fn apply_changes(&mut self, changes: &[&ChangeSet]) -> Result<Vec<Receipt>> {
        apply_all(self, changes)
    }
}

fn load<C: Dialect>(connection: &mut C, scopes: &[ScopeId]) -> Result<Snapshot> {
    let scopes: Vec<_> = scopes.iter().map(ScopeId::as_str).collect();
    connection
        .snapshot(&scopes)
        .map_err(|error| outside::<C>(error.into()).with_operation("load_keys"))
}

fn apply_all<C: Dialect>(connection: &mut C, changes: &[&ChangeSet]) -> Result<Vec<Receipt>> {
    require_transaction(connection)
        .and_then(|()| {
            connection
                .transaction(|connection| {
                    let applied = apply(connection, changes, None)?;
                    let outcomes = applied.outcomes.into_iter();
                    outcomes.collect::<Result<_>>().map_err(Failure::Ready)
                })
                .map_err(outside::<C>)
        })
        .map_err(|error| error.with_operation("apply_changes"))
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
