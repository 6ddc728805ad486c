//! The unwrapped keys of scopes, and what is known about their age.
//!
//! Whether keys may be used is decided in [`freshness`], from what is kept here:
//!
//! - when the query for their rows was sent;
//! - whether the rows are still those of the collection version that was read last ([`collection`]);
//! - what this process did since (a receipt) that concerns the scope.
//!
//! A scope's *floor* is the newest knowledge about it; a load that was sent before that is never inserted, whenever
//! it ends.
//!
//! # Locks
//!
//! Keys belong to an application's own AES too, whose `Drop` may do anything, and so may its clock. No such code runs
//! while a lock of this module is held: what goes is collected, and dropped when the lock is free; and nobody is
//! woken under one.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter};

use crate::clock::Clock;
use crate::key_ring::KeyRing;
use crate::rows::{CollectionVersion, ScopeRows};
use crate::scope::ScopeId;
use crate::sync::{AtomicU64, Mutex, MutexGuard};

mod answer;
mod collection;
mod freshness;
mod lanes;
mod loads;

pub(crate) use answer::{Answer, answer};
use collection::Collection;
pub(crate) use freshness::{
    Facts, Knowledge, Moment, Promise, Rows, Sent, Since, Verdict, verdict,
};
use lanes::Lanes;
pub(crate) use loads::{Loaded, Ticket};
use loads::{Loads, LoadsByScope};

/// The keys of one scope with what is known about their age.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) ring: KeyRing,
    pub(crate) known: Known,
    /// The collection version that came with the rows, if that has no generation yet.
    unplaced: Option<Box<CollectionVersion>>,
}

impl Entry {
    /// Of rows that came with this collection version.
    pub(crate) fn new(ring: KeyRing, known: Known, collection: CollectionVersion) -> Self {
        let is_placed = known.generation != collection::NONE;
        Self {
            ring,
            known,
            unplaced: (!is_placed).then(|| Box::new(collection)),
        }
    }
}

/// What is known about the age of keys: all that the hot path looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// When the query for the rows was sent.
    pub(crate) sent: Sent,
    /// The generation of the collection version that came with the rows, if it has one yet.
    pub(crate) generation: u64,
    /// When the rows are to be read again, whatever the collection version says.
    pub(crate) recheck: Moment,
    /// When a named root has to open the keys again, if one did: from then on they are not for use. See [`NamedRootLimits`].
    ///
    /// [`NamedRootLimits`]: crate::NamedRootLimits
    pub(crate) proof_end: Moment,
    /// Known to be overtaken: good for keeping unchanged keys, not for use.
    pub(crate) overtaken: bool,
}

pub(crate) struct Cache {
    /// What is known, for all threads. Changed through [`put`](Self::put) and [`take`](Self::take) only.
    entries: Entries,
    /// Copies of it, for the hot path.
    lanes: Lanes,
    /// Held while entries are changed, so that a load's result and newer knowledge meet in some order. See "Locks".
    loads: Mutex<LoadsByScope>,
    collection: Collection,
    order: AtomicU64,
    clock: Arc<dyn Clock>,
    start: Duration,
}

type Entries =
    quick_cache::sync::Cache<ScopeId, Entry, UnitWeighter, DefaultHashBuilder, KeepEvicted>;

/// Hands over what had to go, so that it is dropped by us, and the lanes can be told.
#[derive(Clone, Copy)]
struct KeepEvicted;

impl Lifecycle<ScopeId, Entry> for KeepEvicted {
    type RequestState = Gone;

    fn on_evict(&self, evicted: &mut Gone, scope: ScopeId, entry: Entry) {
        evicted.entries.push((scope, entry));
    }
}

/// What was taken out, to be dropped when no lock is held.
#[derive(Default)]
struct Gone {
    entries: Vec<(ScopeId, Entry)>,
    copies: Vec<KeyRing>,
}

/// How somebody comes to a load of a scope.
pub(crate) enum Joined {
    /// A load ended meanwhile, and this is what it found.
    Found(KeyRing),
    /// A load is under way that is recent enough.
    UnderWay(Answer<Loaded>),
    /// A load is under way that was sent too early. Wait for it, then join again: one more serves all who wait.
    TooEarly(Answer<Loaded>),
    /// There is none: load it.
    Begin(Ticket, Answer<Loaded>),
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
            loads: Mutex::default(),
            collection: Collection::default(),
            order: AtomicU64::new(1),
            start: clock.now(),
            clock,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now().saturating_sub(self.start)
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

    /// The hot path: the keys, if their place is known and they can be used without asking anybody.
    pub(crate) fn usable(&self, scope: &ScopeId, within: Duration) -> Option<KeyRing> {
        let now = self.now();
        let promise = Promise {
            since: Since::Moment(now.saturating_sub(within)),
            rows_only: false,
            oldest_in_grace: Duration::ZERO,
        };
        let shared = || self.entries.get(scope);
        self.lanes.get(scope, shared, |ring, known| {
            if self.is_overtaken(known, now) {
                return None;
            }
            let usable = |asked, rows| {
                let knowledge = Knowledge { asked, down: false };
                let facts = known.facts(rows);
                verdict(Some(&facts), &knowledge, now, &promise) == Verdict::Usable
            };
            // Whether the rows were read lately is told sooner than whether the collection version was.
            let usable = usable(None, Rows::Untold) || {
                let asked = self.collection.asked();
                self.collection.is_present(known.generation) && usable(asked, Rows::Current)
            };
            usable.then(|| ring.clone())
        })
    }

