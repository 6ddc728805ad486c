//! The cache's rules, one by one.

use std::time::SystemTime;

use futures_util::FutureExt as _;
use futures_util::future;

use super::*;
use crate::id::RootKeyId;
use crate::key_ring::Ring;

const WINDOW: Duration = Duration::from_secs(1);
const RECHECK: Duration = Duration::from_secs(300);

/// Time that stands still until told otherwise.
#[derive(Debug)]
struct Stopped(Mutex<Instant>);

impl Stopped {
    fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for Stopped {
    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }
}

struct Bench {
    cache: Arc<Cache>,
    clock: Arc<Stopped>,
    scope: ScopeId,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(Stopped(Mutex::new(Instant::now())));
        Self {
            cache: Arc::new(Cache::new(100, Arc::clone(&clock) as Arc<dyn Clock>)),
            clock,
            scope: ScopeId::new("o_1").unwrap(),
        }
    }

    /// A load that ends now, of a query sent then, which found this collection version.
    fn loaded(&self, sent: Sent, version: i64) -> KeyRing {
        let ring = ring(&self.scope);
        let generation = self.cache.observe(collection(version), sent);
        self.cache.insert(
            &self.scope,
            Entry {
                ring: ring.clone(),
                sent,
                generation,
                recheck: sent.at + RECHECK,
                overtaken: false,
            },
        );
        ring
    }

    fn fresh(&self) -> Option<RootKeyId> {
        let ring = self.cache.fresh(&self.scope, WINDOW)?;
        Some(ring.ring().root_key.clone())
    }

    /// A load that is under way until dropped.
    fn under_way(&self) -> (Sent, Joined) {
        let mut seen = None;
        let joined = self.cache.join(
            &self.scope,
            Bound::After(self.cache.stamp().order),
            |sent, guard| {
                seen = Some(sent);
                async move {
                    let _guard = guard;
                    future::pending().await
                }
                .boxed()
            },
        );
        (seen.expect("no load was under way"), joined)
    }
}

fn ring(scope: &ScopeId) -> KeyRing {
    KeyRing::new(Ring {
        scope: scope.clone(),
        root_key: RootKeyId::generate(),
        root_key_versions: Box::default(),
        data_keys: Box::default(),
        encrypts: true,
    })
}

fn collection(version: i64) -> CollectionVersion {
    CollectionVersion {
        version,
        update_time: SystemTime::UNIX_EPOCH,
    }
}

fn id(ring: &KeyRing) -> Option<RootKeyId> {
    Some(ring.ring().root_key.clone())
}

#[test]
fn an_entry_is_fresh_for_the_window_counted_from_when_its_query_was_sent() {
    let bench = Bench::new();
    let sent = bench.cache.stamp();
    bench.clock.pass(WINDOW / 2); // the query took that long
    let ring = bench.loaded(sent, 1);
    assert_eq!(bench.fresh(), id(&ring));
    bench.clock.pass(WINDOW / 2);
    assert_eq!(bench.fresh(), id(&ring));
    bench.clock.pass(Duration::from_millis(1));
    assert_eq!(bench.fresh(), None);
}

#[test]
fn reading_the_same_collection_version_again_confirms_every_entry_that_belongs_to_it() {
    let bench = Bench::new();
    let ring = bench.loaded(bench.cache.stamp(), 1);
    bench.clock.pass(WINDOW * 10);
    assert_eq!(bench.fresh(), None);
    bench.cache.observe(collection(1), bench.cache.stamp());
    assert_eq!(bench.fresh(), id(&ring));
}

#[test]
fn another_collection_version_confirms_nothing_lower_or_higher() {
    for other in [0, 2] {
        let bench = Bench::new();
        bench.loaded(bench.cache.stamp(), 1);
        bench.clock.pass(WINDOW * 2);
        bench.cache.observe(collection(other), bench.cache.stamp());
        assert_eq!(bench.fresh(), None);
        // Nor if the counter comes back to where it was.
        bench.cache.observe(collection(1), bench.cache.stamp());
        assert_eq!(bench.fresh(), None);
    }
}

#[test]
fn an_answer_that_was_asked_for_earlier_does_not_go_over_a_later_one() {
    let bench = Bench::new();
    let early = bench.cache.stamp();
    let ring = bench.loaded(bench.cache.stamp(), 2);
    bench.clock.pass(WINDOW * 2);
    bench.cache.observe(collection(2), bench.cache.stamp());
    bench.cache.observe(collection(1), early);
    assert_eq!(bench.fresh(), id(&ring));
}

#[test]
fn whatever_the_collection_version_says_an_entry_is_not_used_past_its_recheck() {
    let bench = Bench::new();
    bench.loaded(bench.cache.stamp(), 1);
    bench.clock.pass(RECHECK);
    bench.cache.observe(collection(1), bench.cache.stamp());
    assert_eq!(bench.fresh(), None);
}

