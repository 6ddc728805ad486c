//! Counting what is sent to databases: by diesel's instrumentation, over all connections.

use std::sync::atomic::{AtomicU64, Ordering};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use diesel::result::QueryResult;

static SENT: AtomicU64 = AtomicU64::new(0);

struct Counting;

impl Instrumentation for Counting {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        // Each is one round trip: a statement, also `begin` and `commit`, or the preparation of one.
        if matches!(
            event,
            InstrumentationEvent::StartQuery { .. } | InstrumentationEvent::CacheQuery { .. }
        ) {
            SENT.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts on every connection that is opened from now on.
///
/// # Errors
///
/// If another thread failed while it did the same.
pub fn count() -> QueryResult<()> {
    set_default_instrumentation(|| Some(Box::new(Counting)))
}

/// What was sent so far, by all threads.
#[must_use]
pub fn sent() -> u64 {
    SENT.load(Ordering::Relaxed)
}
