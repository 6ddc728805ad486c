//! How often this process encrypted with each data key version.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::DataKeyVersionId;

/// Encryptions with one key version.
pub(crate) type Count = Arc<AtomicU64>;

/// Counts that belong to the ids of key versions, so that they survive whatever becomes of the keys in memory: an
/// eviction, a rewrap, a revocation of the key above.
#[derive(Default)]
pub(crate) struct Usage {
    /// Nothing foreign runs under this lock: what it guards are ids and numbers.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    by_version: HashMap<DataKeyVersionId, Count>,
    /// With so many, those that never counted anything and belong to no key in memory are let go.
    prune_at: usize,
}

/// Fewer are not worth pruning.
const FIRST_PRUNING: usize = 1024;

impl Usage {
    /// The count of this key version, for the key that encrypts with it.
    pub(crate) fn of(&self, id: &DataKeyVersionId) -> Count {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.by_version.get(id) {
            return Arc::clone(count);
        }
        if counts.by_version.len() >= counts.prune_at {
            counts.by_version.retain(|_, count| {
                Arc::strong_count(count) > 1 || count.load(Ordering::Relaxed) > 0
            });
            counts.prune_at = FIRST_PRUNING.max(counts.by_version.len() * 2);
        }
        let count = Count::default();
        counts.by_version.insert(id.clone(), Arc::clone(&count));
        count
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Usage")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_belongs_to_the_id_and_outlives_every_key_that_counted_in_it() {
        let usage = Usage::default();
        let id = DataKeyVersionId::generate();
        usage.of(&id).fetch_add(7, Ordering::Relaxed);
        for _ in 0..3 * FIRST_PRUNING {
            usage.of(&DataKeyVersionId::generate());
        }
        assert_eq!(usage.of(&id).load(Ordering::Relaxed), 7);
    }

    #[test]
    fn versions_that_never_encrypted_do_not_pile_up() {
        let usage = Usage::default();
        for _ in 0..10 * FIRST_PRUNING {
            usage.of(&DataKeyVersionId::generate());
        }
        let counts = usage.counts.lock().expect("nobody panicked");
        assert!(counts.by_version.len() <= 2 * FIRST_PRUNING);
    }
}
