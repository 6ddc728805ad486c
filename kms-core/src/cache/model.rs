//! The cache under many orders of its threads' steps: see [`crate::model`].

use std::sync::atomic::AtomicUsize;
use std::sync::{OnceLock, Weak};
use std::task::{Context, Wake};

use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;

use super::*;
use crate::aead::{Aead, AeadKey};
use crate::fingerprint::Fingerprint;
use crate::id::{RootKeyId, RootKeyVersionId};
use crate::key_ring::{Opened, Ring, RootKeyVersion};
use crate::model::{World, explore, join};
use crate::resting_key::RestingKey;
use crate::secret::KeyBytes;

const FOREVER: Moment = Moment::from_secs(1_000_000);

/// A cache, and the database that it is filled from.
struct Bench {
    world: Arc<World>,
    cache: Arc<Cache>,
    /// Keys that were made, and those of them that are gone.
    made: AtomicUsize,
    gone: Arc<AtomicUsize>,
}

impl Bench {
    fn new(scopes: &[ScopeId], capacity: usize) -> Arc<Self> {
        let world = World::new(scopes);
        Arc::new(Self {
            cache: Arc::new(Cache::new(capacity, Arc::clone(&world) as Arc<dyn Clock>)),
            world,
            made: AtomicUsize::new(0),
            gone: Arc::default(),
        })
    }

    /// What a load makes of rows.
    fn entry(&self, scope: &ScopeId, sent: Sent) -> (i64, Entry) {
        let (collection, numbers) = self.world.read_all(std::slice::from_ref(scope));
        self.made.fetch_add(1, Ordering::SeqCst);
        let aead = Arc::new(Foreign {
            cache: Arc::downgrade(&self.cache),
            scope: scope.clone(),
            gone: Arc::clone(&self.gone),
        });
        let key = RestingKey::new(aead, &KeyBytes::generate().expect("there is randomness"));
        let ring = KeyRing::new(Ring {
            scope: scope.clone(),
            root_key: RootKeyId::generate(),
            root_key_versions: Box::new([RootKeyVersion {
                id: RootKeyVersionId::generate(),
                version: numbers[0],
                wrapped: Fingerprint::of(b""),
                key: Opened::Key(key),
            }]),
            data_keys: Box::default(),
            root: None,
            encrypts: true,
        });
        let known = Known {
            sent,
            generation: self.cache.collection().observe(collection, sent),
            recheck: FOREVER,
            proof_end: Moment::MAX,
            overtaken: false,
        };
        (numbers[0], Entry::new(ring, known, collection))
    }

    /// Loads the scope, alone or with others.
    fn load(&self, scope: &ScopeId) {
        let settled = self.world.settled(scope);
        let since = Since::Order(self.cache.stamp().order);
        loop {
            match self.cache.join(scope, since) {
                Joined::Found(ring) => return self.check(&ring, settled),
                Joined::UnderWay(answer) => match block_on(answer.wait()) {
                    Some(Ok(Some(ring))) => return self.check(&ring, settled),
                    // It failed, or its runtime has ended.
                    Some(Err(_)) | None => {}
                    Some(Ok(None)) => panic!("the scope has keys"),
                },
                Joined::TooEarly(answer) => drop(block_on(answer.wait())),
                Joined::Begin(ticket, _) => {
                    let (number, entry) = self.entry(scope, ticket.sent);
                    self.world.step();
                    ticket.found(Some(entry));
                    return self.world.settle(scope, number);
                }
            }
        }
    }

    /// The hot path.
    fn read(&self, scope: &ScopeId) -> Option<KeyRing> {
        let settled = self.world.settled(scope);
        // What is checked is what this process knows, not how old it is.
        let ring = self.cache.usable(scope, Duration::MAX)?;
        self.check(&ring, settled);
        Some(ring)
    }

    fn check(&self, ring: &KeyRing, oldest: i64) {
        let number = number(ring);
        assert!(number >= oldest, "keys {number} where {oldest} were known");
    }
}

/// A part of keys that does what it likes when it goes: it needs every lock that there is, and whoever holds one that
/// it waits for must not be waiting for it.
#[derive(Debug)]
struct Foreign {
    cache: Weak<Cache>,
    scope: ScopeId,
    gone: Arc<AtomicUsize>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::SeqCst);
        if !std::thread::panicking()
            && let Some(cache) = self.cache.upgrade()
        {
            need_every_lock(&cache, &self.scope);
        }
    }
}

impl Aead for Foreign {
    fn name(&self) -> &'static str {
        "foreign"
    }

    fn prepare(&self, _: &KeyBytes) -> Box<dyn AeadKey> {
        unreachable!("nobody uses it")
    }
}

/// Foreign too: those who wait, and the clock.
impl Wake for Foreign {
    fn wake(self: Arc<Self>) {
        let cache = self.cache.upgrade().expect("it is in use");
        need_every_lock(&cache, &self.scope);
    }
}

#[derive(Debug)]
struct ForeignClock {
    world: Arc<World>,
    cache: OnceLock<Weak<Cache>>,
    scope: ScopeId,
}

impl Clock for ForeignClock {
    fn now(&self) -> Duration {
        if let Some(cache) = self.cache.get().and_then(Weak::upgrade) {
            need_every_lock(&cache, &self.scope);
        }
        self.world.now()
    }
}

fn need_every_lock(cache: &Cache, scope: &ScopeId) {
    drop(cache.loads());
    let none = cache
        .lanes
        .remove(&ScopeId::new("nobody's").expect("it is valid"));
    assert!(none.is_empty());
    let _ = cache.entries.peek(scope).is_some();
    let _ = cache.collection.known_version();
}

