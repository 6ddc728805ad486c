//! What a failed call is told, where the failure alone does not say it.

use std::time::Duration;

use kms_core::{Error, ErrorKind};

use crate::connections::{Limits, check};
use crate::dialect::Dialect;
use crate::failure::Failure;

pub(crate) async fn explain<C: Dialect>(
    connection: &mut C,
    failure: Failure,
    elapsed: Duration,
    limits: &Limits,
) -> Error {
    match &failure {
        Failure::Query(error) | Failure::Commit(error) if C::is_busy(error) => busy(failure),
        Failure::Query(error) | Failure::Commit(error) if let Some(kind) = C::condition(error) => {
            of_kind(kind, failure)
        }
        _ if failure.is_unknown() => {
            // Statements that a function of the schema does not tell about: reads, and what is said in
            // `sqlstate.rs`. Their own limits leave no trace but the time that they took.
            if elapsed >= limits.lock.min(limits.statement) {
                return busy(failure);
            }
            // A table or a function may be missing.
            match connection.schema_versions().await {
                Ok(versions) => check(&versions)
                    .err()
                    .unwrap_or_else(|| failure.into_error()),
                Err(_) => failure.into_error(),
            }
        }
        _ => failure.into_error(),
    }
}

fn busy(failure: Failure) -> Error {
    of_kind(ErrorKind::DatabaseBusy, failure).with_detail("a lock was not granted in time")
}

fn of_kind(kind: ErrorKind, failure: Failure) -> Error {
    match failure {
        Failure::Query(source) | Failure::Commit(source) => Error::new(kind).with_source(source),
        _ => kind.into(),
    }
}