    /// What to do for somebody who wants this scope, and the keys that it is about.
    pub(crate) fn verdict(
        &self,
        scope: &ScopeId,
        promise: &Promise,
        down: bool,
    ) -> (Verdict, Option<KeyRing>) {
        let entry = self.entries.get(scope);
        let now = self.now();
        let knowledge = Knowledge {
            asked: self.collection.asked(),
            down,
        };
        let facts = entry
            .as_ref()
            .map(|entry| entry.known.facts(self.placed(entry, now)));
        let verdict = verdict(facts.as_ref(), &knowledge, now, promise);
        (verdict, entry.map(|entry| entry.ring))
    }

    /// How the entry's rows stand to what is known. Where they are found to be current, that is kept for the hot path.
    fn placed(&self, entry: &Entry, now: Moment) -> Rows {
        if self.is_overtaken(&entry.known, now) {
            return Rows::Overtaken;
        }
        let scope = entry.ring.scope();
        let (rows, generation) =
            self.collection
                .place(scope, entry.known.generation, entry.unplaced.as_deref());
        if rows == Rows::Current && generation != entry.known.generation {
            let mut gone = Gone::default();
            let loads = self.loads();
            // Unless it was replaced meanwhile.
            if let Some(same) = self.entries.peek(scope)
                && same.known.sent == entry.known.sent
            {
                let known = Known {
                    generation,
                    ..same.known
                };
                let placed = Entry {
                    known,
                    unplaced: None,
                    ..same
                };
                self.put(scope, placed, &mut gone);
            }
            drop(loads);
        }
        rows
    }

    /// Whether this process knows of something newer about the entry's scope, or about all scopes; or nobody knows
    /// whether the root of the scope would still open it.
    fn is_overtaken(&self, known: &Known, now: Moment) -> bool {
        known.overtaken || now >= known.proof_end || !self.collection.trusts(known.sent)
    }

    /// The keys that are held of a scope and may be kept for these rows.
    pub(crate) fn good_for(&self, rows: &ScopeRows) -> Option<KeyRing> {
        let entry = self.entry(&rows.scope)?;
        entry.is_good_for(rows, self.now()).then_some(entry.ring)
    }

    /// When the scope's rows were last asked for, whether the answer is here or not.
    pub(crate) fn last_asked(&self, scope: &ScopeId) -> Option<Moment> {
        let under_way = self.loads().get(scope).and_then(Loads::last_sent);
        let answered = self.entries.peek(scope).map(|entry| entry.known.sent);
        under_way
            .into_iter()
            .chain(answered)
            .map(|sent| sent.at)
            .max()
    }

    /// A load has ended. What it found is inserted unless something newer is known about the scope.
    fn finish(&self, scope: &ScopeId, found: Option<(Sent, Option<Entry>)>) {
        let mut gone = Gone::default();
        let mut loads = self.loads();
        if let Some((sent, entry)) = found {
            let newest = self.raise_floor(&mut loads, scope, sent);
            match entry {
                Some(entry) if newest => self.put(scope, entry, &mut gone),
                Some(entry) => gone.entries.push((scope.clone(), entry)),
                None if newest => self.take(scope, &mut gone),
                None => {}
            }
        }
        let is_last = loads.get_mut(scope).is_some_and(Loads::end);
        let ended = is_last.then(|| loads.remove(scope));
        drop(loads);
        drop((gone, ended));
    }

    /// The process itself changed this scope: nothing that was sent until now may be used. What the
    /// change left alone is kept, to be compared with the rows on the next use.
    pub(crate) fn overtake(&self, scope: &ScopeId) {
        let sent = self.stamp();
        let mut gone = Gone::default();
        let mut loads = self.loads();
        self.raise_floor(&mut loads, scope, sent);
        if let Some(entry) = self.entries.peek(scope)
            && entry.known.sent.order < sent.order
        {
            let known = Known {
                overtaken: true,
                ..entry.known
            };
            let overtaken = Entry { known, ..entry };
            self.put(scope, overtaken, &mut gone);
        }
        drop(loads);
        drop(gone);
    }

    /// As [`overtake`](Self::overtake), and what the cache holds of the scope is wiped: keys of it were
    /// destroyed.
    pub(crate) fn forget(&self, scope: &ScopeId) {
        let sent = self.stamp();
        let mut gone = Gone::default();
        let mut loads = self.loads();
        self.raise_floor(&mut loads, scope, sent);
        self.take(scope, &mut gone);
        drop(loads);
        drop(gone);
    }

