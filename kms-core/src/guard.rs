//! Calls into an application's code that may panic.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use crate::error::{Error, ErrorKind, Result};

/// Waits for the call. If it panics, that is an error of this one call, and concerns nobody else.
pub(crate) async fn guarded<T>(
    what: &'static str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    AssertUnwindSafe(call)
        .catch_unwind()
        .await
        .unwrap_or_else(|payload| {
            Err(Error::new(ErrorKind::Internal)
                .with_detail(what)
                .with_source(Panicked::of(&*payload)))
        })
}

/// What a panic said.
#[derive(Debug)]
struct Panicked(String);

impl Panicked {
    fn of(payload: &(dyn Any + Send)) -> Self {
        let said = payload
            .downcast_ref::<&str>()
            .map(|said| (*said).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Self(said.unwrap_or_else(|| "a panic that says nothing".to_owned()))
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Panicked {}
