//! The unwrapped keys of scopes, and the rules by which they may still be used.
//!
//! Three things make a cached ring usable, all counted from the moment a query was *sent*:
//!
//! - its rows were read recently enough; or
//! - the collection version was read recently enough and is the one that came with its rows; and
//! - nothing that this process did since (a receipt) concerns its scope.
//!
//! What is newer is told by the order in which queries were sent, and by nothing else: the database's
//! counter goes backwards after a restore. A scope's *floor* is the newest knowledge about it; a load that
//! was sent before that is never inserted, whenever it ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter};

use crate::clock::Clock;
use crate::key_ring::KeyRing;
use crate::rows::CollectionVersion;
use crate::scope::ScopeId;

mod flight;
mod lanes;
mod view;

pub(crate) use flight::{Flight, FlightGuard, Joined};
use lanes::Lanes;
pub(crate) use view::View;

/// A moment at which a query was sent, or a receipt handed over: where in the order, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) order: u64,
    pub(crate) at: Moment,
}

/// Time since the cache was made.
pub(crate) type Moment = Duration;

/// How recent knowledge must be to be used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// Sent at this moment or later.
    At(Moment),
    /// Sent after this point in the order.
    After(u64),
}

impl Bound {
    pub(crate) fn admits(self, sent: Sent) -> bool {
        match self {
            Self::At(moment) => sent.at >= moment,
            Self::After(order) => sent.order > order,
        }
    }
}

/// The keys of one scope with what is known about their age.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) ring: KeyRing,
    /// When the query for its rows was sent.
    pub(crate) sent: Sent,
    /// The view's generation that the rows belong to.
    pub(crate) generation: u64,
    /// When the rows are to be read again, whatever the collection version says.
    pub(crate) recheck: Moment,
    /// Known to be overtaken: good for keeping unchanged keys, not for use.
    pub(crate) overtaken: bool,
}

pub(crate) struct Cache {
    /// What is known, for all threads. Changed through [`put`](Self::put) and [`take`](Self::take) only.
    entries: Entries,
    /// Copies of it, for the hot path.
    lanes: Lanes,
    flights: Mutex<HashMap<ScopeId, Flight>>,
    pub(crate) view: View,
    order: AtomicU64,
    clock: Arc<dyn Clock>,
    start: Instant,
}

type Entries =
    quick_cache::sync::Cache<ScopeId, Entry, UnitWeighter, DefaultHashBuilder, KeepEvicted>;

/// Hands over what had to go, so that the lanes can be told.
#[derive(Clone, Copy)]
struct KeepEvicted;

impl Lifecycle<ScopeId, Entry> for KeepEvicted {
    type RequestState = Vec<(ScopeId, Entry)>;

    fn on_evict(&self, evicted: &mut Self::RequestState, scope: ScopeId, entry: Entry) {
        evicted.push((scope, entry));
    }
}

