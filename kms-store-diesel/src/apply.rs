//! Applying change sets inside a transaction that somebody began, the same way on both databases.

mod campaign;
mod deletion;

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use kms_core::{Applied, Batch, ChangeSet, Error, Outcome, Receipt, Referencer, Refusal, Writes};

pub(crate) use self::campaign::apply_step;
use crate::dialect::Dialect;
use crate::failure::{Failure, ends_transaction, is_lost, query_error};
use crate::sqlstate;
use crate::transaction::{Terms, ended, no_time_left};

/// Applies change sets by the rules of [`Batch`]. Each is all or nothing for itself.
///
/// Runs inside a transaction or savepoint that is rolled back if this fails. If every change set was
/// refused it fails too, with [`Failure::NoneApplied`], so that not even the counter moves.
pub(crate) async fn apply<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
    wait: Option<Duration>,
) -> Result<Applied, Failure> {
    let mut applying = Applying {
        batch: Batch::new(changes.to_vec()),
        wait,
    };
    applying.lock(connection).await?;
    applying.write(connection).await?;
    applying.delete(connection).await?;
    let applied = applying.batch.finish();
    if applied.is_nothing() {
        return Err(Failure::NoneApplied(applied));
    }
    Ok(applied)
}

/// Creates the keys of a scope in one statement, which is its own transaction.
pub(crate) async fn create<C: Dialect>(
    connection: &mut C,
    change: &ChangeSet,
    terms: Terms<'_>,
) -> Result<Outcome, Failure> {
    if !(terms.may_commit)() {
        return Err(no_time_left());
    }
    // The statement has compared the numbers.
    let number = |id: &str| change.numbers().find(|(new, _)| *new == id);
    let applied = || change.applied(|id| number(id).map(|(_, number)| number));
    let Err(error) = connection.create(change, terms.lock).await else {
        return Ok(applied());
    };
    if is_lost(&error) {
        return Err(Failure::Unanswered(error));
    }
    let violation = matches!(
        &error,
        QueryError::DatabaseError(
            DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::CheckViolation
                | DatabaseErrorKind::NotNullViolation,
            _,
        )
    );
    if !violation {
        return Err(error.into());
    }
    let refusal = refusal_of(change, error);
    if terms.again && matches!(refusal, Refusal::AlreadyExists) {
        let found = connection.snapshot(&[change.scope.as_str()]).await?.scopes;
        if found.iter().any(|rows| rows.root_key == change.root_key) {
            return Ok(applied());
        }
    }
    Ok(Err(refusal.of(change)))
}

/// Why change sets were not written, and what was is to be rolled back.
enum WriteFailure {
    Refused(Refusal),
    Query(QueryError),
}

impl From<QueryError> for WriteFailure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

async fn write<C: Dialect>(
    connection: &mut C,
    writes: &Writes<'_>,
) -> Result<Vec<Result<Receipt, Refusal>>, WriteFailure> {
    let written = connection.write(writes).await?;
    for (root_key, scope) in writes.renamed() {
        connection.rename_scope(root_key, scope).await?;
    }
    writes.judge(&written).map_err(WriteFailure::Refused)
}

struct Applying<'a> {
    batch: Batch<'a>,
    /// How long a statement waits for a lock; `None` if that is not for us to know.
    wait: Option<Duration>,
}

