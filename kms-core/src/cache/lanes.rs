//! Copies of entries where a thread finds them without meeting another thread.
//!
//! The shared map costs each caller a lock, a counter and a reference count that all other callers write to as
//! well. With two processors that makes eight callers slower together than one alone. So every thread has a
//! *lane*: a small map of its own, whose copies count references for themselves. (If threads far outnumber
//! processors, several share a lane. A thread whose lane is locked reads the shared map instead of waiting.)
//!
//! A lane holds only entries that are still in the map. It is filled from the map under the lane's lock; whoever
//! changes the map does so first and then takes the scope out of every lane. So either the change is seen by the
//! filling, or what was filled is taken out. And keys that are to be wiped are wiped.
//!
//! Nothing is dropped while a lane is locked: what goes is handed out, and dropped when the lane is free.
//!
//! Two simpler forms were measured in its place, by the benches' rows of cached wrappers on two processors
//! (nanoseconds for a wrapper):
//!
//! | | one caller | eight callers | eight callers, one scope |
//! |---|---|---|---|
//! | lanes | 73 | 39 | 30 |
//! | the shared map alone | 85 | 111 | 198 |
//! | `arc-swap` over a `HashMap` | 70 | 81 | 106 |
//!
//! In both of them the callers still meet at the reference count of the keys.

use std::cell::Cell;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, TryLockError};

use quick_cache::DefaultHashBuilder;

use super::{Entry, Known};
use crate::key_ring::KeyRing;
use crate::scope::ScopeId;
use crate::sync::{Mutex, MutexGuard, available_parallelism, number_in_model};

/// Copies that may lie in the place where a scope's copy belongs.
const WAYS: usize = 4;

/// Copies in a lane at most: some 80 KiB where all are in use.
const MAX_COPIES: usize = 1024;

/// After so many uses of a copy the shared map is asked again. It evicts what it is not asked for.
const USES: u32 = 64;

/// One lane for each thread, up to twice the number of processors.
pub(super) struct Lanes {
    /// A power of two of them.
    lanes: Box<[Lane]>,
    /// Places in each; a power of two.
    sets: usize,
    hasher: DefaultHashBuilder,
}

/// Apart from each other in memory, so that locking one does not disturb the next.
#[repr(align(128))]
struct Lane(Mutex<Slots>);

/// Empty until the lane is first used.
#[derive(Default)]
struct Slots {
    hashes: Box<[[u64; WAYS]]>,
    copies: Box<[[Option<Copied>; WAYS]]>,
    /// Which one goes when all ways are taken.
    next: usize,
}

struct Copied {
    ring: KeyRing,
    known: Known,
    uses: u32,
}

impl Lanes {
    /// For a shared map of so many scopes.
    pub(super) fn new(capacity: usize) -> Self {
        let processors = available_parallelism().map_or(4, usize::from);
        let lanes = (2 * processors).next_power_of_two().clamp(8, 64);
        Self {
            lanes: (0..lanes).map(|_| Lane(Mutex::default())).collect(),
            sets: capacity.min(MAX_COPIES).div_ceil(WAYS).next_power_of_two(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// What `read` makes of the scope's entry: of this thread's copy, or of the one that `shared` finds. Neither may run
    /// foreign code: they are called while the lane is locked.
    pub(super) fn get<T>(
        &self,
        scope: &ScopeId,
        shared: impl FnOnce() -> Option<Entry>,
        read: impl FnOnce(&KeyRing, &Known) -> Option<T>,
    ) -> Option<T> {
        let lane = &self.lanes[number_of_this_thread() & (self.lanes.len() - 1)];
        let mut slots = match lane.0.try_lock() {
            Ok(slots) => slots,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let entry = shared()?;
                return read(&entry.ring, &entry.known);
            }
        };
        let place = self.place(scope);
        if let Some(copied) = slots.find(place, scope)
            && copied.uses < USES
        {
            copied.uses += 1;
            return read(&copied.ring, &copied.known);
        }
        // Under the lock: what is read here is in the lane before anybody can take it out.
        let entry = shared()?;
        let (copied, replaced) = slots.fill(self.sets, place, &entry);
        let result = read(&copied.ring, &copied.known);
        drop(slots);
        drop((entry, replaced));
        result
    }

    /// Takes a scope out of all lanes, and gives what is to be dropped when no lock is held. To be called after the
    /// shared map was changed.
    pub(super) fn remove(&self, scope: &ScopeId) -> Vec<KeyRing> {
        let place = self.place(scope);
        self.lanes
            .iter()
            .filter_map(|lane| lane.lock().remove(place, scope))
            .collect()
    }

    fn place(&self, scope: &ScopeId) -> Place {
        let hash = self.hasher.hash_one(scope.as_str());
        Place {
            hash,
            // Other bits than a thread compares first.
            set: hash.to_le_bytes()[4..]
                .iter()
                .fold(0, |bits, byte| bits << 8 | usize::from(*byte))
                & (self.sets - 1),
        }
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a scope's copy belongs.
#[derive(Clone, Copy)]
struct Place {
    hash: u64,
    set: usize,
}

impl Slots {
    fn find(&mut self, place: Place, scope: &ScopeId) -> Option<&mut Copied> {
        let hashes = self.hashes.get(place.set)?;
        let way = hashes.iter().position(|hash| *hash == place.hash)?;
        self.copies[place.set][way]
            .as_mut()
            .filter(|copied| copied.ring.scope() == scope)
    }

    /// Keeps a copy, in place of the old one of the same scope, of none, or of another's. Gives it with what it
    /// replaced. Allocates nothing where nobody uses that.
    fn fill(
        &mut self,
        sets: usize,
        place: Place,
        entry: &Entry,
    ) -> (&Copied, Option<impl Sized + use<>>) {
        if self.copies.is_empty() {
            self.hashes = vec![[0; WAYS]; sets].into();
            self.copies = (0..sets).map(|_| [const { None }; WAYS]).collect();
        }
        let copies = &mut self.copies[place.set];
        let hashes = &mut self.hashes[place.set];
        let same = hashes.iter().position(|hash| *hash == place.hash);
        let free = || copies.iter().position(Option::is_none);
        let way = same.or_else(free).unwrap_or_else(|| {
            self.next = (self.next + 1) % WAYS;
            self.next
        });
        hashes[way] = place.hash;
        let (ring, replaced) = match copies[way].take().map(|copied| copied.ring) {
            Some(old) if old.is_same(&entry.ring) => (old, None),
            Some(old) => {
                let (ring, before) = old.turned_into(&entry.ring);
                (ring, Some(before))
            }
            None => (entry.ring.apart(), None),
        };
        let copied = copies[way].insert(Copied {
            ring,
            known: entry.known,
            uses: 0,
        });
        (copied, replaced)
    }

    fn remove(&mut self, place: Place, scope: &ScopeId) -> Option<KeyRing> {
        self.find(place, scope)?;
        let hashes = &mut self.hashes[place.set];
        let way = hashes.iter().position(|hash| *hash == place.hash)?;
        self.copies[place.set][way].take().map(|copied| copied.ring)
    }
}

/// Counts threads, so that the first ones have different numbers.
fn number_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    if let Some(number) = number_in_model() {
        return number;
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed) % usize::MAX);
        }
        number.get()
    })
}

#[cfg(test)]
mod tests;
