//! What this process knows of the collection version.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Bound, Sent};
use crate::rows::CollectionVersion;

/// The collection version as last read, in a form that the hot path can compare without a lock.
///
/// Each collection version seen that differs from the one before gets a *generation* of its own. A ring
/// whose generation is the present one belongs to the collection version that was read last.
#[derive(Debug, Default)]
pub(crate) struct View {
    known: Mutex<Known>,
    /// Copies of what `known` holds, for the hot path. `generation` is written before the other two: who
    /// reads a new moment then reads its generation or a later one, never an earlier one.
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
}

/// The generation of rows that belong to no collection version that is still of interest. Never current.
const NONE: u64 = 0;

impl View {
    /// Whether rows of this generation are known to be current by a query that the bound admits.
    pub(crate) fn confirms(&self, generation: u64, bound: Bound) -> bool {
        let recent = self.is_recent(bound);
        let current = self.generation.load(Ordering::Acquire);
        generation != NONE && generation == current && recent
    }

    /// Whether the collection version was read by a query that the bound admits, whatever it was.
    pub(crate) fn is_recent(&self, bound: Bound) -> bool {
        bound.admits(Sent {
            order: self.sent_order.load(Ordering::Acquire),
            at: Duration::from_nanos(self.sent_nanos.load(Ordering::Acquire)),
        })
    }

    /// When this generation was last confirmed, if it is the present one.
    pub(crate) fn sent_for(&self, generation: u64) -> Option<Sent> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation == generation {
            known.sent
        } else {
            None
        }
    }

    /// Takes note of what a query found, and gives its generation.
    pub(crate) fn observe(&self, collection: CollectionVersion, sent: Sent) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.collection == Some(collection);
        if known.sent.is_none_or(|newest| newest.order < sent.order) {
            if !same {
                known.generation += 1;
                known.collection = Some(collection);
                self.generation.store(known.generation, Ordering::Release);
            }
            known.sent = Some(sent);
            let nanos = u64::try_from(sent.at.as_nanos()).unwrap_or(u64::MAX);
            self.sent_nanos.store(nanos, Ordering::Release);
            self.sent_order.store(sent.order, Ordering::Release);
            known.generation
        } else if same {
            known.generation
        } else {
            NONE
        }
    }

    /// Whether nothing was reset since this was sent.
    pub(crate) fn trusts(&self, sent: Sent) -> bool {
        sent.order > self.reset_order.load(Ordering::Acquire)
    }

    /// Forgets: every ring is compared with its rows before its next use, and what was asked before
    /// confirms nothing any more, whenever it is answered.
    pub(crate) fn reset(&self, sent: Sent) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.collection = None;
        if known.sent.is_none_or(|newest| newest.order < sent.order) {
            known.sent = Some(sent);
        }
        known.generation += 1;
        self.generation.store(known.generation, Ordering::Release);
        self.reset_order.fetch_max(sent.order, Ordering::AcqRel);
    }
}
