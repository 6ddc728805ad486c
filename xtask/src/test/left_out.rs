//! Which tests are left out for want of a service, and how the test harness is told.

use std::collections::BTreeSet;

use crate::libtest;

/// Tests that are left out.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    paths: BTreeSet<String>,
    /// Whether the harness can be told to take paths for whole ones.
    exact: bool,
    count: usize,
}

impl LeftOut {
    /// Those of `listed` that need one of the services `missing`. `exact` unless the tests get
    /// arguments from the caller: these would be taken for whole paths as well.
    pub(super) fn of(listed: &[String], missing: &[&str], exact: bool) -> Self {
        let needs_one = |path: &&String| {
            let mut missing = missing.iter();
            missing.any(|service| libtest::needs(path, service))
        };
        let paths: BTreeSet<String> = listed.iter().filter(needs_one).cloned().collect();
        let mut left_out = Self {
            paths,
            exact,
            count: 0,
        };
        left_out.count = listed.iter().filter(|path| left_out.has(path)).count();
        left_out
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The arguments for the harness.
    ///
    /// Whole paths, also where they are not taken for exact: a service's name alone would leave out
    /// `aws_lc_rs` with `aws`.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &str> {
        let exact = (self.exact && !self.paths.is_empty()).then_some("--exact");
        let skips = self.paths.iter().flat_map(|path| ["--skip", path]);
        exact.into_iter().chain(skips)
    }

    fn has(&self, listed: &str) -> bool {
        let mut paths = self.paths.iter();
        if self.exact {
            self.paths.contains(listed)
        } else {
            paths.any(|path| listed.contains(path.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LeftOut;

    const LISTED: [&str; 5] = [
        "seals_on_aws",
        "seals_on_aws_lc_rs",
        "on_vault::seals",
        "vaults",
        "draws",
    ];

    fn left_out(missing: &[&str], exact: bool) -> LeftOut {
        LeftOut::of(&LISTED.map(str::to_owned), missing, exact)
    }

    #[test]
    fn only_tests_that_need_a_missing_service_are_left_out() {
        let aws = left_out(&["aws"], true);
        let arguments: Vec<_> = aws.arguments().collect();
        assert_eq!(arguments, ["--exact", "--skip", "seals_on_aws"]);
        assert_eq!(aws.count(), 1);
        assert_eq!(left_out(&["aws", "vault"], true).count(), 2);
    }

    #[test]
    fn with_arguments_of_the_caller_what_is_left_out_by_chance_is_counted_too() {
        let aws = left_out(&["aws"], false);
        let arguments: Vec<_> = aws.arguments().collect();
        assert_eq!(arguments, ["--skip", "seals_on_aws"]);
        assert_eq!(aws.count(), 2);
    }

    #[test]
    fn nothing_missing_leaves_the_arguments_alone() {
        let none = left_out(&[], true);
        assert_eq!((none.arguments().count(), none.count()), (0, 0));
    }
}
