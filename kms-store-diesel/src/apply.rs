//! Applying change sets inside a transaction that somebody began, the same way on both databases.

mod campaign;
mod deletion;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use kms_core::{ChangeSet, Error, ErrorKind, Referencer, ScopeId, ScopeRows};

pub(crate) use self::campaign::apply_step;
use crate::dialect::Dialect;
use crate::failure::{Failure, Verdict, ends_transaction, query_error};
use crate::writes::{WriteFailure, write};

/// Applies change sets: locks, compares, writes. Each is all or nothing for itself.
///
/// Runs inside a transaction or savepoint that is rolled back if this fails. If every change set was
/// refused it fails too, with [`Failure::NoneApplied`], so that not even the counter moves.
pub(crate) fn apply<C: Dialect>(
    connection: &mut C,
    changes: &[&ChangeSet],
    wait: Option<Duration>,
) -> Result<Vec<Verdict>, Failure> {
    let mut batch = Batch::new(changes, wait);
    batch.refuse_repeated_scopes();
    batch.lock(connection)?;
    let found = batch.compare(connection)?;
    batch.write(connection)?;
    batch.delete(connection, &found)?;
    batch.finish()
}

/// Change sets on their way: each is open until it has a verdict.
struct Batch<'a> {
    changes: &'a [&'a ChangeSet],
    /// How long a statement waits for a lock; `None` if that is not for us to know.
    wait: Option<Duration>,
    verdicts: Vec<Option<Verdict>>,
}

