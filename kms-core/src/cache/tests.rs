//! The cache's rules, one by one.

use std::time::SystemTime;

use futures_util::FutureExt as _;

use super::*;
use crate::id::RootKeyId;
use crate::key_ring::Ring;
use crate::repository::{Changes, Step};

const WINDOW: Duration = Duration::from_secs(1);
const RECHECK: Duration = Duration::from_secs(300);

/// Time that stands still until told otherwise.
#[derive(Debug)]
struct Stopped(Mutex<Duration>);

impl Stopped {
    fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for Stopped {
    fn now(&self) -> Duration {
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
        let clock = Arc::new(Stopped(Mutex::new(Duration::from_secs(100))));
        Self {
            cache: Arc::new(Cache::new(100, Arc::clone(&clock) as Arc<dyn Clock>)),
            clock,
            scope: ScopeId::new("o_1").unwrap(),
        }
    }

    /// A load that ends now, of a query sent then, which found this collection version.
    fn loaded(&self, sent: Sent, version: i64) -> KeyRing {
        self.loaded_of(&self.scope, sent, version)
    }

    fn loaded_of(&self, scope: &ScopeId, sent: Sent, version: i64) -> KeyRing {
        let ring = ring(scope);
        let entry = Entry::new(
            ring.clone(),
            Known {
                sent,
                generation: self.cache.collection.observe(collection(version), sent),
                recheck: sent.at + RECHECK,
                proof_end: Moment::MAX,
                overtaken: false,
            },
            collection(version),
        );
        let mut loads = self.cache.loads();
        loads
            .entry(scope.clone())
            .or_default()
            .begin(self.cache.stamp(), answer().1);
        drop(loads);
        self.cache.finish(scope, Some((sent, Some(entry))));
        ring
    }

    /// The answer to a question sent now: the way on from a version, with the scopes that each step changed.
    fn told(&self, since: i64, steps: &[(i64, &[&ScopeId])]) {
        self.told_at(self.cache.stamp(), since, steps);
    }

    fn told_at(&self, sent: Sent, since: i64, steps: &[(i64, &[&ScopeId])]) {
        let steps: Vec<_> = steps
            .iter()
            .map(|(version, scopes)| Step {
                collection: collection(*version),
                scopes: scopes.iter().map(|scope| (*scope).clone()).collect(),
            })
            .collect();
        let changes = Changes {
            collection: steps
                .last()
                .map_or(collection(since), |step| step.collection),
            steps: Some(steps),
        };
        self.cache
            .collection
            .learn(Some(collection(since)), &changes, sent);
    }

    /// The answer that the collection version is this one, and nobody knows how it came to be.
    fn untold(&self, version: i64) {
        let since = self.cache.collection.known_version();
        let changes = Changes::untold(collection(version));
        self.cache
            .collection
            .learn(since, &changes, self.cache.stamp());
    }

    fn promise(&self) -> Promise {
        Promise {
            since: Since::Moment(self.cache.now().saturating_sub(WINDOW)),
            rows_only: false,
            oldest_in_grace: Duration::ZERO,
        }
    }

    fn verdict(&self) -> Verdict {
        self.verdict_of(&self.scope)
    }

    fn verdict_of(&self, scope: &ScopeId) -> Verdict {
        self.cache.verdict(scope, &self.promise(), false).0
    }

    fn fresh(&self) -> Option<RootKeyId> {
        let ring = self.cache.usable(&self.scope, WINDOW);
        let verdict = self.verdict();
        if ring.is_some() {
            assert_eq!(verdict, Verdict::Usable);
        } else if verdict == Verdict::Usable {
            // Its place has been found now.
            let again = self.cache.usable(&self.scope, WINDOW);
            return Some(again.expect("it is usable").ring().root_key.clone());
        }
        ring.map(|ring| ring.ring().root_key.clone())
    }

    /// A load that is under way until dropped.
    fn under_way(&self) -> Ticket {
        let since = Since::Order(self.cache.stamp().order);
        match self.cache.join(&self.scope, since) {
            Joined::Begin(ticket, _) => ticket,
            _ => panic!("a load is under way already"),
        }
    }
}

fn ring(scope: &ScopeId) -> KeyRing {
    KeyRing::new(Ring {
        scope: scope.clone(),
        root_key: RootKeyId::generate(),
        root: None,
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

fn another() -> ScopeId {
    ScopeId::new("o_2").unwrap()
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
    assert_eq!(bench.verdict(), Verdict::Ask);
}

#[test]
fn reading_the_same_collection_version_again_confirms_every_entry_that_belongs_to_it() {
    let bench = Bench::new();
    let ring = bench.loaded(bench.cache.stamp(), 1);
    bench.clock.pass(WINDOW * 10);
    assert_eq!(bench.fresh(), None);
    bench.told(1, &[]);
    assert_eq!(bench.fresh(), id(&ring));
}

#[test]
fn another_collection_version_that_nobody_tells_the_way_to_confirms_nothing_lower_or_higher() {
    for other in [0, 2] {
        let bench = Bench::new();
        bench.loaded(bench.cache.stamp(), 1);
        bench.clock.pass(WINDOW * 2);
        bench.untold(other);
        assert_eq!(bench.verdict(), Verdict::Load);
        // Nor if the counter comes back to where it was.
        bench.untold(1);
        assert_eq!(bench.verdict(), Verdict::Load);
    }
}

#[test]
fn a_scope_that_no_step_of_the_way_names_is_confirmed_and_one_that_is_named_is_not() {
    let bench = Bench::new();
    let other = another();
    let kept = bench.loaded(bench.cache.stamp(), 1);
    bench.loaded_of(&other, bench.cache.stamp(), 1);
    for version in 2..6 {
        bench.clock.pass(WINDOW * 2);
        assert_eq!(bench.verdict(), Verdict::Ask);
        bench.told(version - 1, &[(version, &[&other])]);
        assert_eq!(bench.fresh(), id(&kept));
        assert_eq!(bench.verdict_of(&other), Verdict::Load);
    }
}

#[test]
fn a_scope_that_was_changed_and_read_again_is_confirmed_by_the_way_from_there() {
    let bench = Bench::new();
    let other = another();
    bench.loaded(bench.cache.stamp(), 1);
    bench.clock.pass(WINDOW * 2);
    bench.told(1, &[(2, &[&bench.scope])]);
    assert_eq!(bench.verdict(), Verdict::Load);
    // Its rows came with a version that was not known yet.
    let ring = bench.loaded(bench.cache.stamp(), 4);
    bench.clock.pass(WINDOW * 2);
    assert_eq!(bench.verdict(), Verdict::Ask);
    let scope = bench.scope.clone();
    bench.told(2, &[(3, &[&scope]), (4, &[&scope]), (5, &[&other])]);
    assert_eq!(bench.fresh(), id(&ring));
    bench.clock.pass(WINDOW * 2);
    bench.told(5, &[(6, &[&scope])]);
    assert_eq!(bench.verdict(), Verdict::Load);
}

#[test]
fn invariant_06_rows_older_than_what_is_known_are_not_confirmed_if_their_scope_changed_since() {
    let bench = Bench::new();
    bench.loaded(bench.cache.stamp(), 1);
    // Its query was answered before the change, and the question that tells of the change was sent before it.
    let question = bench.cache.stamp();
    let sent = bench.cache.stamp();
    let scope = bench.scope.clone();
    bench.told_at(question, 1, &[(2, &[&scope])]);
    bench.loaded(sent, 1);
    bench.clock.pass(WINDOW * 2);
    bench.told(2, &[]);
    assert_eq!(bench.verdict(), Verdict::Load);
}

#[test]
fn two_questions_at_once_tell_the_same_way_once() {
    let bench = Bench::new();
    let other = another();
    let ring = bench.loaded(bench.cache.stamp(), 1);
    bench.clock.pass(WINDOW * 2);
    let (first, second) = (bench.cache.stamp(), bench.cache.stamp());
    bench.told_at(first, 1, &[(2, &[&other])]);
    bench.told_at(second, 1, &[(2, &[&other]), (3, &[&other])]);
    assert_eq!(bench.fresh(), id(&ring));
    bench.clock.pass(WINDOW * 2);
    bench.told(3, &[]);
    assert_eq!(bench.fresh(), id(&ring));
}

#[test]
fn more_changes_than_are_remembered_confirm_nothing_of_before() {
    let bench = Bench::new();
    bench.loaded(bench.cache.stamp(), 1);
    bench.clock.pass(WINDOW * 2);
    let many: Vec<_> = (0..30_000)
        .map(|number| ScopeId::new(format!("other_{number}")).unwrap())
        .collect();
    let many: Vec<_> = many.iter().collect();
    bench.told(1, &[(2, &many[..15_000]), (3, &many[15_000..])]);
    assert_eq!(bench.verdict(), Verdict::Load);
}

#[test]
fn an_answer_that_was_asked_for_earlier_does_not_go_over_a_later_one() {
    let bench = Bench::new();
    let early = bench.cache.stamp();
    let ring = bench.loaded(bench.cache.stamp(), 2);
    bench.clock.pass(WINDOW * 2);
    bench.told(2, &[]);
    bench.told_at(early, 2, &[(1, &[])]);
    assert_eq!(bench.fresh(), id(&ring));
}

#[test]
fn whatever_the_collection_version_says_an_entry_is_not_used_past_its_recheck() {
    let bench = Bench::new();
    bench.loaded(bench.cache.stamp(), 1);
    bench.clock.pass(RECHECK);
    bench.told(1, &[]);
    assert_eq!(bench.verdict(), Verdict::Load);
}

#[test]
fn invariant_06_a_load_overtaken_by_a_receipt_is_not_inserted() {
    let bench = Bench::new();
    let load = bench.under_way();
    bench.cache.overtake(&bench.scope);
    bench.loaded(load.sent, 1);
    assert_eq!(bench.fresh(), None);
    drop(load);
}

#[test]
fn invariant_06_a_load_overtaken_by_a_later_load_is_not_inserted_even_if_that_was_evicted() {
    let bench = Bench::new();
    let first = bench.under_way();
    let late = bench.cache.stamp();
    bench.loaded(late, 2);
    bench.cache.entries.clear();
    bench.loaded(first.sent, 1);
    assert_eq!(bench.fresh(), None);
}

#[test]
fn invariant_06_after_a_restore_nothing_that_was_sent_before_is_used_or_confirmed_or_joined() {
    let bench = Bench::new();
    let early = bench.cache.stamp();
    let known = bench.loaded(bench.cache.stamp(), 1);
    let load = bench.under_way();
    assert_eq!(bench.fresh(), id(&known));
    bench.cache.overtake_all();
    assert_eq!(bench.fresh(), None);
    // Answers to questions of before, whatever they say.
    bench.told_at(early, 1, &[]);
    assert_eq!(bench.fresh(), None);
    let joined = bench.cache.join(&bench.scope, Since::Moment(Moment::ZERO));
    let Joined::Begin(after, _) = joined else {
        panic!("it is to be a load of its own");
    };
    assert!(after.sent.order > load.sent.order);
    bench.loaded(load.sent, 1);
    assert_eq!(bench.fresh(), None);
    drop((load, after));
    let anew = bench.loaded(bench.cache.stamp(), 1);
    assert_eq!(bench.fresh(), id(&anew));
}

#[test]
fn an_absence_found_earlier_does_not_remove_keys_found_later() {
    let bench = Bench::new();
    let (early, late) = (bench.under_way(), bench.cache.stamp());
    let ring = bench.loaded(late, 1);
    early.found(None);
    assert_eq!(bench.fresh(), id(&ring));
    bench.under_way().found(None);
    assert!(bench.cache.entry(&bench.scope).is_none());
}

#[test]
fn an_overtaken_entry_is_kept_for_comparison_and_a_forgotten_one_is_not() {
    let bench = Bench::new();
    bench.loaded(bench.cache.stamp(), 1);
    bench.cache.overtake(&bench.scope);
    assert_eq!(bench.fresh(), None);
    assert!(bench.cache.entry(&bench.scope).unwrap().known.overtaken);
    bench.cache.forget(&bench.scope);
    assert!(bench.cache.entry(&bench.scope).is_none());
}

#[test]
fn callers_share_a_load_that_is_recent_enough_and_no_other() {
    let bench = Bench::new();
    let load = bench.under_way();
    let join = |since| bench.cache.join(&bench.scope, since);
    let shared = join(Since::Moment(load.sent.at));
    assert!(matches!(shared, Joined::UnderWay(_)));
    let too_early = join(Since::Order(bench.cache.stamp().order));
    assert!(matches!(too_early, Joined::TooEarly(_)));

    // After a receipt, a load that was sent before it is shared with nobody any more.
    bench.cache.overtake(&bench.scope);
    let own = join(Since::Moment(Moment::ZERO));
    assert!(matches!(own, Joined::Begin(..)));
    drop((shared, load, own));
    assert!(bench.cache.loads().is_empty());
}

#[test]
fn those_who_wait_are_told_what_was_found_and_those_of_a_load_that_was_dropped_that_nothing_will_be()
 {
    let bench = Bench::new();
    let load = bench.under_way();
    let Joined::UnderWay(answer) = bench.cache.join(&bench.scope, Since::Moment(Moment::ZERO))
    else {
        panic!("it is under way");
    };
    assert!(answer.is_coming() && answer.clone().wait().now_or_never().is_none());
    load.found(None);
    assert!(matches!(answer.wait().now_or_never(), Some(Some(Ok(None)))));

    let load = bench.under_way();
    let Joined::UnderWay(answer) = bench.cache.join(&bench.scope, Since::Moment(Moment::ZERO))
    else {
        panic!("it is under way");
    };
    drop(load);
    assert!(!answer.is_coming());
    assert!(matches!(answer.wait().now_or_never(), Some(None)));
    assert!(bench.cache.loads().is_empty());
}

#[test]
fn a_load_that_has_just_ended_is_not_begun_again() {
    let bench = Bench::new();
    let sent = bench.cache.stamp();
    let ring = bench.loaded(sent, 1);
    let join = |since| match bench.cache.join(&bench.scope, since) {
        Joined::Found(ring) => id(&ring),
        _ => None,
    };
    assert_eq!(join(Since::Moment(sent.at)), id(&ring));
    // Unless it is too old for the caller, or due to be looked at again.
    assert_eq!(join(Since::Order(bench.cache.stamp().order)), None);
    bench.clock.pass(RECHECK);
    assert_eq!(join(Since::Moment(sent.at)), None);
}
