//! Loads under way: one per scope for all who may share it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::{Bound, Cache, Sent};
use crate::error::Result;
use crate::key_ring::KeyRing;
use crate::scope::ScopeId;

/// A load: the ring with the moment its query was sent, or nothing for a scope without keys.
pub(crate) type LoadFuture = BoxFuture<'static, Result<Option<KeyRing>>>;

/// A load that any number of callers wait for. It makes progress while any of them does, and is dropped
/// with the last of them.
pub(crate) type Joined = Shared<LoadFuture>;

/// A load that has ended with this.
pub(super) fn ended(ring: KeyRing) -> Joined {
    std::future::ready(Ok(Some(ring))).boxed().shared()
}

/// The loads of one scope that are under way.
#[derive(Default)]
pub(crate) struct Flight {
    newest: Option<(Sent, WeakShared<LoadFuture>)>,
    under_way: usize,
    /// The newest knowledge about the scope, kept while any load is under way.
    floor: u64,
}

impl Flight {
    pub(super) fn join(&self, bound: Bound) -> Option<Joined> {
        let (sent, load) = self.newest.as_ref()?;
        if sent.order > self.floor && bound.admits(*sent) {
            load.upgrade()
        } else {
            None
        }
    }

    /// The newest load, if it is still under way, not void, and began too early for this bound.
    pub(super) fn too_early(&self, bound: Bound) -> Option<Joined> {
        let (sent, load) = self.newest.as_ref()?;
        if sent.order > self.floor && !bound.admits(*sent) {
            load.upgrade().filter(|load| load.peek().is_none())
        } else {
            None
        }
    }

    pub(super) fn begin(&mut self, sent: Sent, load: LoadFuture) -> Joined {
        let load = load.shared();
        self.newest = load.downgrade().map(|load| (sent, load));
        self.under_way += 1;
        load
    }

    /// When the newest load under way was sent.
    pub(super) fn last_sent(&self) -> Option<Sent> {
        self.newest.as_ref().map(|(sent, _)| *sent)
    }

    /// Whether nothing newer than this was known.
    pub(super) fn raise_floor(&mut self, order: u64) -> bool {
        let newer = order > self.floor;
        if newer {
            self.floor = order;
        }
        newer
    }
}

/// Held by a load; takes it off the list when it ends or is dropped.
pub(crate) struct FlightGuard {
    cache: Arc<Cache>,
    scope: ScopeId,
}

impl FlightGuard {
    pub(super) fn new(cache: Arc<Cache>, scope: ScopeId) -> Self {
        Self { cache, scope }
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        let mut flights = self.cache.flights();
        if let Some(flight) = flights.get_mut(&self.scope) {
            flight.under_way -= 1;
            if flight.under_way == 0 {
                flights.remove(&self.scope);
            }
        }
    }
}
