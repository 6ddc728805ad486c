//! Many callers, changes, cancellations, outages and restores, in an order that a seed decides, held against a plain
//! model of invariant 6: the key that a call gets for encrypting was the newest one in the database at some moment
//! since the call began, or within the freshness before; and what this process changed itself is seen at once.
//!
//! `KMS_TEST_SEEDS=100000` runs more of them, `KMS_TEST_SEED=7` a single one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use kms_core::{
    Blob, Clock as _, Error, ErrorKind, Freshness, Kms, KmsBuilder, PooledWrapper, Repository,
    Rewrap, RewrapKeys, ScopeId, ScopeRows, Scopes, WarmUpOptions, Wrapper,
};
use kms_testkit::{
    Fault, FaultyWrapper, Gate, InstrumentedRepository, ManualClock, RepositoryMethod, When,
    WrapperMethod,
};
use kms_wrapper_aead::fastest;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use support::meddling::Meddling;
use support::{DATABASE, OIDC, World, scope};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

const SCOPES: usize = 5;
const STEPS: usize = 150;
const WINDOW: Duration = Duration::from_secs(1);

/// Nothing takes this long, on whatever machine.
const STANDSTILL: Duration = Duration::from_secs(60);

#[test]
fn invariant_06_holds_whatever_happens_in_whatever_order() {
    for seed in seeds(1000) {
        simulate(seed, Runtimes::One);
    }
}

#[test]
fn callers_in_runtimes_that_stand_still_at_times_hang_nobody_and_end_with_the_newest_keys() {
    for seed in seeds(40) {
        simulate(seed, Runtimes::Two);
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    match number("KMS_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KMS_TEST_SEEDS").unwrap_or(count),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Runtimes {
    /// All callers and all loads in one, whose time is virtual.
    One,
    /// Callers in two that take turns, so that one of them always stands still.
    Two,
}

fn simulate(seed: u64, runtimes: Runtimes) {
    let (ended, end) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let turns: Vec<Runtime> = match runtimes {
            Runtimes::One => vec![runtime(true)],
            Runtimes::Two => vec![runtime(false), runtime(false)],
        };
        let mut simulation = turns[0].block_on(Simulation::new(seed, runtimes));
        let per_turn = if turns.len() == 1 { STEPS } else { 10 };
        for turn in 0..STEPS / per_turn {
            simulation.turn = turn % turns.len();
            turns[simulation.turn].block_on(async {
                for _ in 0..per_turn {
                    simulation.step().await;
                }
            });
        }
        simulation.repository.clear();
        simulation.root.clear();
        for (turn, runtime) in turns.iter().enumerate() {
            runtime.block_on(simulation.wait_for_callers(turn));
        }
        turns[0].block_on(simulation.end());
        let _ = ended.send(());
    });
    match end.recv_timeout(STANDSTILL) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("seed {seed} stands still"),
        _ => worker
            .join()
            .unwrap_or_else(|_| panic!("seed {seed} failed; see above")),
    }
}

fn runtime(paused: bool) -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(paused)
        .build()
        .unwrap()
}

/// What the database held when.
#[derive(Default)]
struct Model {
    /// The version that encrypts now, by scope; none where the scope has no keys.
    current: HashMap<ScopeId, String>,
    /// When each version was last the one that encrypts, by the simulation's clock.
    last: HashMap<String, Duration>,
    /// What this process did has settled: older versions are not to be seen by calls that begin after this point.
    settled: HashMap<ScopeId, (u64, String)>,
    /// Counts calls and settlements.
    points: u64,
}

impl Model {
    fn observe(&mut self, rows: &[ScopeRows], now: Duration) {
        self.current = rows
            .iter()
            .filter_map(|rows| Some((rows.scope.clone(), newest_of(rows)?)))
            .collect();
        for version in self.current.values() {
            self.last.insert(version.clone(), now);
        }
    }

    fn point(&mut self) -> u64 {
        self.points += 1;
        self.points
    }
}

