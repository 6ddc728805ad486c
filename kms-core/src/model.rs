//! What the models have in common: many schedules, a database, and a clock.
//!
//! A model is a test that runs threads over what they share once for each of many schedules. Half of the schedules
//! are random; the others change threads seldom, at random points, which finds what a few unlucky changes bring about
//! (PCT). `KMS_MODEL_SCHEDULES=100000` tries more of them. When one fails, shuttle prints it;
//! `KMS_MODEL_SCHEDULE=…` with the name of the test runs that one again.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread::JoinHandle;
use shuttle::{Config, Runner};

use crate::cache::Moment;
use crate::clock::Clock;
use crate::repository::{Changes, Step};
use crate::rows::CollectionVersion;
use crate::scope::ScopeId;

mod database;

pub(crate) use database::Database;

/// How far the clock goes when somebody looks at it.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Schedules of each kind.
const SCHEDULES: usize = 5000;

/// Changes of threads at most in a schedule that changes them seldom.
const CHANGES: usize = 4;

/// Runs the model once for each schedule.
pub(crate) fn explore(model: fn()) {
    if let Ok(schedule) = std::env::var("KMS_MODEL_SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(schedule.trim()), model);
    }
    let schedules = std::env::var("KMS_MODEL_SCHEDULES").ok();
    let schedules = schedules.map_or(SCHEDULES, |number| number.parse().expect("a number"));
    run(RandomScheduler::new(schedules), model);
    run(PctScheduler::new(CHANGES, schedules), model);
}

fn run(scheduler: impl Scheduler + 'static, model: fn()) {
    let mut config = Config::new();
    // An unoptimized future needs more than the default.
    config.stack_size = 256 * 1024;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(model);
}

/// Waits for these threads.
pub(crate) fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("it ends without a panic");
    }
}

/// The database and the time, as they are in truth. Each step of them is one at which threads may change.
#[derive(Debug)]
pub(crate) struct World {
    /// Read only so that threads may change.
    step: AtomicU64,
    truth: std::sync::Mutex<Truth>,
}

#[derive(Debug, Default)]
struct Truth {
    ticks: u64,
    commits: Vec<Commit>,
    /// By scope, in the order of their first commits.
    settled: Vec<(ScopeId, i64)>,
}

#[derive(Debug)]
struct Commit {
    at: u64,
    scope: ScopeId,
    collection: CollectionVersion,
    /// Whether the way from the commits before can be told.
    restored: bool,
}

impl World {
    /// One in which each of these scopes has keys.
    pub(crate) fn new(scopes: &[ScopeId]) -> Arc<Self> {
        let world = Arc::new(Self {
            step: AtomicU64::new(0),
            truth: std::sync::Mutex::default(),
        });
        for scope in scopes {
            world.commit(scope);
        }
        world
    }

    /// Changes the scope's keys: the number that its keys have from now on.
    pub(crate) fn commit(&self, scope: &ScopeId) -> i64 {
        self.step();
        self.truth().commit(scope, 1, false)
    }

    /// Other keys are there than were, and the collection version is one that was known before.
    pub(crate) fn restore(&self, scope: &ScopeId) -> i64 {
        self.step();
        self.truth().commit(scope, -1, true)
    }

    /// The collection version and the numbers of these scopes' keys, in one snapshot.
    pub(crate) fn read_all(&self, scopes: &[ScopeId]) -> (CollectionVersion, Vec<i64>) {
        self.step();
        let truth = self.truth();
        let numbers = scopes.iter().map(|scope| truth.current(scope, u64::MAX));
        (truth.collection(), numbers.collect())
    }

    /// What changed since.
    pub(crate) fn changes(&self, since: Option<CollectionVersion>) -> Changes {
        self.step();
        let truth = self.truth();
        let known = truth.commits.iter();
        let known = known
            .rev()
            .position(|commit| Some(commit.collection) == since);
        let way = &truth.commits[truth.commits.len() - known.unwrap_or(0)..];
        let is_told = known.is_some() && !way.iter().any(|commit| commit.restored);
        let step = |commit: &Commit| Step {
            collection: commit.collection,
            scopes: vec![commit.scope.clone()],
        };
        Changes {
            collection: truth.collection(),
            steps: is_told.then(|| way.iter().map(step).collect()),
        }
    }

    /// The number of the oldest keys of the scope that may be in use if all knowledge is from this moment or later.
    pub(crate) fn oldest_at(&self, scope: &ScopeId, moment: Moment) -> i64 {
        let ticks = moment.as_millis() / TICK.as_millis();
        let ticks = u64::try_from(ticks).expect("it is short");
        self.truth().current(scope, ticks)
    }

    /// From now on nobody may be given older keys of the scope, as this process knows of these.
    pub(crate) fn settle(&self, scope: &ScopeId, number: i64) {
        let mut truth = self.truth();
        let settled = truth.settled.iter_mut().find(|(known, _)| known == scope);
        let (_, settled) = settled.expect("it is a known scope");
        *settled = number.max(*settled);
    }

    /// The number of the oldest keys of the scope that this process may give to a call that begins now.
    pub(crate) fn settled(&self, scope: &ScopeId) -> i64 {
        let truth = self.truth();
        let settled = truth.settled.iter().find(|(known, _)| known == scope);
        settled.expect("it is a known scope").1
    }

    /// A point at which threads may change.
    pub(crate) fn step(&self) {
        self.step.load(Ordering::SeqCst);
    }

    fn truth(&self) -> std::sync::MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Truth {
    fn commit(&mut self, scope: &ScopeId, by: i64, restored: bool) -> i64 {
        let number = i64::try_from(self.commits.len()).expect("there are few");
        let before = self.commits.last();
        let collection = CollectionVersion {
            version: before.map_or(1, |commit| commit.collection.version + by),
            update_time: SystemTime::UNIX_EPOCH + Duration::from_secs(self.commits.len() as u64),
        };
        self.commits.push(Commit {
            at: self.ticks,
            scope: scope.clone(),
            collection,
            restored,
        });
        if !self.settled.iter().any(|(known, _)| known == scope) {
            self.settled.push((scope.clone(), number));
        }
        number
    }

    fn collection(&self) -> CollectionVersion {
        self.commits.last().expect("there is one").collection
    }

    /// A query that was sent at a tick was sent after all commits of that tick: the tick ended with it.
    fn current(&self, scope: &ScopeId, ticks: u64) -> i64 {
        let of_scope = |commit: &Commit| commit.at <= ticks && commit.scope == *scope;
        let current = self.commits.iter().rposition(of_scope).unwrap_or(0);
        i64::try_from(current).expect("there are few")
    }
}

/// A tick each time that somebody looks.
impl Clock for World {
    fn now(&self) -> Duration {
        self.step();
        let mut truth = self.truth();
        truth.ticks += 1;
        TICK * u32::try_from(truth.ticks - 1).expect("it is short")
    }
}
