//! Loads under way: one per scope for all who may share it.

use std::collections::HashMap;
use std::sync::Arc;

use super::answer::{Answer, Publisher};
use super::freshness::{Sent, Since};
use super::{Cache, Entry};
use crate::error::Result;
use crate::key_ring::KeyRing;
use crate::scope::ScopeId;

/// What a load finds: the keys, or nothing for a scope without keys.
pub(crate) type Loaded = Result<Option<KeyRing>>;

/// The loads of one scope that are under way.
#[derive(Debug, Default)]
pub(super) struct Loads {
    newest: Option<(Sent, Answer<Loaded>)>,
    under_way: usize,
    /// The newest knowledge about the scope, kept while any load is under way. A load that was sent before is void.
    floor: u64,
}

/// The loads of all scopes.
pub(super) type LoadsByScope = HashMap<ScopeId, Loads>;

impl Loads {
    /// The newest load that is not void and has not ended, and whether it is recent enough. (One that has ended is
    /// still here if an older one has not.)
    pub(super) fn newest(&self, since: Since) -> Option<(bool, Answer<Loaded>)> {
        let (sent, answer) = self.newest.as_ref()?;
        (sent.order > self.floor && answer.is_coming())
            .then(|| (since.admits(*sent), answer.clone()))
    }

    /// Begins a load. Gives back what is to be dropped when the lock is released.
    pub(super) fn begin(&mut self, sent: Sent, answer: Answer<Loaded>) -> impl Sized + use<> {
        self.under_way += 1;
        self.newest.replace((sent, answer))
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

    /// One load less. Whether it was the last.
    pub(super) fn end(&mut self) -> bool {
        self.under_way -= 1;
        self.under_way == 0
    }
}

/// The right and the duty to load a scope. Dropped without an end, it counts as a load that will find nothing.
#[derive(Debug)]
pub(crate) struct Ticket {
    cache: Arc<Cache>,
    scope: ScopeId,
    pub(crate) sent: Sent,
    publisher: Option<Publisher<Loaded>>,
}

impl Ticket {
    pub(super) fn new(
        cache: Arc<Cache>,
        scope: ScopeId,
        sent: Sent,
        publisher: Publisher<Loaded>,
    ) -> Self {
        Self {
            cache,
            scope,
            sent,
            publisher: Some(publisher),
        }
    }

    pub(crate) fn scope(&self) -> &ScopeId {
        &self.scope
    }

    /// Ends the load with this entry, or with nothing for a scope without keys.
    pub(crate) fn found(mut self, entry: Option<Entry>) {
        let ring = entry.as_ref().map(|entry| entry.ring.clone());
        self.cache.finish(&self.scope, Some((self.sent, entry)));
        self.publish(Ok(ring));
    }

    /// Ends the load with a failure.
    pub(crate) fn failed(mut self, error: crate::error::Error) {
        self.cache.finish(&self.scope, None);
        self.publish(Err(error));
    }

    /// When the load is off the list, and no lock is held.
    fn publish(&mut self, loaded: Loaded) {
        if let Some(publisher) = self.publisher.take() {
            publisher.publish(loaded);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.publisher.is_some() {
            self.cache.finish(&self.scope, None);
        }
    }
}
