//! What this process knows of the collection version, and of the way by which it came to where it is.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::freshness::{Rows, Sent};
use crate::repository::Changes;
use crate::rows::CollectionVersion;
use crate::scope::ScopeId;
use crate::sync::{AtomicU64, Mutex, MutexGuard};

/// Changed scopes that are remembered. With more of them all is forgotten, and entries are compared with their rows.
const MAX_CHANGED: usize = 20_000;

/// Collection versions of the past that are remembered, so that rows that came with one of them find their place.
const MAX_PAST: usize = 256;

/// The generation of rows that have no place yet. Never current.
pub(crate) const NONE: u64 = 0;

/// The collection version as last read, in a form that the hot path can compare without a lock.
///
/// Each collection version on the way gets a *generation* of its own, ascending. Rows that belong to the present
/// generation are what the database held when the collection version was last read. Rows of an earlier generation
/// are too, unless their scope is among those that changed since.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    /// Nothing foreign runs under this lock: what it guards are numbers and scope ids.
    known: Mutex<Known>,
    /// Copies of what `known` holds, for the hot path. `generation` is written before the other two: who reads a new
    /// moment then reads its generation or a later one, never an earlier one.
    generation: AtomicU64,
    sent_nanos: AtomicU64,
    sent_order: AtomicU64,
    /// Where in the order the last reset was.
    reset_order: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    collection: Option<CollectionVersion>,
    sent: Option<Sent>,
    generation: u64,
    /// The collection versions on the way, with their generations; the present one last.
    past: VecDeque<(CollectionVersion, u64)>,
    /// The last generation in which a scope changed.
    changed: HashMap<ScopeId, u64>,
    /// The first generation since which all changed scopes are known.
    floor: u64,
}

impl Collection {
    /// When the query was sent that read it last.
    pub(crate) fn asked(&self) -> Option<Sent> {
        let order = self.sent_order.load(Ordering::Acquire);
        (order > 0).then(|| Sent {
            order,
            at: Duration::from_nanos(self.sent_nanos.load(Ordering::Acquire)),
        })
    }

    /// Whether rows of this generation are those of the present collection version, as far as can be told at once.
    /// To be asked after [`asked`](Self::asked), so that what is confirmed is at least as new.
    pub(crate) fn is_present(&self, generation: u64) -> bool {
        generation != NONE && generation == self.generation.load(Ordering::Acquire)
    }

    /// Whether nothing was reset since this was sent.
    pub(crate) fn trusts(&self, sent: Sent) -> bool {
        sent.order > self.reset_order.load(Ordering::Acquire)
    }

    /// How the rows of a scope stand that have this generation, or none yet and came with this collection version; and
    /// their generation from now on.
    pub(crate) fn place(
        &self,
        scope: &ScopeId,
        generation: u64,
        unplaced: Option<&CollectionVersion>,
    ) -> (Rows, u64) {
        let known = self.known();
        let from = match unplaced {
            Some(collection) => known.generation_of(*collection),
            None => Some(generation),
        };
        let Some(from) = from else {
            return (Rows::Untold, generation);
        };
        if from < known.floor {
            (Rows::Untold, from)
        } else if known.changed.get(scope).is_some_and(|last| *last > from) {
            (Rows::Overtaken, from)
        } else {
            (Rows::Current, known.generation)
        }
    }

    /// The collection version that is known, to ask for the way from there.
    pub(crate) fn known_version(&self) -> Option<CollectionVersion> {
        self.known().collection
    }

    /// Takes note of the collection version that came with rows, and gives their generation. It tells nothing about
    /// other scopes, unless it is the one that is known already: then that is confirmed.
    pub(crate) fn observe(&self, collection: CollectionVersion, sent: Sent) -> u64 {
        let mut known = self.known();
        if known.collection.is_none() && self.trusts(sent) {
            known.begin_anew(collection);
            self.take(&mut known, sent);
        } else if known.collection == Some(collection) {
            self.take(&mut known, sent);
        }
        known.generation_of(collection).unwrap_or(NONE)
    }

    /// Takes note of an answer to the question what changed since `since`.
    pub(crate) fn learn(&self, since: Option<CollectionVersion>, changes: &Changes, sent: Sent) {
        let mut known = self.known();
        if !self.trusts(sent) || known.sent.is_some_and(|newest| newest.order >= sent.order) {
            return;
        }
        if known.collection != Some(changes.collection) {
            let way = changes.steps.as_deref().and_then(|steps| {
                if known.collection == since {
                    return Some(steps);
                }
                // Another question was answered meanwhile: the rest of the way is new.
                let here = steps
                    .iter()
                    .position(|step| Some(step.collection) == known.collection)?;
                Some(&steps[here + 1..])
            });
            match way {
                Some(steps) if known.collection.is_some() => {
                    for step in steps {
                        known.go_on(step.collection, &step.scopes);
                    }
                }
                _ => known.begin_anew(changes.collection),
            }
        }
        self.take(&mut known, sent);
    }

    /// Forgets: every entry is compared with its rows before its next use, and what was asked before confirms
    /// nothing any more, whenever it is answered.
    pub(crate) fn reset(&self, sent: Sent) {
        let mut known = self.known();
        self.reset_order.fetch_max(sent.order, Ordering::AcqRel);
        known.generation += 1;
        known.collection = None;
        known.forget();
        self.generation.store(known.generation, Ordering::Release);
    }

    /// Publishes what is known, by a query sent then.
    fn take(&self, known: &mut Known, sent: Sent) {
        self.generation.store(known.generation, Ordering::Release);
        if known.sent.is_none_or(|newest| newest.order < sent.order) {
            known.sent = Some(sent);
            let nanos = u64::try_from(sent.at.as_nanos()).unwrap_or(u64::MAX);
            self.sent_nanos.store(nanos, Ordering::Release);
            self.sent_order.store(sent.order, Ordering::Release);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The generation of rows that came with this collection version.
    fn generation_of(&self, collection: CollectionVersion) -> Option<u64> {
        let mut past = self.past.iter().rev();
        past.find(|(known, _)| *known == collection)
            .map(|(_, generation)| *generation)
    }

    fn go_on(&mut self, collection: CollectionVersion, scopes: &[ScopeId]) {
        self.generation += 1;
        self.collection = Some(collection);
        if self.past.len() == MAX_PAST {
            self.past.pop_front();
        }
        self.past.push_back((collection, self.generation));
        if self.changed.len() + scopes.len() > MAX_CHANGED {
            self.changed.clear();
            self.floor = self.generation;
        } else {
            let generation = self.generation;
            let scopes = scopes.iter().cloned();
            self.changed.extend(scopes.map(|scope| (scope, generation)));
        }
    }

    /// The way from what was known to here can't be told.
    fn begin_anew(&mut self, collection: CollectionVersion) {
        self.generation += 1;
        self.collection = Some(collection);
        self.forget();
        self.past.push_back((collection, self.generation));
    }

    fn forget(&mut self) {
        self.past.clear();
        self.changed.clear();
        self.floor = self.generation;
    }
}