fn newest_of(rows: &ScopeRows) -> Option<String> {
    let key = rows.data_keys.iter().find(|key| key.purpose == OIDC)?;
    Some(key.versions.last()?.id.to_string())
}

/// What all parts share.
struct Shared {
    world: World,
    kms: Kms,
    /// Other processes, of which each encrypts with another root key. All know both.
    elsewhere: [Kms; 2],
    /// Whether all scopes have room in the cache.
    has_room: bool,
    /// Whether nothing happens but in the simulation's own steps, so that the model sees all of it.
    sees_all: bool,
    clock: ManualClock,
    model: Mutex<Model>,
    /// How long ago a served version may have been replaced.
    oldest: Duration,
    ids: Vec<ScopeId>,
}

impl Shared {
    async fn rows(&self) -> Vec<ScopeRows> {
        self.world.repository.load(&self.ids).await.unwrap().scopes
    }

    async fn observe(&self) {
        let rows = self.rows().await;
        self.model.lock().unwrap().observe(&rows, self.clock.now());
    }

    /// A call begins: where in the order, and when.
    fn begin(&self) -> (u64, Duration) {
        (self.model.lock().unwrap().point(), self.clock.now())
    }

    /// The call got this version of the scope.
    async fn check(&self, id: &ScopeId, version: &str, (point, began): (u64, Duration)) {
        if !self.sees_all {
            return;
        }
        self.observe().await;
        let model = self.model.lock().unwrap();
        let last = model.last.get(version);
        let last = last.unwrap_or_else(|| panic!("{version} of {id} was never there"));
        let age = began.saturating_sub(*last);
        assert!(
            age <= self.oldest,
            "{version} of {id} was replaced {age:?} before the call began"
        );
        if let Some((settled, newest)) = model.settled.get(id)
            && *settled < point
        {
            let (known, seen) = (model.last.get(newest), *last);
            assert!(
                version == newest || Some(&seen) >= known,
                "{version} of {id} was replaced by this process itself"
            );
        }
    }

    /// This process has changed the scope, and knows it.
    async fn settle(&self, id: &ScopeId) {
        self.observe().await;
        let mut model = self.model.lock().unwrap();
        let point = model.point();
        if let Some(newest) = model.current.get(id).cloned() {
            model.settled.insert(id.clone(), (point, newest));
        }
    }
}

struct Simulation {
    shared: Arc<Shared>,
    random: StdRng,
    repository: Arc<InstrumentedRepository>,
    root: Arc<FaultyWrapper>,
    /// With the runtime that each is in.
    callers: Vec<(usize, JoinHandle<()>)>,
    turn: usize,
    blobs: Arc<Mutex<Vec<(ScopeId, Blob)>>>,
    backup: Option<Vec<ScopeRows>>,
    runtimes: Runtimes,
    _engine: Arc<OnceLock<(Kms, ScopeId)>>,
}

