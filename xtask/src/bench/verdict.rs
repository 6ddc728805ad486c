//! Rows held against what was measured.

use serde_json::{Value, json};

use super::results::{Results, Samples};
use super::rows::{Machine, Row, Target};

/// A row with its figures.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) row: Row,
    /// Nanoseconds.
    pub(crate) ours: Option<f64>,
    pub(crate) go: Option<f64>,
    pub(crate) floor: Option<f64>,
    /// By what part the slowest round took longer than the fastest.
    pub(crate) spread: Option<f64>,
    pub(crate) go_spread: Option<f64>,
    /// Each target with what there is instead.
    pub(crate) targets: Vec<Held>,
}

/// A target and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) target: Target,
    /// What the target asks in this run: the number in it, or less where the machine gives less. Nothing if what that
    /// depends on was not measured.
    pub(crate) asked: Option<f64>,
    /// In the unit of the target; nothing if it was not measured.
    pub(crate) actual: Option<f64>,
}

impl Row {
    pub(crate) fn judge(&self, results: &Results) -> Judged {
        let samples = results.ours.get(self.ours.name);
        let best = |case: &str| results.ours.get(case)?.best();
        let go = self.go.and_then(|case| results.go.get(case));
        let mut judged = Judged {
            row: *self,
            ours: best(self.ours.name),
            go: go.and_then(Samples::best),
            floor: self.floor.and_then(|case| best(case.name)),
            spread: samples.and_then(Samples::spread),
            go_spread: go.and_then(Samples::spread),
            targets: Vec::new(),
        };
        let actual = |target: &Target| match target {
            Target::TimesGo(_) => judged.times_go(),
            Target::TimesFloor(_) => judged.times_floor(),
            Target::Concurrent { alone, .. } => Some(best(alone.name)? / judged.ours?),
            Target::AtMost(count, _) => samples?.counts.get(*count).copied(),
        };
        let asked = |target: &Target| match target {
            Target::TimesGo(number) | Target::TimesFloor(number) | Target::AtMost(_, number) => {
                Some(*number)
            }
            Target::Concurrent { least, machine, .. } => {
                let one_thread = best(machine.one_thread.name)?;
                let reached = one_thread / best(machine.two_threads.name)?;
                Some(Machine::asked(*least, reached))
            }
        };
        let held = |target: &Target| Held {
            target: *target,
            asked: asked(target),
            actual: actual(target),
        };
        judged.targets = self.targets.iter().map(held).collect();
        judged
    }
}

impl Judged {
    /// How many times as fast as Go.
    pub(crate) fn times_go(&self) -> Option<f64> {
        Some(self.go? / self.ours?)
    }

    /// How many times the floor.
    pub(crate) fn times_floor(&self) -> Option<f64> {
        Some(self.ours? / self.floor?)
    }

    /// How many times as fast as Go the floor is: what no code above it can pass.
    pub(crate) fn limit(&self) -> Option<f64> {
        Some(self.go? / self.floor?)
    }

    /// Whether all targets are met; nothing if one of them can't be told and none is missed.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let verdicts = || self.targets.iter().map(Held::is_met);
        if verdicts().any(|met| met == Some(false)) {
            return Some(false);
        }
        verdicts().all(|met| met == Some(true)).then_some(true)
    }

    /// The limit in words, where a target is held against Go and there is one.
    pub(crate) fn limit_of(&self, held: &Held) -> String {
        match (held.target, self.limit()) {
            (Target::TimesGo(_), Some(limit)) => format!(", the floor {limit:.2}"),
            _ => String::new(),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let held = |held: &Held| {
            json!({
                "target": held.target.to_string(), "asked": held.asked, "is": held.actual, "met": held.is_met(),
            })
        };
        json!({
            "row": self.row.about,
            "case": self.row.ours.name,
            "ours_ns": self.ours,
            "ours_spread": self.spread,
            "go_ns": self.go,
            "go_spread": self.go_spread,
            "times_go": self.times_go(),
            "floor_ns": self.floor,
            "times_floor": self.times_floor(),
            "floor_times_go": self.limit(),
            "targets": self.targets.iter().map(held).collect::<Vec<_>>(),
        })
    }
}

impl Held {
    /// Whether it is met; nothing if that was not measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let (actual, asked) = self.actual.zip(self.asked)?;
        Some(match self.target {
            Target::TimesGo(_) | Target::Concurrent { .. } => actual >= asked,
            Target::TimesFloor(_) | Target::AtMost(..) => actual <= asked,
        })
    }

    /// The target in words, with the number that stands in for its own where the machine gives less.
    pub(crate) fn in_words(&self) -> String {
        match (self.target, self.asked) {
            (Target::Concurrent { least, .. }, Some(asked)) if asked < least => {
                format!("{} (here {asked:.2})", self.target)
            }
            _ => self.target.to_string(),
        }
    }
}

