//! Why a change set is not applied.

use crate::change::ChangeSet;
use crate::error::{Error, ErrorKind};

/// Why a change set was not applied. Nothing of it was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The scope's rows are not those that the change was prepared from.
    Changed,
    /// Another change of the same scope goes before it.
    Repeated,
    /// The scope has a root key already.
    AlreadyExists,
    /// An id, the purpose of a data key, or a version's number is taken.
    Taken,
    /// A row to update was gone, or the database gave another version number than the one that the wrapped key is bound
    /// to.
    Unexpected,
    /// Another transaction holds the key version of this id at this moment.
    Held(String),
    /// Anything else.
    Other(Error),
}

impl Refusal {
    /// Whether a new transaction may find it gone.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// The error of this change set.
    #[must_use]
    pub fn of(self, change: &ChangeSet) -> Error {
        Error::from(self)
            .with_operation(change.operation.name())
            .with_context("scope", &change.scope)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let conflict = Error::new(ErrorKind::Conflict);
        match refusal {
            Refusal::Changed => conflict,
            Refusal::Repeated => {
                conflict.with_detail("another change of the same scope goes before it")
            }
            Refusal::AlreadyExists => Error::new(ErrorKind::AlreadyExists),
            Refusal::Taken => conflict
                .with_detail("an id, the purpose of a data key, or a version number is taken"),
            Refusal::Unexpected => conflict
                .with_detail("the database assigned another version number, or a row was gone"),
            Refusal::Held(id) => Error::new(ErrorKind::InUse)
                .with_detail("another transaction holds it at this moment")
                .with_context("key_version", id),
            Refusal::Other(error) => error,
        }
    }
}
