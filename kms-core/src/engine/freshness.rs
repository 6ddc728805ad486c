//! How old knowledge may be.

use std::time::Duration;

/// How old the knowledge may be that a call works with.
///
/// It is about changes by other processes; those of this process are seen at once in any mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A change committed elsewhere is seen at most this much later. One small query per such period
    /// serves all scopes of the process.
    Within(Duration),
    /// The database is asked on every call.
    Always,
}

impl Default for Freshness {
    /// One second.
    fn default() -> Self {
        Self::Within(Duration::from_secs(1))
    }
}