fn number(ring: &KeyRing) -> i64 {
    ring.ring().root_key_versions[0].version
}

fn scope(number: usize) -> ScopeId {
    ScopeId::new(format!("o_{number}")).expect("it is valid")
}

/// Does this with the bench in a thread, so many times.
fn repeat(
    bench: &Arc<Bench>,
    times: usize,
    work: impl Fn(&Bench, usize) + Send + 'static,
) -> thread::JoinHandle<()> {
    let bench = Arc::clone(bench);
    thread::spawn(move || (0..times).for_each(|time| work(&bench, time)))
}

#[test]
fn invariant_06_nobody_is_given_older_keys_than_were_known_when_the_call_began() {
    explore(|| {
        let scope = &scope(1);
        let bench = Bench::new(std::slice::from_ref(scope), 100);
        let of = || scope.clone();
        let (changed, loaded, also_loaded, read, also_read) = (of(), of(), of(), of(), of());
        join([
            repeat(&bench, 2, move |bench, _| {
                let number = bench.world.commit(&changed);
                if thread_rng().gen_bool(0.5) {
                    bench.cache.overtake(&changed);
                } else {
                    bench.cache.forget(&changed);
                }
                bench.world.settle(&changed, number);
            }),
            repeat(&bench, 2, move |bench, _| bench.load(&loaded)),
            repeat(&bench, 2, move |bench, _| bench.load(&also_loaded)),
            repeat(&bench, 4, move |bench, _| drop(bench.read(&read))),
            repeat(&bench, 4, move |bench, _| drop(bench.read(&also_read))),
        ]);
        assert!(
            bench.cache.loads().is_empty(),
            "a load is still on the list"
        );
        // A call that begins when all have ended.
        bench.read(scope);
        // Nothing is left that would be found by somebody else: in no lane, in no list.
        bench.cache.forget(scope);
        let (made, gone) = (&bench.made, &bench.gone);
        assert_eq!(gone.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
    });
}

#[test]
fn keys_of_evicted_and_forgotten_scopes_are_gone_when_the_last_who_uses_them_is() {
    explore(|| {
        let scopes: Arc<[_]> = (0..3).map(scope).collect();
        let bench = Bench::new(&scopes, 1);
        let of = || Arc::clone(&scopes);
        let (loaded, read, used, forgotten) = (of(), of(), of(), of());
        join([
            repeat(&bench, 4, move |bench, time| bench.load(&loaded[time % 3])),
            repeat(&bench, 4, move |bench, time| {
                drop(bench.read(&read[time % 2]))
            }),
            repeat(&bench, 3, move |bench, time| {
                if let Some(ring) = bench.read(&used[time % 3]) {
                    let (another, watch) = (ring.apart(), ring.watch());
                    drop(ring);
                    bench.world.step();
                    assert!(watch.upgrade().is_some(), "keys are gone that are in use");
                    drop(another);
                }
            }),
            repeat(&bench, 1, move |bench, _| bench.cache.forget(&forgotten[0])),
        ]);
        let left = bench.made.load(Ordering::SeqCst) - bench.gone.load(Ordering::SeqCst);
        assert_eq!(left, bench.cache.entries.len(), "keys are left in a lane");
        scopes.iter().for_each(|scope| bench.cache.forget(scope));
        let (made, gone) = (&bench.made, &bench.gone);
        assert_eq!(gone.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
    });
}

#[test]
fn foreign_code_that_needs_every_lock_hangs_nobody() {
    explore(|| {
        let scope = &scope(1);
        let world = World::new(std::slice::from_ref(scope));
        let clock = Arc::new(ForeignClock {
            world: Arc::clone(&world),
            cache: OnceLock::new(),
            scope: scope.clone(),
        });
        let cache = Arc::new(Cache::new(100, Arc::clone(&clock) as Arc<dyn Clock>));
        clock
            .cache
            .set(Arc::downgrade(&cache))
            .expect("it is not set");
        let bench = Arc::new(Bench {
            world,
            cache,
            made: AtomicUsize::new(0),
            gone: Arc::default(),
        });
        let of = || scope.clone();
        let (loaded, abandoned, changed, waited) = (of(), of(), of(), of());
        join([
            repeat(&bench, 2, move |bench, _| bench.load(&loaded)),
            // Its runtime ends before it does, and those who wait are told.
            repeat(&bench, 2, move |bench, time| {
                let since = Since::Order(bench.cache.stamp().order);
                if let Joined::Begin(ticket, _) = bench.cache.join(&abandoned, since) {
                    let entry = bench.entry(&abandoned, ticket.sent);
                    if time == 0 {
                        drop(ticket);
                    } else {
                        ticket.failed(crate::error::ErrorKind::DatabaseBusy.into());
                    }
                    drop(entry);
                }
            }),
            repeat(&bench, 2, move |bench, _| {
                drop(bench.read(&changed));
                bench.cache.overtake(&changed);
            }),
            repeat(&bench, 2, move |bench, _| {
                let waker = Arc::new(Foreign {
                    cache: Arc::downgrade(&bench.cache),
                    scope: waited.clone(),
                    gone: Arc::default(),
                });
                let since = Since::Moment(Moment::ZERO);
                if let Joined::UnderWay(answer) = bench.cache.join(&waited, since) {
                    let mut wait = Box::pin(answer.wait());
                    let waker = waker.into();
                    let _ = wait.as_mut().poll(&mut Context::from_waker(&waker));
                    bench.world.step();
                }
            }),
        ]);
        assert!(
            bench.cache.loads().is_empty(),
            "a load is still on the list"
        );
    });
}