#[test]
fn invariant_06_a_load_overtaken_by_a_receipt_is_not_inserted() {
    let bench = Bench::new();
    let (sent, load) = bench.under_way();
    bench.cache.overtake(&bench.scope);
    bench.loaded(sent, 1);
    assert_eq!(bench.fresh(), None);
    drop(load);
}

#[test]
fn invariant_06_a_load_overtaken_by_a_later_load_is_not_inserted_even_if_that_was_evicted() {
    let bench = Bench::new();
    let (early, first) = bench.under_way();
    let (late, second) = bench.under_way();
    bench.loaded(late, 2);
    bench.cache.entries.clear();
    bench.loaded(early, 1);
    assert_eq!(bench.fresh(), None);
    drop((first, second));
}

#[test]
fn invariant_06_after_a_restore_nothing_that_was_sent_before_is_used_or_confirmed_or_joined() {
    let bench = Bench::new();
    let early = bench.cache.stamp();
    let known = bench.loaded(bench.cache.stamp(), 1);
    let (sent, load) = bench.under_way();
    assert_eq!(bench.fresh(), id(&known));
    bench.cache.overtake_all();
    assert_eq!(bench.fresh(), None);
    // Answers to questions of before, whatever they say.
    bench.cache.observe(collection(1), early);
    assert_eq!(bench.fresh(), None);
    let joined = bench
        .cache
        .join(&bench.scope, Bound::At(Moment::ZERO), |after, guard| {
            assert!(after.order > sent.order);
            async move {
                let _guard = guard;
                Ok(None)
            }
            .boxed()
        });
    assert!(joined.now_or_never().is_some(), "a load of its own");
    bench.loaded(sent, 1);
    assert_eq!(bench.fresh(), None);
    drop(load);
    let anew = bench.loaded(bench.cache.stamp(), 1);
    assert_eq!(bench.fresh(), id(&anew));
}

#[test]
fn an_absence_found_earlier_does_not_remove_keys_found_later() {
    let bench = Bench::new();
    let early = bench.cache.stamp();
    let ring = bench.loaded(bench.cache.stamp(), 1);
    bench.cache.insert_absence(&bench.scope, early);
    assert_eq!(bench.fresh(), id(&ring));
    bench
        .cache
        .insert_absence(&bench.scope, bench.cache.stamp());
    assert!(bench.cache.entry(&bench.scope).is_none());
}

#[test]
fn an_overtaken_entry_is_kept_for_comparison_and_a_forgotten_one_is_not() {
    let bench = Bench::new();
    bench.loaded(bench.cache.stamp(), 1);
    bench.cache.overtake(&bench.scope);
    assert_eq!(bench.fresh(), None);
    assert!(bench.cache.entry(&bench.scope).unwrap().overtaken);
    bench.cache.forget(&bench.scope);
    assert!(bench.cache.entry(&bench.scope).is_none());
}

#[test]
fn callers_share_a_load_that_is_recent_enough_and_no_other() {
    let bench = Bench::new();
    let (sent, load) = bench.under_way();
    let started = std::cell::Cell::new(0);
    let join = |bound| {
        bench.cache.join(&bench.scope, bound, |_, guard| {
            started.set(started.get() + 1);
            async move {
                let _guard = guard;
                Ok(None)
            }
            .boxed()
        })
    };
    let shared = join(Bound::At(sent.at));
    assert_eq!(started.get(), 0);
    let own = join(Bound::After(bench.cache.stamp().order));
    assert_eq!(started.get(), 1);
    drop((shared, load));

    // After a receipt, a load that was sent before it is shared with nobody any more.
    bench.cache.overtake(&bench.scope);
    let after = join(Bound::At(Moment::ZERO));
    assert_eq!(started.get(), 2);
    drop((own, after));
    assert!(bench.cache.flights().is_empty());
}

#[test]
fn a_load_that_has_just_ended_is_not_begun_again() {
    let bench = Bench::new();
    let sent = bench.cache.stamp();
    let ring = bench.loaded(sent, 1);
    let join = |bound| {
        let begin = |_, guard: FlightGuard| {
            async move {
                drop(guard);
                Ok(None)
            }
            .boxed()
        };
        let found = bench.cache.join(&bench.scope, bound, begin).now_or_never();
        found.unwrap().unwrap().and_then(|ring| id(&ring))
    };
    assert_eq!(join(Bound::At(sent.at)), id(&ring));
    // Unless it is too old for the caller, or due to be looked at again.
    assert_eq!(join(Bound::After(bench.cache.stamp().order)), None);
    bench.clock.pass(RECHECK);
    assert_eq!(join(Bound::At(sent.at)), None);
}
