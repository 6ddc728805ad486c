//! Where connections come from.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::r2d2::{ConnectionManager, Pool, PooledConnection, R2D2Connection};
use kms_core::{Error, ErrorKind, Result};
use tracing::warn;

use super::generation::Generation;
use super::limits::Limits;
use super::pace::Pace;
use super::place::{FileId, Place, Site};
use crate::blocking::{Blocking, now};

/// A connection is closed when it is free and older than this, so that no session of the server lives forever.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// How long a connection is used without a look whether its server is still what the address demands.
const UNSEEN: Duration = Duration::from_secs(1);

/// Where the connections of a repository come from.
pub(super) enum Source<C: R2D2Connection + Send + 'static> {
    /// Each thread opens its own.
    Own(Opening<C>),
    /// A thread takes one for each call, from a pool that the application has.
    Application(Pool<ConnectionManager<C>>),
}

impl<C: Blocking> Source<C> {
    /// Takes a connection by this moment. One that was opened just now, or lately, may be in `kept`.
    pub(super) fn take(
        &self,
        kept: &mut Option<Opened<C>>,
        by: Instant,
        limits: &Limits,
        generation: &Generation,
    ) -> Result<Taken<C>> {
        match self {
            Self::Own(opening) => match kept.take() {
                Some(opened)
                    if opened.generation == generation.current()
                        && opening.is_in_place(&opened)? =>
                {
                    opening.as_demanded(opened, by, generation).map(Taken::Own)
                }
                _ => opening.open(by, generation).map(Taken::Own),
            },
            Self::Application(pool) => {
                let current = generation.current();
                loop {
                    let mut pooled = taken_from(pool, by, limits)?;
                    let seen = PooledConnection::extensions(&pooled).get::<Seen>();
                    if current == seen.map_or(0, |seen| seen.0)
                        || now(pooled.accepts_writes()) != Ok(false)
                        || !generation.may_close()
                    {
                        PooledConnection::extensions_mut(&mut pooled).insert(Seen(current));
                        return Ok(Taken::Application(pooled));
                    }
                    give_up(&mut *pooled);
                }
            }
        }
    }

    /// Takes a connection that is seen to answer: a new one, or one of the application's that was asked. Others in
    /// its pool may be as dead as the last one was.
    pub(super) fn take_answering(
        &self,
        limits: &Limits,
        generation: &Generation,
    ) -> Result<Taken<C>> {
        let by = Instant::now() + limits.connection();
        match self {
            Self::Own(opening) => opening.open(by, generation).map(Taken::Own),
            Self::Application(pool) => {
                for _ in 0..=pool.max_size() {
                    let mut taken = self.take(&mut None, by, limits, generation)?;
                    if taken.ping().is_ok() {
                        return Ok(taken);
                    }
                }
                Err(unreachable(limits))
            }
        }
    }

    /// The server of this connection accepts no writes: looks for a connection to one that does, in place of this one.
    /// If there is one the generation ends. Otherwise this one is returned, if there still is one.
    pub(super) fn elsewhere(
        &self,
        wrong: Taken<C>,
        limits: &Limits,
        generation: &Generation,
    ) -> Result<Taken<C>, Option<Taken<C>>> {
        let by = Instant::now() + limits.connection();
        let found = match (self, wrong) {
            (Self::Own(opening), Taken::Own(wrong)) => {
                let Ok(mut new) = opening.open(by, generation) else {
                    return Err(Some(Taken::Own(wrong)));
                };
                if now(new.connection.accepts_writes()) != Ok(true) {
                    return Err(Some(Taken::Own(wrong)));
                }
                generation.end(wrong.generation, 0);
                new.generation = generation.current();
                Taken::Own(new)
            }
            // Where the pool's address leads to a standby for long, its connections are not closed with every write.
            (Self::Application(pool), Taken::Application(wrong)) if generation.may_look() => {
                let current = generation.current();
                let others = pool.state().connections;
                let found = writing(pool, wrong, by, limits)?;
                generation.end(current, u64::from(others));
                Taken::Application(found)
            }
            (_, wrong) => return Err(Some(wrong)),
        };
        warn!(
            "a connection was to a server that accepts no writes, and a new one is not: all others are replaced"
        );
        Ok(found)
    }
}

