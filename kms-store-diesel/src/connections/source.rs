//! Where connections come from.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::r2d2::{ConnectionManager, Pool, PooledConnection, R2D2Connection};
use kms_core::{Error, ErrorKind, Result};
use tracing::warn;

use super::limits::Limits;
use super::pace::Pace;
use crate::failure::query_error;

/// A connection is closed when it is free and older than this, so that no session of the server lives forever.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Where the connections of a repository come from.
pub(super) enum Source<C: R2D2Connection + Send + 'static> {
    /// Each thread opens its own.
    Own(Opening<C>),
    /// A thread takes one for each call, from a pool that the application has.
    Application(Pool<ConnectionManager<C>>),
}

impl<C: R2D2Connection + Send + 'static> Source<C> {
    /// Takes a connection by this moment. One that was opened just now, or lately, may be in `kept`.
    pub(super) fn take(
        &self,
        kept: &mut Option<Opened<C>>,
        by: Instant,
        limits: &Limits,
    ) -> Result<Taken<C>> {
        match self {
            Self::Own(opening) => match kept.take() {
                Some(opened) => Ok(Taken::Own(opened)),
                None => opening.open().map(Taken::Own),
            },
            Self::Application(pool) => taken_from(pool, by, limits),
        }
    }

    /// Takes a connection that is seen to answer: a new one, or one of the application's that was asked. Others in
    /// its pool may be as dead as the last one was.
    pub(super) fn take_answering(&self, limits: &Limits) -> Result<Taken<C>> {
        match self {
            Self::Own(opening) => opening.open().map(Taken::Own),
            Self::Application(pool) => {
                let by = Instant::now() + limits.connection();
                for _ in 0..=pool.max_size() {
                    let mut taken = taken_from(pool, by, limits)?;
                    if taken.ping().is_ok() {
                        return Ok(taken);
                    }
                }
                Err(unreachable(limits))
            }
        }
    }
}

fn taken_from<C: R2D2Connection + Send + 'static>(
    pool: &Pool<ConnectionManager<C>>,
    by: Instant,
    limits: &Limits,
) -> Result<Taken<C>> {
    let remaining = by.saturating_duration_since(Instant::now());
    pool.get_timeout(remaining.max(Duration::from_millis(1)))
        .map(Taken::Application)
        .map_err(|_| {
            // The pool's own error may quote the address, so it is not kept.
            if pool.state().connections < pool.max_size() {
                unreachable(limits)
            } else {
                exhausted(pool.max_size(), limits.connection())
            }
        })
}

/// The error of a pool all of whose connections are in use.
pub(crate) fn exhausted(size: u32, waited: Duration) -> Error {
    Error::new(ErrorKind::DatabaseBusy).with_detail(format!(
        "no connection of the pool ({size}) was free within {waited:?}"
    ))
}

fn unreachable(limits: &Limits) -> Error {
    Error::new(ErrorKind::DatabaseUnreachable).with_detail(format!(
        "no connection within {:?}; the pool's error handler knows more",
        limits.connection()
    ))
}

/// How a connection of our own is opened.
pub(super) struct Opening<C> {
    pub(super) url: String,
    pub(super) prepare: Prepare<C>,
    pub(super) redact: Redact,
    pub(super) warnings: Pace,
}

/// Sets a new connection.
pub(crate) type Prepare<C> = Box<dyn Fn(&mut C) -> QueryResult<()> + Send + Sync>;

/// Takes secrets out of a message of the database's client library.
pub(crate) type Redact = Box<dyn Fn(&str) -> String + Send + Sync>;

impl<C: R2D2Connection> Opening<C> {
    /// Opens one. A database that refuses is told at once, with its reason.
    fn open(&self) -> Result<Opened<C>> {
        let reason = match C::establish(&self.url) {
            Ok(mut connection) => match (self.prepare)(&mut connection) {
                Ok(()) => {
                    return Ok(Opened {
                        connection,
                        since: Instant::now(),
                    });
                }
                Err(error) => query_error(error).to_string(),
            },
            Err(error) => (self.redact)(error.to_string().trim()),
        };
        // Every call tells its caller. The log has it once a second.
        if self.warnings.due(Duration::from_secs(1)) {
            warn!(reason, "no connection to the database");
        }
        Err(Error::new(ErrorKind::DatabaseUnreachable).with_detail(reason))
    }
}

/// A connection of our own.
pub(super) struct Opened<C> {
    connection: C,
    since: Instant,
}

/// A connection that a call has.
pub(super) enum Taken<C: R2D2Connection + Send + 'static> {
    Own(Opened<C>),
    Application(PooledConnection<ConnectionManager<C>>),
}

impl<C: R2D2Connection + Send + 'static> Taken<C> {
    /// What the thread keeps for its next call. A connection of the application's goes back to its pool.
    pub(super) fn kept(self) -> Option<Opened<C>> {
        match self {
            Self::Own(mut opened) => {
                let fit = !opened.connection.is_broken() && opened.since.elapsed() < LIFETIME;
                fit.then_some(opened)
            }
            Self::Application(_) => None,
        }
    }
}

impl<C: R2D2Connection + Send + 'static> Deref for Taken<C> {
    type Target = C;

    fn deref(&self) -> &C {
        match self {
            Self::Own(opened) => &opened.connection,
            Self::Application(pooled) => pooled,
        }
    }
}

impl<C: R2D2Connection + Send + 'static> DerefMut for Taken<C> {
    fn deref_mut(&mut self) -> &mut C {
        match self {
            Self::Own(opened) => &mut opened.connection,
            Self::Application(pooled) => pooled,
        }
    }
}
