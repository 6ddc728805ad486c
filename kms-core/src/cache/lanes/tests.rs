//! A lane holds only entries that are still in the shared map.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::super::{Cache, Entry, Joined, Known, Moment, Since};
use crate::clock::SystemClock;
use crate::fingerprint::Fingerprint;
use crate::id::{RootKeyId, RootKeyVersionId};
use crate::key_ring::{KeyRing, Keys, Opened, Ring, RootKeyVersion};
use crate::rows::CollectionVersion;
use crate::scope::ScopeId;

const HOUR: Duration = Duration::from_secs(3600);

fn scope(number: usize) -> ScopeId {
    ScopeId::new(format!("o_{number}")).unwrap()
}

/// A ring that can be told from others of its scope by the number of its root key version.
fn ring(scope: &ScopeId, number: i64) -> KeyRing {
    KeyRing::new(Ring {
        scope: scope.clone(),
        root_key: RootKeyId::generate(),
        root: None,
        root_key_versions: Box::new([RootKeyVersion {
            id: RootKeyVersionId::generate(),
            version: number,
            wrapped: Fingerprint::of(b""),
            key: Opened::NotNeeded(Box::default()),
        }]),
        data_keys: Box::default(),
        encrypts: true,
    })
}

/// As a load does that ends now. Gives what tells whether the keys are still in memory.
fn load(cache: &Arc<Cache>, scope: &ScopeId, number: i64) -> Weak<Keys> {
    let since = Since::Order(cache.stamp().order);
    let Joined::Begin(ticket, _) = cache.join(scope, since) else {
        panic!("another load is under way");
    };
    let sent = ticket.sent;
    let collection = CollectionVersion {
        version: 1,
        update_time: std::time::SystemTime::UNIX_EPOCH,
    };
    let ring = ring(scope, number);
    let watch = ring.watch();
    ticket.found(Some(Entry::new(
        ring,
        Known {
            sent,
            generation: cache.collection().observe(collection, sent),
            recheck: sent.at + HOUR,
            proof_end: Moment::MAX,
            overtaken: false,
        },
        collection,
    )));
    watch
}

fn cache(capacity: usize) -> Arc<Cache> {
    Arc::new(Cache::new(capacity, Arc::new(SystemClock)))
}

fn number(cache: &Cache, scope: &ScopeId) -> Option<i64> {
    let ring = cache.usable(scope, Duration::MAX)?;
    Some(ring.ring().root_key_versions[0].version)
}

/// Asks from so many threads at once, each of which then has its lane.
fn ask_from_threads<T: Send>(threads: usize, ask: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let ask = &ask;
    std::thread::scope(|spawner| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| spawner.spawn(move || ask(thread)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn keys_that_are_forgotten_are_in_no_lane() {
    let cache = cache(100);
    let scope = scope(1);
    let keys = load(&cache, &scope, 1);
    assert_eq!(
        ask_from_threads(20, |_| number(&cache, &scope)),
        [Some(1); 20]
    );
    cache.forget(&scope);
    assert!(keys.upgrade().is_none(), "the keys are still in memory");
}

#[test]
fn keys_that_are_replaced_are_in_no_lane() {
    let cache = cache(100);
    let scope = scope(1);
    let keys = load(&cache, &scope, 1);
    ask_from_threads(20, |_| number(&cache, &scope));
    let _ = load(&cache, &scope, 2);
    assert!(keys.upgrade().is_none(), "the keys are still in memory");
    assert_eq!(
        ask_from_threads(20, |_| number(&cache, &scope)),
        [Some(2); 20]
    );
}

#[test]
fn no_more_scopes_than_the_capacity_are_in_memory_lanes_or_not() {
    const CAPACITY: usize = 50;
    let cache = cache(CAPACITY);
    let mut keys = Vec::new();
    for number_of_scope in 0..1000 {
        let scope = scope(number_of_scope);
        keys.push(load(&cache, &scope, 1));
        ask_from_threads(2, |_| number(&cache, &scope));
    }
    let in_memory = keys.iter().filter(|keys| keys.upgrade().is_some()).count();
    assert!(in_memory <= CAPACITY, "{in_memory}");
    assert!(in_memory > CAPACITY / 2, "{in_memory}");
}

#[test]
fn scopes_in_use_stay_when_others_pass_through() {
    const CAPACITY: usize = 50;
    let cache = cache(CAPACITY);
    let busy = scope(0);
    load(&cache, &busy, 1);
    for passing in 1..5000 {
        // A lane answers most of these: the map must hear of them all the same.
        for _ in 0..40 {
            assert_eq!(number(&cache, &busy), Some(1), "after {passing} others");
        }
        load(&cache, &scope(passing), 1);
        for _ in 0..20 {
            number(&cache, &scope(passing));
        }
    }
}

#[test]
fn a_lane_holds_more_scopes_than_belong_in_one_place() {
    let cache = cache(10_000);
    for number_of_scope in 0..3000 {
        load(&cache, &scope(number_of_scope), 1);
    }
    for _ in 0..3 {
        for number_of_scope in 0..3000 {
            assert_eq!(number(&cache, &scope(number_of_scope)), Some(1));
        }
    }
}

#[test]
fn what_one_thread_has_changed_no_thread_sees_as_it_was() {
    let cache = cache(100);
    let scope = scope(1);
    load(&cache, &scope, 0);
    let (newest, ended) = (AtomicI64::new(0), AtomicBool::new(false));
    let (cache, scope, newest, ended) = (&cache, &scope, &newest, &ended);
    std::thread::scope(|spawner| {
        for _ in 0..4 {
            spawner.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let known = newest.load(Ordering::SeqCst);
                    let seen = number(cache, scope).unwrap_or(i64::MAX);
                    assert!(seen >= known, "{seen} after {known}");
                }
            });
        }
        for change in 1..3000 {
            cache.overtake(scope);
            load(cache, scope, change);
            newest.store(change, Ordering::SeqCst);
        }
        ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_overtaken_entry_is_handed_out_by_no_lane() {
    let cache = cache(100);
    let scope = scope(1);
    load(&cache, &scope, 1);
    ask_from_threads(20, |_| number(&cache, &scope));
    cache.overtake(&scope);
    assert_eq!(ask_from_threads(20, |_| number(&cache, &scope)), [None; 20]);
}