/// A connection of the application's to a server that accepts writes. Those to others are closed, as many as there
/// are, so that the pool opens new ones.
fn writing<C: Blocking>(
    pool: &Pool<ConnectionManager<C>>,
    mut wrong: PooledConnection<ConnectionManager<C>>,
    by: Instant,
    limits: &Limits,
) -> Result<PooledConnection<ConnectionManager<C>>, Option<Taken<C>>> {
    for _ in 0..pool.state().connections {
        give_up(&mut *wrong);
        drop(wrong);
        wrong = taken_from(pool, by, limits).map_err(|_| None)?;
        if now(wrong.accepts_writes()) == Ok(true) {
            return Ok(wrong);
        }
    }
    Err(Some(Taken::Application(wrong)))
}

/// The generation in which a connection of the application's was found to be in order.
struct Seen(u64);

/// Lets the application's pool close the connection instead of keeping it.
fn give_up<C: Blocking>(connection: &mut C) {
    connection.status().set_in_error();
}

impl<C: R2D2Connection + Send + 'static> Source<C> {
    /// What this connection was opened to.
    pub(super) fn site(&self, taken: &Taken<C>) -> Site<'_> {
        match (self, taken) {
            (Self::Own(opening), Taken::Own(opened)) => {
                Site(opening.place.as_ref().zip(opened.file))
            }
            _ => Site(None),
        }
    }

    /// How often another database was found in the place of the one before.
    pub(super) fn replacements(&self) -> u64 {
        match self {
            Self::Own(opening) => opening.place.as_ref().map_or(0, Place::replacements),
            Self::Application(_) => 0,
        }
    }
}

fn taken_from<C: R2D2Connection + Send + 'static>(
    pool: &Pool<ConnectionManager<C>>,
    by: Instant,
    limits: &Limits,
) -> Result<PooledConnection<ConnectionManager<C>>> {
    let remaining = by.saturating_duration_since(Instant::now());
    pool.get_timeout(remaining.max(Duration::from_millis(1)))
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
    pub(super) open: Open<C>,
    pub(super) demand: Option<Holds<C>>,
    /// Where the database is, if that is a place where another one can be put.
    pub(super) place: Option<Place>,
    pub(super) warnings: Pace,
}

/// Opens and sets a new connection. It may take some time to learn why that failed, until this moment.
pub(crate) type Open<C> = Box<dyn Fn(Instant) -> Result<C> + Send + Sync>;

/// Asks something of a connection's server.
pub(crate) type Holds<C> = Box<dyn Fn(&mut C) -> QueryResult<bool> + Send + Sync>;

impl<C: Blocking> Opening<C> {
    /// Whether what the connection was opened to is in its place.
    fn is_in_place(&self, opened: &Opened<C>) -> Result<bool> {
        match &self.place {
            Some(place) => Ok(opened.file == Some(place.file()?)),
            None => Ok(true),
        }
    }

    /// Opens one. A database that refuses is told at once, with its reason.
    fn open(&self, by: Instant, generation: &Generation) -> Result<Opened<C>> {
        // Before it is opened: what is found out meanwhile may be about this one.
        let generation = generation.current();
        let opened = match &self.place {
            Some(place) => place
                .open(|| (self.open)(by))
                .map(|(connection, file)| (connection, Some(file))),
            None => (self.open)(by).map(|connection| (connection, None)),
        };
        match opened {
            Ok((connection, file)) => Ok(Opened {
                connection,
                file,
                since: Instant::now(),
                looked_at: Instant::now(),
                generation,
            }),
            Err(error) => {
                // Every call tells its caller. The log has it once a second.
                if self.warnings.due(Duration::from_secs(1)) {
                    warn!(%error, "no connection to the database");
                }
                Err(error)
            }
        }
    }

    /// The connection, or another one if its server is not any more what is demanded.
    fn as_demanded(
        &self,
        mut opened: Opened<C>,
        by: Instant,
        generation: &Generation,
    ) -> Result<Opened<C>> {
        let Some(demand) = &self.demand else {
            return Ok(opened);
        };
        if opened.looked_at.elapsed() < UNSEEN {
            return Ok(opened);
        }
        opened.looked_at = Instant::now();
        // A connection that was closed is found by the call itself.
        if demand(&mut opened.connection) != Ok(false) {
            return Ok(opened);
        }
        generation.end(opened.generation, 0);
        drop(opened);
        self.open(by, generation)
    }
}

/// A connection of our own.
pub(super) struct Opened<C> {
    connection: C,
    file: Option<FileId>,
    since: Instant,
    /// When its server was last seen to be what is demanded.
    looked_at: Instant,
    generation: u64,
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