    /// The database was restored: of no scope anything that was sent until now may be used.
    pub(crate) fn overtake_all(&self) {
        let sent = self.stamp();
        let mut loads = self.loads();
        for of_scope in loads.values_mut() {
            of_scope.raise_floor(sent.order);
        }
        self.collection.reset(sent);
    }

    /// Joins a load of the scope, or begins one.
    pub(crate) fn join(self: &Arc<Self>, scope: &ScopeId, since: Since) -> Joined {
        let now = self.now();
        let sent = self.stamp();
        let (joined, replaced) = {
            let mut loads = self.loads();
            self.join_under(&mut loads, scope, since, now, sent)
        };
        drop(replaced);
        joined
    }

    /// As [`join`](Self::join) for several scopes, so that those that are to be loaded can be with one query, sent at
    /// one moment.
    pub(crate) fn join_together(
        self: &Arc<Self>,
        scopes: &[ScopeId],
        since: Since,
    ) -> (Sent, Vec<Joined>) {
        let now = self.now();
        let mut all_replaced = Vec::new();
        // One moment for all, before the query. Whoever changes one of these scopes before they are listed has a later
        // one, and raises the floor above it: then the load finds what is newer, and is void all the same.
        let sent = self.stamp();
        let joined = {
            let mut loads = self.loads();
            let mut join = |scope| {
                let (joined, replaced) = self.join_under(&mut loads, scope, since, now, sent);
                all_replaced.extend(replaced);
                joined
            };
            scopes.iter().map(&mut join).collect()
        };
        drop(all_replaced);
        (sent, joined)
    }

    /// The second is to be dropped when the lock is free.
    fn join_under(
        self: &Arc<Self>,
        loads: &mut LoadsByScope,
        scope: &ScopeId,
        since: Since,
        now: Moment,
        sent: Sent,
    ) -> (Joined, Option<impl Sized + use<>>) {
        match loads.get(scope).and_then(|of_scope| of_scope.newest(since)) {
            Some((true, answer)) => return (Joined::UnderWay(answer), None),
            Some((false, answer)) => return (Joined::TooEarly(answer), None),
            None => {}
        }
        // What a load has found is here before the load is off the list, and both under this lock.
        let found = self.entries.peek(scope).filter(|entry| {
            let known = &entry.known;
            since.admits(known.sent) && now < known.recheck && !self.is_overtaken(known, now)
        });
        if let Some(entry) = found {
            return (Joined::Found(entry.ring), None);
        }
        let (publisher, shared) = answer();
        let replaced = loads
            .entry(scope.clone())
            .or_default()
            .begin(sent, shared.clone());
        let ticket = Ticket::new(Arc::clone(self), scope.clone(), sent, publisher);
        (Joined::Begin(ticket, shared), Some(replaced))
    }

    /// What is known of the collection version.
    pub(crate) fn collection(&self) -> &Collection {
        &self.collection
    }

    /// Scopes that there is room for, beside those that are here.
    pub(crate) fn room(&self) -> usize {
        let capacity = usize::try_from(self.entries.capacity()).unwrap_or(usize::MAX);
        capacity.saturating_sub(self.entries.len())
    }

    /// To be called with `loads` locked; what had to go is for the caller to drop without.
    fn put(&self, scope: &ScopeId, entry: Entry, gone: &mut Gone) {
        let before = gone.entries.len();
        self.entries
            .insert_with_lifecycle(scope.clone(), entry, gone);
        gone.copies.extend(self.lanes.remove(scope));
        for (evicted, _) in &gone.entries[before..] {
            if evicted != scope {
                gone.copies.extend(self.lanes.remove(evicted));
            }
        }
    }

    /// As [`put`](Self::put).
    fn take(&self, scope: &ScopeId, gone: &mut Gone) {
        gone.entries.extend(self.entries.remove(scope));
        gone.copies.extend(self.lanes.remove(scope));
    }

    /// Whether this knowledge is the newest about the scope; if so, older loads under way are void.
    fn raise_floor(&self, loads: &mut LoadsByScope, scope: &ScopeId, sent: Sent) -> bool {
        let newest = loads
            .get_mut(scope)
            .is_none_or(|of_scope| of_scope.raise_floor(sent.order));
        newest
            && self
                .entries
                .peek(scope)
                .is_none_or(|entry| entry.known.sent.order < sent.order)
    }

    fn loads(&self) -> MutexGuard<'_, LoadsByScope> {
        // Nothing under this lock panics between two writes that belong together.
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Whether keys may be kept for these rows: the root that opened them is still the scope's, and its time is not over.
    pub(crate) fn is_good_for(&self, rows: &ScopeRows, now: Moment) -> bool {
        self.ring.ring().root == rows.root && now < self.known.proof_end
    }
}

impl Known {
    fn facts(&self, rows: Rows) -> Facts {
        Facts {
            sent: self.sent,
            recheck: self.recheck,
            rows,
        }
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

#[cfg(all(test, shuttle))]
mod model;
#[cfg(test)]
mod tests;
