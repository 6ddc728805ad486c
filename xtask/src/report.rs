//! What `cargo xtask test` says at its end.

use std::fmt;

use crate::libtest::Counts;

/// What came of one suite.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// What the numbers don't say.
    pub(crate) remark: Option<&'static str>,
}

impl Outcome {
    /// That of a suite that doesn't compile.
    pub(crate) fn broken() -> Self {
        Self::of(Counts::default(), false, 0, false)
    }

    /// Judges a run.
    ///
    /// `succeeded` is cargo's word, `left_out` the number of tests left out for want of a service,
    /// and `narrowed` tells that the caller chose among the tests.
    pub(crate) fn of(counts: Counts, succeeded: bool, left_out: usize, narrowed: bool) -> Self {
        let mut outcome = Self {
            passed: counts.passed,
            failed: counts.failed,
            skipped: counts.ignored + counts.gave_up + left_out,
            remark: None,
        };
        if !succeeded && outcome.failed == 0 {
            outcome.failed = 1;
            outcome.remark = Some("it did not build, or did not come to its end");
        } else if outcome == Self::default() && !narrowed {
            outcome.failed = 1;
            outcome.remark = Some("no test ran");
        }
        outcome
    }
}

/// The outcomes of all suites.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) suites: Vec<(&'static str, Outcome)>,
    /// One line per suite and service that it had to do without.
    pub(crate) skipped: Vec<String>,
    /// Names of required services that could not be had.
    pub(crate) required: Vec<String>,
}

impl Report {
    /// Whether everything that had to run ran and passed. A run without any test is none.
    pub(crate) fn is_success(&self) -> bool {
        let total = self.total();
        total.failed == 0 && total.passed + total.skipped > 0 && self.required.is_empty()
    }

    fn total(&self) -> Outcome {
        let sum = |of: fn(&Outcome) -> usize| self.suites.iter().map(|(_, suite)| of(suite)).sum();
        Outcome {
            passed: sum(|suite| suite.passed),
            failed: sum(|suite| suite.failed),
            skipped: sum(|suite| suite.skipped),
            remark: None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
            remark,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")?;
        remark.map_or(Ok(()), |remark| write!(f, " ({remark})"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.suites.iter().map(|(name, _)| name.len());
        let width = names.max().unwrap_or(0);
        for (name, outcome) in &self.suites {
            writeln!(f, "{name:width$}  {outcome}")?;
        }
        for line in &self.skipped {
            writeln!(f, "skipped: {line}")?;
        }
        for name in &self.required {
            writeln!(
                f,
                "FAILED: {name} is required (KMS_TEST_REQUIRE) and could not be had"
            )?;
        }
        let total = self.total();
        if total.passed + total.failed + total.skipped == 0 {
            writeln!(f, "FAILED: no test ran")?;
        }
        write!(f, "\n{total}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Outcome, Report};

    fn passed(passed: usize) -> Counts {
        Counts {
            passed,
            ..Counts::default()
        }
    }

    #[test]
    fn a_suite_in_which_no_test_ran_is_a_failure() {
        let outcome = Outcome::of(passed(0), true, 0, false);
        assert_eq!(
            outcome.to_string(),
            "0 passed, 1 failed, 0 skipped (no test ran)"
        );
    }

    #[test]
    fn a_filter_may_leave_a_suite_empty_but_not_all_of_them() {
        let outcome = Outcome::of(passed(0), true, 0, true);
        assert_eq!(outcome, Outcome::default());
        let mut report = Report::default();
        report.suites.push(("core", outcome));
        assert!(!report.is_success());
        report
            .suites
            .push(("store", Outcome::of(passed(1), true, 0, true)));
        assert!(report.is_success());
    }

    #[test]
    fn a_suite_that_did_not_build_is_a_failure() {
        let outcome = Outcome::of(passed(3), false, 0, false);
        assert_eq!((outcome.passed, outcome.failed), (3, 1));
        assert!(outcome.remark.is_some());
    }

    #[test]
    fn tests_left_out_ignored_or_given_up_are_skipped() {
        let counts = Counts {
            passed: 1,
            failed: 0,
            ignored: 2,
            gave_up: 3,
        };
        assert_eq!(Outcome::of(counts, true, 4, false).skipped, 9);
    }

    #[test]
    fn the_last_line_is_the_total_alone() {
        let mut report = Report::default();
        report
            .suites
            .push(("core", Outcome::of(passed(5), true, 0, false)));
        report
            .suites
            .push(("store", Outcome::of(passed(2), true, 7, false)));
        report.skipped.push("postgres (store, 7 tests)".to_owned());
        let text = report.to_string();
        assert_eq!(text.lines().last(), Some("7 passed, 0 failed, 7 skipped"));
        assert!(text.contains("\nskipped: postgres (store, 7 tests)\n"));
        assert!(report.is_success());
    }

    #[test]
    fn a_required_service_that_is_missing_fails_a_run_whose_tests_all_passed() {
        let mut report = Report::default();
        report
            .suites
            .push(("store", Outcome::of(passed(2), true, 7, false)));
        report.required.push("postgres".to_owned());
        assert!(!report.is_success());
        assert!(report.to_string().contains("FAILED: postgres"));
    }
}
