//! Copies of entries where a thread finds them without meeting another thread.
//!
//! The shared map costs each caller a lock, a counter and a reference count that all other callers write to as
//! well. With two processors that makes eight callers slower together than one alone. So every thread has a
//! *lane*: a small map of its own, whose copies count references for themselves. (Threads far outnumbering
//! processors share lanes. Who finds its lane taken does not wait, but goes to the shared map.)
//!
//! A lane never knows more than the map, nor longer. It is filled from the map under the lane's lock; whoever
//! changes the map does so first and then takes the scope out of every lane. So either the change is seen by the
//! filling, or what was filled is taken out. And keys that are to be wiped are wiped.

use std::cell::Cell;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::available_parallelism;

use quick_cache::DefaultHashBuilder;

use super::Entry;
use crate::scope::ScopeId;

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
    entry: Entry,
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

    /// What `read` makes of the scope's entry: of this thread's copy, or of the one that `shared` finds.
    pub(super) fn get<T>(
        &self,
        scope: &ScopeId,
        shared: impl FnOnce() -> Option<Entry>,
        read: impl FnOnce(&Entry) -> Option<T>,
    ) -> Option<T> {
        let lane = &self.lanes[number_of_this_thread() & (self.lanes.len() - 1)];
        let mut slots = match lane.0.try_lock() {
            Ok(slots) => slots,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return read(&shared()?),
        };
        let place = self.place(scope);
        match slots.find(place, scope) {
            Some(copied) if copied.uses < USES => {
                copied.uses += 1;
                read(&copied.entry)
            }
            // Under the lock: what is read here is in the lane before anybody can take it out.
            _ => read(slots.fill(self.sets, place, &shared()?)),
        }
    }

    /// Takes a scope out of all lanes. To be called after the shared map was changed.
    pub(super) fn remove(&self, scope: &ScopeId) {
        let place = self.place(scope);
        for lane in &self.lanes {
            let removed = lane.lock().remove(place, scope);
            // Keys are wiped here, with the lane free.
            drop(removed);
        }
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
            .filter(|copied| copied.entry.ring.scope() == scope)
    }

    /// Keeps a copy, in place of the old one of the same scope, of none, or of another's. Allocates nothing
    /// where what it replaces is used by nobody.
    fn fill(&mut self, sets: usize, place: Place, entry: &Entry) -> &Entry {
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
        let ring = match copies[way].take() {
            Some(old) => old.entry.ring.turned_into(&entry.ring),
            None => entry.ring.counted_apart(),
        };
        let copied = copies[way].insert(Copied {
            entry: Entry { ring, ..*entry },
            uses: 0,
        });
        &copied.entry
    }

    fn remove(&mut self, place: Place, scope: &ScopeId) -> Option<Copied> {
        self.find(place, scope)?;
        let hashes = &mut self.hashes[place.set];
        let way = hashes.iter().position(|hash| *hash == place.hash)?;
        self.copies[place.set][way].take()
    }
}

/// Counts threads, so that the first ones have different numbers.
fn number_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
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
