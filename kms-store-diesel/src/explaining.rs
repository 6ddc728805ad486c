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
        _ if failure.is_unclassified() => {
            if elapsed >= limits.lock.min(limits.statement) {
                return busy(failure);
            }
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
    let error = Error::new(ErrorKind::DatabaseBusy).with_detail("a lock was not granted in time");
    match failure {
        Failure::Query(source) | Failure::Commit(source) => error.with_source(source),
        _ => error,
    }
}
