//! The rules by which change sets are applied, without I/O: what to lock and to read, what is refused and why, what is
//! written. Every store goes by them, so that a store is locks and statements.

use std::collections::{HashMap, HashSet};

use crate::change::ChangeSet;
use crate::id::RootKeyId;
use crate::repository::Outcome;
use crate::rows::ScopeRows;
use crate::scope::ScopeId;

mod deletion;
mod json;
mod refusal;
mod writes;

pub use refusal::Refusal;
pub use writes::{Writes, Written};

/// Change sets on their way through one transaction. Each is open until it has an outcome.
///
/// A store does, in this order:
///
/// 1. If [`bumps`](Self::bumps), add one to the collection version. Lock the [`root_keys`](Self::root_keys), in their
///    order.
/// 2. Read the rows of [`scopes`](Self::scopes), in a statement that begins after the locks were granted, and hand them
///    to [`compare`](Self::compare).
/// 3. Write the [`writes`](Self::writes) of the [`to_write`](Self::to_write) ones in a savepoint, and hand what
///    [`Writes::judge`] says of it to [`settle`](Self::settle). If it refuses, roll back, and go through them one by one.
/// 4. For each of the [`to_delete`](Self::to_delete) ones: ask [`Deletion::check`](crate::Deletion::check) and, if
///    [`needs_proof`](crate::Deletion::needs_proof), [`provable`](crate::provable); then delete in a savepoint, and
///    [`settle`](Self::settle) that.
/// 5. [`finish`](Self::finish). If nothing was applied, roll everything back: not even the collection version moves.
#[derive(Debug)]
pub struct Batch<'a> {
    changes: Vec<&'a ChangeSet>,
    outcomes: Vec<Option<Outcome>>,
    found: HashMap<ScopeId, ScopeRows>,
    passing: Vec<usize>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Applied {
    /// One for each change set, in their order.
    pub outcomes: Vec<Outcome>,
    /// The positions of those that were refused for a reason that passes: a new transaction may apply them.
    pub passing: Vec<usize>,
}

impl<'a> Batch<'a> {
    /// Refuses a second change of a scope at once: the rows are compared before anything is written, so it would go by
    /// rows that the first has altered.
    #[must_use]
    pub fn new(changes: Vec<&'a ChangeSet>) -> Self {
        let mut batch = Self {
            outcomes: changes.iter().map(|_| None).collect(),
            changes,
            found: HashMap::new(),
            passing: Vec::new(),
        };
        let mut seen = HashSet::new();
        for position in 0..batch.changes.len() {
            if !seen.insert(&batch.changes[position].scope) {
                batch.refuse(position, Refusal::Repeated);
            }
        }
        batch
    }

    /// Whether the collection version moves.
    #[must_use]
    pub fn bumps(&self) -> bool {
        self.open().any(|(_, change)| change.bumps())
    }

    /// The root keys to lock, in the order of their ids.
    #[must_use]
    pub fn root_keys(&self) -> Vec<&'a RootKeyId> {
        let mut root_keys: Vec<_> = self.existing().map(|change| &change.root_key).collect();
        root_keys.sort_unstable();
        root_keys.dedup();
        root_keys
    }

    /// The scopes whose rows are compared. That of a creation is not among them: the insertion shows whether it was free.
    #[must_use]
    pub fn scopes(&self) -> Vec<&'a ScopeId> {
        self.existing().map(|change| &change.scope).collect()
    }

    /// Refuses what was prepared from other rows than these.
    pub fn compare(&mut self, found: Vec<ScopeRows>) {
        self.found = found
            .into_iter()
            .map(|rows| (rows.scope.clone(), rows))
            .collect();
        for position in self.positions(|_| true) {
            let change = self.changes[position];
            let as_expected = match (&change.expected, self.found.get(&change.scope)) {
                (Some(expected), Some(found)) => expected.same_keys(found),
                (None, _) => change.insert.root_key,
                (Some(_), None) => false,
            };
            if !as_expected {
                self.refuse(position, Refusal::Changed);
            }
        }
    }

    /// The positions of what inserts and updates.
    #[must_use]
    pub fn to_write(&self) -> Vec<usize> {
        self.positions(|change| change.delete.is_none())
    }

    /// What the change sets at these positions write.
    #[must_use]
    pub fn writes(&self, positions: &[usize]) -> Writes<'a> {
        Writes::of(positions.iter().map(|&position| self.changes[position]))
    }

    /// The positions of what deletes.
    #[must_use]
    pub fn to_delete(&self) -> Vec<usize> {
        self.positions(|change| change.delete.is_some())
    }

    /// The change set at a position.
    #[must_use]
    pub fn change(&self, position: usize) -> &'a ChangeSet {
        self.changes[position]
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The rows of the scope of a change set, as they were compared.
    #[must_use]
    pub fn rows(&self, position: usize) -> Option<&ScopeRows> {
        self.found.get(&self.changes[position].scope)
    }

    /// Notes an outcome.
    pub fn settle(&mut self, position: usize, outcome: Result<crate::Receipt, Refusal>) {
        match outcome {
            Ok(receipt) => self.outcomes[position] = Some(Ok(receipt)),
            Err(refusal) => self.refuse(position, refusal),
        }
    }

    /// Notes that a change set was not applied.
    pub fn refuse(&mut self, position: usize, refusal: impl Into<Refusal>) {
        let refusal = refusal.into();
        if refusal.is_passing() {
            self.passing.push(position);
        }
        let error = refusal.of(self.changes[position]);
        self.outcomes[position] = Some(Err(error));
    }

    /// What became of it. What is open still was not applied.
    #[must_use]
    pub fn finish(mut self) -> Applied {
        for position in self.positions(|_| true) {
            self.refuse(position, crate::Error::new(crate::ErrorKind::Internal));
        }
        Applied {
            outcomes: self.outcomes.into_iter().flatten().collect(),
            passing: self.passing,
        }
    }

    fn open(&self) -> impl Iterator<Item = (usize, &'a ChangeSet)> {
        let with_outcomes = self.changes.iter().zip(&self.outcomes).enumerate();
        with_outcomes
            .filter(|(_, (_, outcome))| outcome.is_none())
            .map(|(position, (change, _))| (position, *change))
    }

    fn existing(&self) -> impl Iterator<Item = &'a ChangeSet> {
        self.open()
            .map(|(_, change)| change)
            .filter(|change| !change.insert.root_key)
    }

    fn positions(&self, which: impl Fn(&ChangeSet) -> bool) -> Vec<usize> {
        self.open()
            .filter(|(_, change)| which(change))
            .map(|(position, _)| position)
            .collect()
    }
}

impl Applied {
    /// Whether nothing was written, though something was to be.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(Result::is_err)
    }
}