/// What of these rows is missed or can't be told, a line each.
pub(crate) fn failures(rows: &[Judged]) -> Vec<String> {
    let mut failures = Vec::new();
    for judged in rows {
        for held in &judged.targets {
            let is = match (held.is_met(), held.actual) {
                (Some(true), _) => continue,
                (_, Some(actual)) => format!("it is {actual:.3}{}", judged.limit_of(held)),
                (_, None) => "it was not measured".to_owned(),
            };
            let case = judged.row.ours.name;
            failures.push(format!("{case}: {}, but {is}", held.in_words()));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::super::results::{Results, Samples};
    use super::super::rows::{self, Row, Target};
    use super::failures;

    const ROW: &str = "encrypt_ring_1024";

    /// 8 times Go, 1.3 times the floor and 1 allocation are asked for.
    fn row() -> Row {
        let row = rows::ALL.iter().find(|row| row.ours.name == ROW);
        Row {
            targets: &[
                Target::TimesGo(8.0),
                Target::TimesFloor(1.3),
                Target::AtMost("allocations", 1.0),
            ],
            ..*row.unwrap()
        }
    }

    fn results(ours: f64, go: Option<f64>, floor: f64, allocations: Option<f64>) -> Results {
        let samples = |ns: f64| Samples {
            rounds: vec![ns * 2.0, ns],
            ..Samples::default()
        };
        let mut results = Results::default();
        let mut mine = samples(ours);
        let count = allocations.map(|count| ("allocations".to_owned(), count));
        mine.counts.extend(count);
        results.ours.insert(ROW.to_owned(), mine);
        let floor_case = row().floor.unwrap().name.to_owned();
        results.ours.insert(floor_case, samples(floor));
        let go_case = row().go.unwrap().to_owned();
        results.go.extend(go.map(|ns| (go_case, samples(ns))));
        results
    }

    #[test]
    fn ratios_are_those_of_the_fastest_rounds() {
        let judged = row().judge(&results(200.0, Some(2000.0), 160.0, Some(1.0)));
        assert_eq!(judged.times_go(), Some(10.0));
        assert_eq!(judged.times_floor(), Some(1.25));
        assert_eq!((judged.spread, judged.go_spread), (Some(1.0), Some(1.0)));
        assert_eq!(judged.is_met(), Some(true));
        assert!(failures(&[judged]).is_empty());
    }

    #[test]
    fn a_target_is_met_when_it_is_just_reached() {
        let judged = row().judge(&results(130.0, Some(1040.0), 100.0, Some(1.0)));
        assert_eq!(judged.is_met(), Some(true));
    }

    #[test]
    fn each_fall_under_a_target_fails_the_check_by_name() {
        let fails = |results: &Results| {
            let judged = row().judge(results);
            assert_eq!(judged.is_met(), Some(false));
            failures(&[judged]).join("\n")
        };
        let slower = fails(&results(200.0, Some(1590.0), 160.0, Some(1.0)));
        assert_eq!(
            slower,
            "encrypt_ring_1024: ≥ 8× Go, but it is 7.950, the floor 9.94"
        );
        let above = fails(&results(200.0, Some(2000.0), 150.0, Some(1.0)));
        assert_eq!(above, "encrypt_ring_1024: ≤ 1.3× floor, but it is 1.333");
        let more = fails(&results(200.0, Some(2000.0), 160.0, Some(2.0)));
        assert_eq!(more, "encrypt_ring_1024: ≤ 1 allocations, but it is 2.000");
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed_and_fails_the_check() {
        let judged = row().judge(&results(200.0, None, 160.0, Some(1.0)));
        assert_eq!((judged.times_go(), judged.is_met()), (None, None));
        let said = failures(&[judged]);
        assert_eq!(
            said,
            ["encrypt_ring_1024: ≥ 8× Go, but it was not measured"]
        );
        let judged = row().judge(&results(200.0, Some(2000.0), 160.0, None));
        assert_eq!(judged.is_met(), None);
        // A target that is missed all the same is not hidden by it.
        let judged = row().judge(&results(200.0, None, 100.0, Some(1.0)));
        assert_eq!(judged.is_met(), Some(false));
        let nothing = row().judge(&Results::default());
        assert_eq!(failures(&[nothing]).len(), row().targets.len());
    }

    #[test]
    fn several_callers_are_held_against_one_and_against_what_the_machine_gives() {
        let mut rows = rows::ALL.iter();
        let row = rows.find(|row| row.about.contains("8 callers")).unwrap();
        let [
            Target::Concurrent {
                alone,
                least,
                machine,
            },
        ] = row.targets
        else {
            panic!("it has this target alone");
        };
        // Of how many times one caller they reach, where two threads reach so many times one.
        let judged = |times: f64, reached: Option<f64>| {
            let samples = |ns: f64| Samples {
                rounds: vec![ns],
                ..Samples::default()
            };
            let mut results = Results::default();
            let mut keep = |case: &str, ns| results.ours.insert(case.to_owned(), samples(ns));
            keep(row.ours.name, 100.0 / times);
            keep(alone.name, 100.0);
            keep(machine.one_thread.name, 100.0);
            if let Some(reached) = reached {
                keep(machine.two_threads.name, 100.0 / reached);
            }
            row.judge(&results)
        };
        assert_eq!(*least, 1.6);
        assert_eq!(judged(1.6, Some(2.0)).is_met(), Some(true));
        assert_eq!(judged(1.59, Some(2.0)).is_met(), Some(false));
        // 0.85 of 1.6 is 1.36.
        assert_eq!(judged(1.4, Some(1.6)).is_met(), Some(true));
        let missed = judged(1.3, Some(1.6));
        assert_eq!(missed.is_met(), Some(false));
        let said = failures(&[missed]).join("");
        assert!(said.ends_with("(here 1.36), but it is 1.300"), "{said}");
        assert_eq!(judged(1.7, None).is_met(), None);
    }
}