impl Cache {
    pub(crate) fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            entries: Entries::with(
                capacity,
                capacity.try_into().unwrap_or(u64::MAX),
                UnitWeighter,
                DefaultHashBuilder::default(),
                KeepEvicted,
            ),
            lanes: Lanes::new(capacity),
            flights: Mutex::default(),
            view: View::default(),
            order: AtomicU64::new(1),
            start: clock.now(),
            clock,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now().saturating_duration_since(self.start)
    }

    /// A new point in the order. To be taken before the query is sent.
    pub(crate) fn stamp(&self) -> Sent {
        // The order first: whoever sees a later moment has a later point in the order or the same one.
        let order = self.order.fetch_add(1, Ordering::Relaxed);
        Sent {
            order,
            at: self.now(),
        }
    }

    /// The entry, usable or not.
    pub(crate) fn entry(&self, scope: &ScopeId) -> Option<Entry> {
        self.entries.get(scope)
    }

    /// The hot path: the ring, if it can be used without asking anybody.
    pub(crate) fn fresh(&self, scope: &ScopeId, within: Duration) -> Option<KeyRing> {
        let shared = || self.entries.get(scope);
        self.lanes.get(scope, shared, |entry| {
            let now = self.now();
            let bound = Bound::At(now.saturating_sub(within));
            let usable =
                now < entry.recheck && !self.is_overtaken(entry) && self.is_confirmed(entry, bound);
            usable.then(|| entry.ring.clone())
        })
    }

    /// Whether the entry's rows, or that its collection version did not move, were read recently enough.
    pub(crate) fn is_confirmed(&self, entry: &Entry, bound: Bound) -> bool {
        bound.admits(entry.sent) || self.view.confirms(entry.generation, bound)
    }

    /// Whether this process knows of something newer about the entry's scope, or about all scopes.
    pub(crate) fn is_overtaken(&self, entry: &Entry) -> bool {
        entry.overtaken || !self.view.trusts(entry.sent)
    }

    /// When the entry was last known to be what the database holds.
    pub(crate) fn confirmed_at(&self, entry: &Entry) -> Moment {
        match self.view.sent_for(entry.generation) {
            Some(sent) => sent.at.max(entry.sent.at),
            None => entry.sent.at,
        }
    }

    /// When the scope's rows were last asked for, whether the answer is here or not.
    pub(crate) fn last_asked(&self, scope: &ScopeId) -> Option<Moment> {
        let under_way = self.flights().get(scope).and_then(Flight::last_sent);
        let answered = self.entries.peek(scope).map(|entry| entry.sent);
        under_way
            .into_iter()
            .chain(answered)
            .map(|sent| sent.at)
            .max()
    }

    /// What a load found. Inserted unless something newer is known about the scope.
    pub(crate) fn insert(&self, scope: &ScopeId, entry: Entry) {
        let mut flights = self.flights();
        if self.raise_floor(&mut flights, scope, entry.sent) {
            self.put(scope, entry);
        }
    }

    /// A load found no keys of this scope.
    pub(crate) fn insert_absence(&self, scope: &ScopeId, sent: Sent) {
        let mut flights = self.flights();
        if self.raise_floor(&mut flights, scope, sent) {
            self.take(scope);
        }
    }

    /// The process itself changed this scope: nothing that was sent until now may be used. What the
    /// change left alone is kept, to be compared with the rows on the next use.
    pub(crate) fn overtake(&self, scope: &ScopeId) {
        let mut flights = self.flights();
        let sent = self.stamp();
        self.raise_floor(&mut flights, scope, sent);
        if let Some(entry) = self.entries.get(scope) {
            let overtaken = Entry {
                overtaken: true,
                ..entry
            };
            self.put(scope, overtaken);
        }
    }

    /// As [`overtake`](Self::overtake), and what the cache holds of the scope is wiped: keys of it were
    /// destroyed.
    pub(crate) fn forget(&self, scope: &ScopeId) {
        let mut flights = self.flights();
        let sent = self.stamp();
        self.raise_floor(&mut flights, scope, sent);
        self.take(scope);
    }

    /// The database was restored: of no scope anything that was sent until now may be used.
    pub(crate) fn overtake_all(&self) {
        let mut flights = self.flights();
        let sent = self.stamp();
        for flight in flights.values_mut() {
            flight.raise_floor(sent.order);
        }
        self.view.reset(sent);
    }

    /// Joins a load of the scope that is under way and recent enough, or registers a new one. A load that ended
    /// since the caller looked for an entry counts as under way.
    pub(crate) fn join<F>(self: &Arc<Self>, scope: &ScopeId, bound: Bound, start: F) -> Joined
    where
        F: FnOnce(Sent, FlightGuard) -> flight::LoadFuture,
    {
        let mut flights = self.flights();
        if let Some(joined) = flights.get(scope).and_then(|flight| flight.join(bound)) {
            return joined;
        }
        // What a load has found is here before the load is off the list, and both under this lock.
        if let Some(entry) = self.found(scope, bound) {
            return flight::ended(entry.ring);
        }
        let sent = self.stamp();
        let guard = FlightGuard::new(Arc::clone(self), scope.clone());
        let flight = flights.entry(scope.clone()).or_default();
        flight.begin(sent, start(sent, guard))
    }

    /// As [`join`](Self::join) for several scopes with one query: registers a load for each of which neither a
    /// load under way nor an entry is recent enough, all sent at one moment. `start` is told which scopes these
    /// are, and gives what makes the load of each. Those of which a load is under way that began too early are
    /// not among them.
    pub(crate) fn join_together<F>(
        self: &Arc<Self>,
        scopes: &[ScopeId],
        bound: Bound,
        start: impl FnOnce(Sent, &[ScopeId]) -> F,
    ) -> Vec<(ScopeId, Joined)>
    where
        F: Fn(&ScopeId, FlightGuard) -> flight::LoadFuture,
    {
        let mut flights = self.flights();
        let free: Vec<_> = scopes
            .iter()
            .filter(|scope| {
                let under_way = flights
                    .get(*scope)
                    .and_then(|flight| flight.join(bound).or_else(|| flight.too_early(bound)));
                under_way.is_none() && self.found(scope, bound).is_none()
            })
            .cloned()
            .collect();
        // One moment for all, before the query, and under this lock: whatever changes one of these scopes from
        // now on finds the load and raises its floor.
        let sent = self.stamp();
        let load = start(sent, &free);
        free.into_iter()
            .map(|scope| {
                let guard = FlightGuard::new(Arc::clone(self), scope.clone());
                let flight = flights.entry(scope.clone()).or_default();
                let joined = flight.begin(sent, load(&scope, guard));
                (scope, joined)
            })
            .collect()
    }

    /// The load of the scope that is under way and began too early for this bound, to be waited for.
    pub(crate) fn too_early(&self, scope: &ScopeId, bound: Bound) -> Option<Joined> {
        self.flights().get(scope)?.too_early(bound)
    }

    /// The generation of a collection version that came with a query sent then.
    pub(crate) fn observe(&self, collection: CollectionVersion, sent: Sent) -> u64 {
        self.view.observe(collection, sent)
    }

    /// Scopes that there is room for, beside those that are here.
    pub(crate) fn room(&self) -> usize {
        let capacity = usize::try_from(self.entries.capacity()).unwrap_or(usize::MAX);
        capacity.saturating_sub(self.entries.len())
    }

    /// What a load has found that the bound admits, unless something newer is known.
    fn found(&self, scope: &ScopeId, bound: Bound) -> Option<Entry> {
        self.entries.peek(scope).filter(|entry| {
            bound.admits(entry.sent) && self.now() < entry.recheck && !self.is_overtaken(entry)
        })
    }

    fn put(&self, scope: &ScopeId, entry: Entry) {
        let mut evicted = Vec::new();
        self.entries
            .insert_with_lifecycle(scope.clone(), entry, &mut evicted);
        self.lanes.remove(scope);
        for (scope, _) in &evicted {
            self.lanes.remove(scope);
        }
    }

    fn take(&self, scope: &ScopeId) {
        self.entries.remove(scope);
        self.lanes.remove(scope);
    }

    /// Whether this knowledge is the newest about the scope; if so, older loads under way are void.
    fn raise_floor(
        &self,
        flights: &mut HashMap<ScopeId, Flight>,
        scope: &ScopeId,
        sent: Sent,
    ) -> bool {
        let newest = flights
            .get_mut(scope)
            .is_none_or(|flight| flight.raise_floor(sent.order));
        newest
            && self
                .entries
                .peek(scope)
                .is_none_or(|entry| entry.sent.order < sent.order)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<ScopeId, Flight>> {
        // Nothing under this lock panics between two writes that belong together.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("entries", &self.entries.len())
            .field("capacity", &self.entries.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
