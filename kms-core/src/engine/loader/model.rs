//! The loader under many orders of its threads' steps: see [`crate::model`].

use futures_util::FutureExt as _;
use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};

use super::*;
use crate::aead::{Aead, AeadKey};
use crate::binding::Binding;
use crate::clock::Clock;
use crate::model::{Database, TICK, World, explore, join};
use crate::roots::{NamedRootLimits, Roots};
use crate::secret::KeyBytes;
use crate::usage::Usage;

/// Long enough that some calls are answered by the cache, and short enough that some are not.
const WINDOW: Duration = TICK.saturating_mul(4);

struct Bench {
    world: Arc<World>,
    loader: Arc<Loader>,
    scopes: [ScopeId; 2],
    grace: Duration,
}

impl Bench {
    fn new(fails: bool, grace: Duration) -> Arc<Self> {
        let scopes = ["o_1", "o_2"].map(|id| ScopeId::new(id).expect("it is valid"));
        let world = World::new(&scopes);
        let database = Database {
            world: Arc::clone(&world),
            fails,
        };
        let executor = Executor::default();
        let limits = NamedRootLimits::default();
        let roots = Arc::new(Roots::new(None, None, limits, executor.clone(), false));
        let opener = Opener {
            roots,
            aead: Arc::new(Unused),
            binding: Binding::Required,
            decrypt_only: false,
            usage: Usage::default(),
        };
        let settings = Settings {
            freshness: Freshness::Within(WINDOW),
            recheck: TICK * 60,
            lookup_interval: Duration::ZERO,
            grace,
            ..Settings::default()
        };
        let clock = Arc::clone(&world) as Arc<dyn Clock>;
        let cache = Arc::new(Cache::new(100, clock));
        let loader = Loader::new(
            Arc::new(database),
            Arc::new(opener),
            cache,
            settings,
            executor,
        );
        Arc::new(Self {
            world,
            loader: Arc::new(loader),
            scopes,
            grace,
        })
    }

    /// Gets the keys of a scope, one time or the other in each of the ways that there are. Gives whether it got them.
    fn call(&self, time: usize) -> bool {
        let scope = &self.scopes[time % 2];
        let fresh = self.oldest(scope, WINDOW + self.grace);
        let result = match time % 3 {
            2 => {
                let fresh = self.oldest(scope, Duration::ZERO);
                let reloaded = block_on(self.loader.reload(scope));
                reloaded.inspect(|ring| check(ring, fresh))
            }
            _ => block_on(self.loader.ring(scope)),
        };
        result.is_ok_and(|ring| {
            check(&ring, fresh);
            true
        })
    }

    /// Goes away at the first wait.
    fn give_up(&self, time: usize) {
        let scope = &self.scopes[time % 2];
        let oldest = self.oldest(scope, WINDOW + self.grace);
        if let Some(Ok(ring)) = self.loader.ring(scope).now_or_never() {
            check(&ring, oldest);
        }
    }

    fn warm_up(&self) {
        let oldest = self
            .scopes
            .each_ref()
            .map(|scope| self.oldest(scope, WINDOW + self.grace));
        let root_calls = Arc::new(tokio::sync::Semaphore::new(2));
        let found = block_on(self.loader.find_together(&self.scopes, &root_calls));
        for (scope, loading) in found.into_iter().flatten() {
            let ring = match loading {
                Loading::Ready(ring) => Some(ring),
                Loading::UnderWay(answer) => {
                    block_on(answer.wait()).and_then(|loaded| loaded.ok()?)
                }
                Loading::Alone => None,
            };
            let place = usize::from(scope == self.scopes[1]);
            let _ = ring.inspect(|ring| check(ring, oldest[place]));
        }
    }

    /// The number of the oldest keys that a call may be given that begins now.
    fn oldest(&self, scope: &ScopeId, window: Duration) -> i64 {
        let settled = self.world.settled(scope);
        let begun = self.loader.cache.now();
        settled.max(self.world.oldest_at(scope, begun.saturating_sub(window)))
    }
}

fn check(ring: &KeyRing, oldest: i64) {
    let number = ring.ring().root_key_versions[0].version;
    assert!(
        number >= oldest,
        "keys {number} where {oldest} are the oldest that were promised"
    );
}

/// Nothing is opened.
#[derive(Debug)]
struct Unused;

impl Aead for Unused {
    fn name(&self) -> &'static str {
        "unused"
    }

    fn prepare(&self, _: &KeyBytes) -> Box<dyn AeadKey> {
        unreachable!("nothing is opened")
    }
}

fn repeat(
    bench: &Arc<Bench>,
    times: usize,
    work: impl Fn(&Bench, usize) + Send + 'static,
) -> JoinHandle<()> {
    let bench = Arc::clone(bench);
    thread::spawn(move || (0..times).for_each(|time| work(&bench, time)))
}

/// As [`explore`], where a timer can be set. None ends: that is what the simulation is for.
fn explore_with_timers(model: fn()) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().expect("there is a runtime");
    let _entered = runtime.enter();
    explore(model);
}

#[test]
fn invariant_06_no_call_is_given_keys_that_are_older_than_promised() {
    explore_with_timers(|| {
        let bench = Bench::new(false, Duration::ZERO);
        join([
            // Another process changes keys, and this one does.
            repeat(&bench, 4, |bench, time| {
                bench.world.commit(&bench.scopes[time / 2]);
            }),
            repeat(&bench, 2, |bench, time| {
                let scope = &bench.scopes[time];
                let number = bench.world.commit(scope);
                bench.loader.cache.overtake(scope);
                bench.world.settle(scope, number);
            }),
            repeat(&bench, 5, |bench, time| assert!(bench.call(time))),
            repeat(&bench, 5, |bench, time| assert!(bench.call(time + 1))),
            repeat(&bench, 2, Bench::give_up),
            repeat(&bench, 1, |bench, _| bench.warm_up()),
        ]);
        // Calls that begin when all have ended.
        assert!(bench.call(0) && bench.call(1));
    });
}

#[test]
fn invariant_06_no_call_is_given_keys_of_before_a_restore_that_this_process_was_told_of() {
    explore_with_timers(|| {
        let bench = Bench::new(false, Duration::ZERO);
        join([
            repeat(&bench, 2, |bench, time| {
                bench.world.commit(&bench.scopes[time]);
                let restored = [0, 1].map(|scope| bench.world.restore(&bench.scopes[scope]));
                bench.loader.cache.overtake_all();
                for (scope, number) in bench.scopes.iter().zip(restored) {
                    bench.world.settle(scope, number);
                }
            }),
            repeat(&bench, 5, |bench, time| assert!(bench.call(time))),
            repeat(&bench, 5, |bench, time| assert!(bench.call(time + 1))),
            repeat(&bench, 1, |bench, _| bench.warm_up()),
        ]);
        // Calls that begin when all have ended.
        assert!(bench.call(0) && bench.call(1));
    });
}

#[test]
fn invariant_06_while_the_database_fails_no_call_is_given_keys_older_than_the_grace() {
    explore_with_timers(|| {
        let bench = Bench::new(true, TICK * 20);
        join([
            repeat(&bench, 4, |bench, time| {
                bench.world.commit(&bench.scopes[time / 2]);
            }),
            repeat(&bench, 4, |bench, time| {
                bench.call(time);
            }),
            repeat(&bench, 4, |bench, time| {
                bench.call(time + 1);
            }),
            repeat(&bench, 2, Bench::give_up),
            repeat(&bench, 1, |bench, _| bench.warm_up()),
        ]);
    });
}