impl<'a> Batch<'a> {
    fn new(changes: &'a [&'a ChangeSet], wait: Option<Duration>) -> Self {
        Self {
            changes,
            wait,
            verdicts: changes.iter().map(|_| None).collect(),
        }
    }

    fn open(&self) -> impl Iterator<Item = (usize, &'a ChangeSet)> {
        self.changes
            .iter()
            .zip(&self.verdicts)
            .enumerate()
            .filter(|(_, (_, verdict))| verdict.is_none())
            .map(|(position, (change, _))| (position, *change))
    }

    fn refuse(&mut self, position: usize, error: impl Into<Error>) {
        self.verdicts[position] = Some(Err(named(error.into(), self.changes[position]).into()));
    }

    /// What was compared is compared once, before anything is written, so a second change of a scope
    /// would go by rows that the first has altered.
    fn refuse_repeated_scopes(&mut self) {
        let mut seen = HashSet::new();
        for (position, change) in self.changes.iter().enumerate() {
            if !seen.insert(&change.scope) {
                let error = Error::new(ErrorKind::Conflict)
                    .with_detail("another change of the same scope goes before it");
                self.refuse(position, error);
            }
        }
    }

    fn lock<C: Dialect>(&self, connection: &mut C) -> Result<(), Failure> {
        let bump = self.open().any(|(_, change)| change.bumps());
        let mut root_keys: Vec<_> = self
            .open()
            .filter(|(_, change)| !change.insert.root_key)
            .map(|(_, change)| change.root_key.as_str())
            .collect();
        root_keys.sort_unstable();
        root_keys.dedup();
        connection.lock(bump, &root_keys, self.wait)
    }

    /// Reads the rows anew, in a statement that begins after the locks were taken, and refuses what was
    /// prepared from others.
    fn compare<C: Dialect>(
        &mut self,
        connection: &mut C,
    ) -> Result<HashMap<ScopeId, ScopeRows>, QueryError> {
        let scopes: Vec<_> = self
            .open()
            .filter(|(_, change)| !change.insert.root_key)
            .map(|(_, change)| change.scope.as_str())
            .collect();
        if scopes.is_empty() {
            return Ok(HashMap::new());
        }
        let found: HashMap<_, _> = connection
            .snapshot(&scopes)?
            .scopes
            .into_iter()
            .map(|rows| (rows.scope.clone(), rows))
            .collect();
        let open: Vec<_> = self.open().collect();
        for (position, change) in open {
            let as_expected = match (&change.expected, found.get(&change.scope)) {
                (Some(expected), Some(found)) => expected.same_keys(found),
                // Nothing to compare: the insertion shows whether the scope was free.
                (None, _) => change.insert.root_key,
                (Some(_), None) => false,
            };
            if !as_expected {
                self.refuse(position, ErrorKind::Conflict);
            }
        }
        Ok(found)
    }

    /// Writes all open change sets that delete nothing: together, or one by one if that shows that one of
    /// them can't be written.
    fn write<C: Dialect>(&mut self, connection: &mut C) -> Result<(), Failure> {
        let (positions, changes): (Vec<_>, Vec<_>) = self
            .open()
            .filter(|(_, change)| change.delete.is_none())
            .unzip();
        if changes.len() > 1 && self.write_together(connection, &positions, &changes)? {
            return Ok(());
        }
        let alone = self.changes.len() == 1;
        for (position, change) in positions.into_iter().zip(changes) {
            self.write_one(connection, position, change, alone)?;
        }
        Ok(())
    }

    /// Gives whether it worked. If not, nothing was written.
    fn write_together<C: Dialect>(
        &mut self,
        connection: &mut C,
        positions: &[usize],
        changes: &[&ChangeSet],
    ) -> Result<bool, Failure> {
        let started = Instant::now();
        match connection.transaction(|connection| write(connection, changes)) {
            Ok(written) => {
                for (&position, receipt) in positions.iter().zip(written) {
                    match receipt {
                        Some(receipt) => self.verdicts[position] = Some(Ok(receipt)),
                        None => self.refuse(position, ErrorKind::AlreadyExists),
                    }
                }
                Ok(true)
            }
            Err(WriteFailure::Query(error)) => {
                self.unless_final::<C>(error, started).map(|_| false)
            }
            Err(WriteFailure::Unexpected) => Ok(false),
        }
    }

    fn write_one<C: Dialect>(
        &mut self,
        connection: &mut C,
        position: usize,
        change: &ChangeSet,
        alone: bool,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let written = if alone {
            // What is around all of it is rolled back if this one is refused, so it needs no savepoint. That
            // is two messages to the server.
            write(connection, &[change])
        } else {
            connection.transaction(|connection| write(connection, &[change]))
        };
        match written {
            Ok(mut written) => match written.pop().flatten() {
                Some(receipt) => self.verdicts[position] = Some(Ok(receipt)),
                None => self.refuse(position, ErrorKind::AlreadyExists),
            },
            Err(WriteFailure::Unexpected) => {
                let error = Error::new(ErrorKind::Conflict)
                    .with_detail("the database assigned another version number, or a row was gone");
                self.refuse(position, error);
            }
            Err(WriteFailure::Query(error)) => {
                let error = write_error(change, self.unless_final::<C>(error, started)?);
                self.refuse(position, error);
            }
        }
        Ok(())
    }

    /// Gives the error back if it is about its change set alone.
    fn unless_final<C: Dialect>(
        &self,
        error: QueryError,
        started: Instant,
    ) -> Result<QueryError, Failure> {
        if must_end::<C>(&error) {
            return Err(error.into());
        }
        // Postgres says that a wait was too long in words only, in its own language.
        let unclassified = matches!(
            &error,
            QueryError::DatabaseError(DatabaseErrorKind::Unknown, _)
        );
        if unclassified && self.wait.is_some_and(|wait| started.elapsed() >= wait) {
            let busy = Error::new(ErrorKind::DatabaseBusy)
                .with_detail("another transaction holds the scope")
                .with_source(error);
            return Err(busy.into());
        }
        Ok(error)
    }

    fn delete<C: Dialect>(
        &mut self,
        connection: &mut C,
        found: &HashMap<ScopeId, ScopeRows>,
    ) -> Result<(), Failure> {
        let mut referencers: Option<Vec<Referencer>> = None;
        let open: Vec<_> = self.open().collect();
        for (position, change) in open {
            let (Some(deletion), Some(rows)) = (&change.delete, found.get(&change.scope)) else {
                continue;
            };
            let referencers = match &mut referencers {
                Some(referencers) => referencers,
                unknown @ None => unknown.insert(connection.referencers()?),
            };
            let verdict = deletion::delete(connection, change, deletion, rows, referencers)?;
            self.verdicts[position] = Some(verdict.map_err(|mut refusal| {
                refusal.error = named(refusal.error, change);
                refusal
            }));
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Verdict>, Failure> {
        let verdicts: Vec<_> = self
            .verdicts
            .into_iter()
            .map(|verdict| verdict.unwrap_or_else(|| Err(Error::new(ErrorKind::Internal).into())))
            .collect();
        if !verdicts.is_empty() && verdicts.iter().all(Result::is_err) {
            return Err(Failure::NoneApplied(verdicts));
        }
        Ok(verdicts)
    }
}

/// Whether a failed statement says something about the transaction rather than about its change set.
fn must_end<C: Dialect>(error: &QueryError) -> bool {
    ends_transaction(error) || C::is_busy(error)
}

fn named(error: Error, change: &ChangeSet) -> Error {
    error
        .with_operation(change.operation.name())
        .with_context("scope", &change.scope)
}

fn write_error(change: &ChangeSet, error: QueryError) -> Error {
    match &error {
        QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            // A renaming inserts nothing: it is the scope's new id that is taken.
            let kind = match change.update.scope {
                Some(_) => ErrorKind::AlreadyExists,
                None => ErrorKind::Conflict,
            };
            Error::new(kind).with_source(error)
        }
        QueryError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)
            if change.insert.root_key || change.update.scope.is_some() =>
        {
            query_error(error).with_detail(
                "a foreign key of the application stands against it: insert the row of the scope first",
            )
        }
        _ => query_error(error),
    }
}
