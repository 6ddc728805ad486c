//! Getting the keys of many scopes with one query, as carefully as those of one.

use std::collections::{HashMap, HashSet};

use futures_util::future::Shared;

use super::*;
use crate::cache::Joined;

/// Scopes whose keys are on their way into the cache.
pub(in crate::engine) struct Together {
    /// Those that were fresh already.
    pub(in crate::engine) fresh: Vec<KeyRing>,
    /// Those that one query has found the rows of. Each is opened when its load is polled, here or by whoever
    /// asks for the scope meanwhile.
    pub(in crate::engine) loads: Vec<(ScopeId, Joined)>,
    /// Those that somebody else is loading.
    pub(in crate::engine) elsewhere: Vec<ScopeId>,
}

type Query = Shared<BoxFuture<'static, Result<Arc<Answer>>>>;

/// What the query found, for the loads of its scopes to take their part from.
struct Answer {
    generation: u64,
    rows: Mutex<HashMap<ScopeId, ScopeRows>>,
}

impl Loader {
    /// Finds the rows of those of these scopes that are not in the cache, or not fresh, with one query. (Where
    /// something is cached, the collection version may be asked for, which confirms all of that.)
    ///
    /// Each load calls the root wrapper once at a time.
    pub(in crate::engine) async fn find_together(
        self: &Arc<Self>,
        scopes: &[ScopeId],
    ) -> Result<Together> {
        let bound = self.promised();
        let (fresh, others) = self.confirmed(scopes, bound).await?;
        let mut query = None;
        let loads = self.cache.join_together(&others, bound, |sent, scopes| {
            let shared = self.query(scopes.to_vec(), sent);
            query = Some(shared.clone());
            move |scope, guard| {
                let (this, scope, query) = (Arc::clone(self), scope.clone(), shared.clone());
                async move {
                    let _guard = guard;
                    let found = query.await?.part_of(&scope, sent);
                    Ok(this.take_in(&scope, found, 1).await)
                }
                .boxed()
            }
        });
        if let Some(query) = query.filter(|_| !loads.is_empty()) {
            query.await?;
        }
        let begun: HashSet<_> = loads.iter().map(|(scope, _)| scope).collect();
        let elsewhere = others
            .iter()
            .filter(|scope| !begun.contains(scope))
            .cloned()
            .collect();
        Ok(Together {
            fresh,
            loads,
            elsewhere,
        })
    }

    /// Parts the scopes into those that the cache has fresh and the others. The collection version is asked
    /// for if that can confirm any.
    async fn confirmed(
        self: &Arc<Self>,
        scopes: &[ScopeId],
        bound: Bound,
    ) -> Result<(Vec<KeyRing>, Vec<ScopeId>)> {
        let (mut fresh, mut others) = (Vec::new(), Vec::new());
        for scope in scopes {
            let cached = self.cache.entry(scope).filter(|entry| {
                self.cache.now() < entry.recheck && !self.cache.is_overtaken(entry)
            });
            match cached {
                Some(entry) if self.is_current(&entry, bound).await? => fresh.push(entry.ring),
                _ => others.push(scope.clone()),
            }
        }
        Ok((fresh, others))
    }

    fn query(self: &Arc<Self>, scopes: Vec<ScopeId>, sent: Sent) -> Query {
        let this = Arc::clone(self);
        async move {
            let snapshot = this.repository.load(&scopes).await?;
            let rows = snapshot.scopes.into_iter();
            Ok(Arc::new(Answer {
                generation: this.cache.observe(snapshot.collection, sent),
                rows: Mutex::new(rows.map(|rows| (rows.scope.clone(), rows)).collect()),
            }))
        }
        .boxed()
        .shared()
    }
}

impl Answer {
    fn part_of(&self, scope: &ScopeId, sent: Sent) -> Found {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        Found {
            sent,
            generation: self.generation,
            rows: rows.remove(scope),
        }
    }
}