impl Applying<'_> {
    async fn lock<C: Dialect>(&mut self, connection: &mut C) -> Result<(), Failure> {
        let (bump, root_keys, scopes) = (
            self.batch.bumps(),
            self.batch.root_keys(),
            self.batch.scopes(),
        );
        if !bump && root_keys.is_empty() && self.wait.is_none() {
            // Creations, in a transaction of the caller's: what they insert is all they wait for.
            return Ok(());
        }
        let root_keys: Vec<_> = root_keys.iter().map(|id| id.as_str()).collect();
        let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        let found = connection
            .lock_and_read(bump, &root_keys, &scopes, self.wait)
            .await?;
        self.batch.compare(found);
        Ok(())
    }

    /// Writes together, or one by one if that shows that one of them can't be written.
    async fn write<C: Dialect>(&mut self, connection: &mut C) -> Result<(), Failure> {
        let positions = self.batch.to_write();
        if positions.len() > 1 && self.write_together(connection, &positions).await? {
            return Ok(());
        }
        for position in positions {
            self.write_one(connection, position).await?;
        }
        Ok(())
    }

    /// Gives whether it worked. If not, nothing was written.
    async fn write_together<C: Dialect>(
        &mut self,
        connection: &mut C,
        positions: &[usize],
    ) -> Result<bool, Failure> {
        let writes = self.batch.writes(positions);
        connection.begin().await?;
        let written = write(connection, &writes).await;
        match ended(connection, written).await {
            Ok(outcomes) => {
                for (&position, outcome) in positions.iter().zip(outcomes) {
                    self.batch.settle(position, outcome);
                }
                Ok(true)
            }
            Err(WriteFailure::Query(error)) if must_end::<C>(&error) => Err(error.into()),
            Err(WriteFailure::Query(_) | WriteFailure::Refused(_)) => Ok(false),
        }
    }

    async fn write_one<C: Dialect>(
        &mut self,
        connection: &mut C,
        position: usize,
    ) -> Result<(), Failure> {
        let writes = self.batch.writes(&[position]);
        let written = if self.batch.len() == 1 {
            // What is around all of it is rolled back if this one is refused, so it needs no savepoint. That
            // is two messages to the server.
            write(connection, &writes).await
        } else {
            connection.begin().await?;
            let written = write(connection, &writes).await;
            ended(connection, written).await
        };
        match written {
            Ok(outcomes) => outcomes
                .into_iter()
                .for_each(|outcome| self.batch.settle(position, outcome)),
            Err(WriteFailure::Refused(refusal)) => self.batch.refuse(position, refusal),
            Err(WriteFailure::Query(error)) if must_end::<C>(&error) => return Err(error.into()),
            Err(WriteFailure::Query(error)) => {
                let refusal = refusal_of(self.batch.change(position), error);
                self.batch.refuse(position, refusal);
            }
        }
        Ok(())
    }

    async fn delete<C: Dialect>(&mut self, connection: &mut C) -> Result<(), Failure> {
        let mut referencers: Option<Vec<Referencer>> = None;
        for position in self.batch.to_delete() {
            let change = self.batch.change(position);
            let (Some(deletion), Some(rows)) = (&change.delete, self.batch.rows(position)) else {
                continue;
            };
            let referencers = match &mut referencers {
                Some(referencers) => referencers,
                unknown @ None => unknown.insert(connection.referencers().await?),
            };
            let outcome = deletion::delete(connection, change, deletion, rows, referencers).await?;
            self.batch.settle(position, outcome);
        }
        Ok(())
    }
}

/// Whether a failed statement says something about the transaction rather than about its change set.
fn must_end<C: Dialect>(error: &QueryError) -> bool {
    ends_transaction(error) || C::is_busy(error) || C::condition(error).is_some()
}

/// Why the database did not take what a change set writes.
fn refusal_of(change: &ChangeSet, error: QueryError) -> Refusal {
    match &error {
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)
            if sqlstate::constraint(&error) == Some("kms_root_key_scope_id_key")
                // A renaming inserts nothing: it is the scope's new id that is taken.
                || change.update.scope.is_some() =>
        {
            Refusal::AlreadyExists
        }
        QueryError::DatabaseError(DatabaseErrorKind::CheckViolation, _)
            if sqlstate::constraint(&error) == Some("kms_bound_version") =>
        {
            Refusal::Unexpected
        }
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            Error::from(Refusal::Taken).with_source(error).into()
        }
        // SQLite does not say which foreign key.
        QueryError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)
            if (change.insert.root_key || change.update.scope.is_some())
                && sqlstate::kind(&error).is_none() =>
        {
            let error = query_error(error).with_detail(
                "a foreign key of the application stands against it: insert the row of the scope first",
            );
            error.into()
        }
        _ => query_error(error).into(),
    }
}