impl Simulation {
    async fn new(seed: u64, runtimes: Runtimes) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let world = World::new().await;
        let ids: Vec<_> = (0..SCOPES).map(|n| scope(&format!("o_{n}"))).collect();
        for id in &ids {
            world.kms.create_keys(id, &[DATABASE, OIDC]).await.unwrap();
        }
        let clock = ManualClock::new();
        let repository = Arc::new(InstrumentedRepository::new(Arc::new(
            world.repository.clone(),
        )));
        let other = support::root("other");
        let pool = |encrypting: &Arc<dyn Wrapper>, other: &Arc<dyn Wrapper>| -> Arc<dyn Wrapper> {
            let pool = PooledWrapper::new(Arc::clone(encrypting));
            Arc::new(pool.with_decrypting(Arc::clone(other)).unwrap())
        };
        let roots = [pool(&world.root, &other), pool(&other, &world.root)];
        let root = Arc::new(FaultyWrapper::new(Arc::clone(&roots[0])));
        let engine = Arc::<OnceLock<_>>::default();
        let aead = Meddling {
            inner: fastest(),
            engine: Arc::downgrade(&engine),
            destroyed: Arc::<AtomicU64>::default(),
        };
        let grace = Duration::from_secs([0, 0, 5][random.random_range(0..3)]);
        let always = random.random_range(0..5) == 0;
        let has_room = random.random_range(0..2) == 0;
        let mut builder = KmsBuilder::new(
            Arc::clone(&repository) as Arc<dyn Repository>,
            Arc::new(aead),
        )
        .purposes([DATABASE, OIDC])
        .root_wrapper(Arc::clone(&root) as _)
        .clock(Arc::new(clock.clone()))
        .cache_capacity(if has_room { 100 } else { 2 })
        .lookup_interval(Duration::ZERO)
        .grace_period(grace);
        if always {
            builder = builder.freshness(Freshness::Always);
        }
        if runtimes == Runtimes::One {
            builder = builder.runtime(Handle::current());
        }
        let kms = builder.build().await.unwrap();
        engine.set((kms.clone(), ids[0].clone())).unwrap();
        let promised = if always { Duration::ZERO } else { WINDOW };
        let mut elsewhere = Vec::new();
        for root in roots {
            let builder = match runtimes {
                Runtimes::One => world.builder(),
                Runtimes::Two => world.builder_in_any_runtime(),
            };
            elsewhere.push(builder.root_wrapper(root).build().await.unwrap());
        }
        let shared = Shared {
            world,
            kms,
            elsewhere: elsewhere.try_into().unwrap(),
            has_room,
            sees_all: runtimes == Runtimes::One,
            clock,
            model: Mutex::default(),
            oldest: promised + grace,
            ids,
        };
        shared.observe().await;
        Self {
            shared: Arc::new(shared),
            random,
            repository,
            root,
            callers: Vec::new(),
            turn: 0,
            blobs: Arc::default(),
            backup: None,
            runtimes,
            _engine: engine,
        }
    }

    fn scope(&mut self) -> ScopeId {
        self.shared.ids[self.random.random_range(0..SCOPES)].clone()
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..40 => self.call(),
            40..48 => self.change_here(),
            48..58 => self.change_elsewhere().await,
            58..68 => self.pass_time().await,
            68..78 => self.cancel(),
            78..88 => self.misbehave(),
            88..91 => self.begin_outage(),
            91..94 => self.repository.clear(),
            94..97 => self.restore().await,
            _ => self.shared.kms.accept(&[]),
        }
        for _ in 0..self.random.random_range(0..4) {
            tokio::task::yield_now().await;
        }
        let mut callers = std::mem::take(&mut self.callers);
        for (turn, caller) in callers.drain(..) {
            if caller.is_finished() {
                unless_panicked(caller.await);
            } else {
                self.callers.push((turn, caller));
            }
        }
    }

    /// Somebody wants keys, in one of the ways there are.
    fn call(&mut self) {
        let (shared, id) = (Arc::clone(&self.shared), self.scope());
        let blobs = Arc::clone(&self.blobs);
        let kind = self.random.random_range(0..10);
        let blob = {
            let blobs = blobs.lock().unwrap();
            let place = self.random.random_range(0..blobs.len().max(1));
            blobs.get(place).cloned()
        };
        let caller = tokio::spawn(async move {
            let began = shared.begin();
            match kind {
                0..6 => {
                    if let Ok(wrapper) = shared.kms.wrapper(&id, &OIDC).await {
                        let version = wrapper.key_version_id().to_string();
                        shared.check(&id, &version, began).await;
                        if let Ok(blob) = wrapper.encrypt(b"secret", b"") {
                            blobs.lock().unwrap().push((id, blob));
                        }
                    }
                }
                6 => {
                    if let Ok(ring) = shared.kms.ensure(&id).await
                        && let Ok(wrapper) = ring.wrapper(&OIDC)
                    {
                        let version = wrapper.key_version_id().to_string();
                        shared.check(&id, &version, began).await;
                    }
                }
                7 => {
                    let options = WarmUpOptions::new().batch_size(3).concurrency(2);
                    let _ = shared
                        .kms
                        .warm_up(Scopes::Only(&shared.ids), &options)
                        .await;
                }
                _ => {
                    if let Some((id, blob)) = blob
                        && let Ok(plain) = shared.kms.decrypt(&id, &OIDC, &blob, b"").await
                    {
                        assert_eq!(plain.expose(), b"secret");
                    }
                }
            }
        });
        self.callers.push((self.turn, caller));
    }

    /// This process changes a scope.
    fn change_here(&mut self) {
        let (shared, id) = (Arc::clone(&self.shared), self.scope());
        let kind = self.random.random_range(0..4);
        let caller = tokio::spawn(async move {
            let kms = &shared.kms;
            let done = match kind {
                0 | 1 => kms.rotate_keys(&id, Rewrap::Yes).await,
                2 => kms.rewrap_keys(&id, RewrapKeys::All).await,
                _ => match kms.dangerous().delete_keys(&id).await {
                    Ok(()) => kms.create_keys(&id, &[DATABASE, OIDC]).await,
                    failed => failed,
                },
            };
            if done.is_ok() {
                shared.settle(&id).await;
            }
        });
        self.callers.push((self.turn, caller));
    }

    /// Another process changes a scope.
    async fn change_elsewhere(&mut self) {
        let id = self.scope();
        let kms = &self.shared.elsewhere[self.random.random_range(0..2)];
        let done = match self.random.random_range(0..5) {
            0 => kms.rotate_keys(&id, Rewrap::No).await,
            1 => kms.rotate_keys(&id, Rewrap::Yes).await,
            2 => kms.rewrap_keys(&id, RewrapKeys::All).await,
            3 => kms.rewrap_keys(&id, RewrapKeys::ForeignRoot).await,
            _ => kms.dangerous().delete_keys(&id).await,
        };
        if done.is_err_and(|error| error.kind() == ErrorKind::UnknownScope) {
            // Unless somebody was faster.
            let _ = kms.create_keys(&id, &[DATABASE, OIDC]).await;
        }
        self.shared.observe().await;
    }

    async fn pass_time(&mut self) {
        let most = [20, 600, 3000, 400_000][self.random.random_range(0..4)];
        let time = Duration::from_millis(self.random.random_range(0..most));
        self.shared.observe().await;
        self.shared.clock.advance(time);
        // What is there now was there until now.
        self.shared.observe().await;
        if self.runtimes == Runtimes::One {
            tokio::time::sleep(time.min(Duration::from_millis(700))).await;
        }
        self.shared.observe().await;
    }

    /// Somebody goes away in the middle, wherever that is.
    fn cancel(&mut self) {
        if !self.callers.is_empty() {
            let caller = self.random.random_range(0..self.callers.len());
            self.callers.swap_remove(caller).1.abort();
        }
    }

    /// The next call of one kind takes its time, before or after it has done what it does, or fails.
    fn misbehave(&mut self) {
        let milliseconds = match self.runtimes {
            Runtimes::One => self.random.random_range(0..900),
            Runtimes::Two => self.random.random_range(0..3),
        };
        let time = Duration::from_millis(milliseconds);
        let fault = match self.random.random_range(0..4) {
            0 => Fault::Delay(time),
            1 | 2 => {
                let gate = Gate::new();
                let opened = gate.clone();
                match self.runtimes {
                    Runtimes::One => drop(tokio::spawn(async move {
                        tokio::time::sleep(time).await;
                        opened.open();
                    })),
                    // Not in a runtime that may stand still.
                    Runtimes::Two => drop(std::thread::spawn(move || {
                        std::thread::sleep(time);
                        opened.open();
                    })),
                }
                Fault::PauseAfter(gate)
            }
            _ => Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable)),
        };
        match self.random.random_range(0..5) {
            0 | 1 => self
                .repository
                .inject(RepositoryMethod::Load, When::Next, fault),
            2 | 3 => self
                .repository
                .inject(RepositoryMethod::CollectionVersion, When::Next, fault),
            _ => {
                let fault = match fault {
                    Fault::FailBefore(_) => Fault::FailBefore(Error::new(ErrorKind::Throttled)),
                    other => other,
                };
                self.root.inject(WrapperMethod::Decrypt, When::Next, fault);
            }
        }
    }

    fn begin_outage(&mut self) {
        for method in [RepositoryMethod::Load, RepositoryMethod::CollectionVersion] {
            let down = Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
            self.repository.inject(method, When::Always, down);
        }
    }

    /// The database is put back to a backup, and one of the processes says so.
    async fn restore(&mut self) {
        let Some(backup) = self.backup.replace(self.shared.rows().await) else {
            return;
        };
        self.shared.observe().await;
        self.shared.world.repository.tamper(|rows| *rows = backup);
        self.shared.elsewhere[0].announce_restore().await.unwrap();
        self.shared.observe().await;
        // What settled before is history.
        self.shared.model.lock().unwrap().settled.clear();
        if self.random.random_range(0..2) == 0 && self.shared.kms.announce_restore().await.is_ok() {
            for id in self.shared.ids.clone() {
                self.shared.settle(&id).await;
            }
        }
    }

    /// One that hangs is found by the time that this takes.
    async fn wait_for_callers(&mut self, turn: usize) {
        for (of_turn, caller) in std::mem::take(&mut self.callers) {
            if of_turn == turn {
                unless_panicked(caller.await);
            } else {
                self.callers.push((of_turn, caller));
            }
        }
    }

    /// When all is well again, all is well: everybody gets the newest.
    async fn end(self) {
        self.shared.clock.advance(Duration::from_secs(600));
        for id in &self.shared.ids {
            loop {
                let before = self.current(id).await;
                let found = self.shared.kms.wrapper(id, &OIDC).await;
                if before != self.current(id).await {
                    // A change whose caller went away has ended only now.
                    self.shared.clock.advance(WINDOW * 2);
                    continue;
                }
                match (before, found) {
                    (Some(current), Ok(wrapper)) => {
                        assert_eq!(wrapper.key_version_id().as_str(), current);
                    }
                    (None, Err(error)) => assert_eq!(error.kind(), ErrorKind::UnknownScope),
                    (before, found) => panic!("{id}: {before:?} in the database, and {found:?}"),
                }
                break;
            }
        }
        if self.shared.has_room {
            self.move_to_another_root().await;
        }
    }

    /// Keys that are held go on working when those above them are moved to a root that can't be asked.
    async fn move_to_another_root(&self) {
        // Nothing is under way any more that could keep what is loaded from being held.
        self.shared.clock.advance(WINDOW * 2);
        for id in &self.shared.ids {
            let _ = self.shared.kms.wrapper(id, &OIDC).await;
        }
        let throttled = Fault::FailBefore(Error::new(ErrorKind::Throttled));
        self.root
            .inject(WrapperMethod::Decrypt, When::Always, throttled);
        for id in &self.shared.ids {
            let current = self.current(id).await;
            for kms in &self.shared.elsewhere {
                if current.is_some() {
                    kms.rewrap_keys(id, RewrapKeys::ForeignRoot).await.unwrap();
                }
            }
            self.shared.clock.advance(WINDOW * 2);
            if let Some(current) = current {
                let wrapper = self.shared.kms.wrapper(id, &OIDC).await.unwrap();
                assert_eq!(wrapper.key_version_id().as_str(), current);
                wrapper.encrypt(b"x", b"").unwrap();
            }
        }
    }

    async fn current(&self, id: &ScopeId) -> Option<String> {
        self.shared.observe().await;
        self.shared.model.lock().unwrap().current.get(id).cloned()
    }
}

fn unless_panicked(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
