//! Counting what ran, from what the test harness prints.
//!
//! Cargo runs one harness per test program and one per package's doc tests; each ends with
//! `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s`.

/// What the harnesses of one `cargo test` counted, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
    /// Tests that returned early after printing a line that begins with `skipped: `. The harness
    /// takes them for passed; here they are not.
    pub(crate) gave_up: usize,
}

/// Reads the output of `cargo test` line by line.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    counts: Counts,
    gave_up: usize,
    /// In the part of the output of `--show-output` that belongs to tests that passed.
    in_successes: bool,
    /// The test whose output is being read has said so already.
    counted: bool,
}

impl Reader {
    /// Takes the next line.
    pub(crate) fn line(&mut self, line: &str) {
        let line = without_colors(line);
        let line = line.trim_end();
        if let Some(result) = line.strip_prefix("test result: ") {
            self.result(result);
        } else if line == "successes:" {
            self.in_successes = true;
        } else if line == "failures:" {
            self.in_successes = false;
        } else if line.starts_with("---- ") {
            self.counted = false;
        } else if self.in_successes && !self.counted && line.starts_with("skipped: ") {
            self.counted = true;
            self.gave_up += 1;
        }
    }

    /// What has been counted.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn result(&mut self, result: &str) {
        let Some((_, numbers)) = result.split_once(". ") else {
            return;
        };
        let number = |of: &str| {
            numbers
                .split("; ")
                .find_map(|part| part.strip_suffix(of)?.trim().parse::<usize>().ok())
                .unwrap_or(0)
        };
        let passed = number("passed");
        let gave_up = self.gave_up.min(passed);
        self.counts.passed += passed - gave_up;
        self.counts.failed += number("failed");
        self.counts.ignored += number("ignored");
        self.counts.gave_up += gave_up;
        (self.gave_up, self.in_successes, self.counted) = (0, false, false);
    }
}

/// The paths of the tests in the output of `--list`.
pub(crate) fn listed(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.strip_suffix(": test"))
}

/// Whether a test says by its path that it needs a service: it has the service's name as a word.
pub(crate) fn needs(path: &str, service: &str) -> bool {
    // The name of a crate, which has nothing to do with the service `aws`.
    let path = path.replace("aws_lc", "");
    path.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word == service)
}

/// The line without the escape sequences that color it.
fn without_colors(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::{Counts, Reader, listed, needs};

    fn read(output: &str) -> Counts {
        let mut reader = Reader::default();
        output.lines().for_each(|line| reader.line(line));
        reader.counts()
    }

    #[test]
    fn the_results_of_all_programs_are_added_up() {
        let output = "\
running 3 tests
test a ... ok
test b ... FAILED
test c ... ignored

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s

running 2 tests
..
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let expected = Counts {
            passed: 3,
            failed: 1,
            ignored: 1,
            gave_up: 0,
        };
        assert_eq!(read(output), expected);
    }

    #[test]
    fn colors_do_not_hide_a_result() {
        let counts =
            read("test result: \x1b[32mok\x1b[m. 7 passed; 0 failed; 0 ignored; 0 measured");
        assert_eq!(counts.passed, 7);
    }

    #[test]
    fn only_the_closing_line_counts() {
        let output = "\
test the_test_result_is_printed ... ok
  test result: ok. 9 passed; 0 failed; 0 ignored
the test result: ok. 9 passed; 0 failed; 0 ignored
";
        assert_eq!(read(output), Counts::default());
    }

    #[test]
    fn a_test_that_says_it_was_skipped_has_not_passed() {
        let output = "\
successes:

---- on_postgres::up stdout ----
skipped: postgres (KMS_TEST_POSTGRES_URL is not set)
skipped: postgres (once more)

---- on_sqlite::up stdout ----
not skipped: sqlite

successes:
    on_postgres::up
    on_sqlite::up

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let expected = Counts {
            passed: 2,
            gave_up: 1,
            ..Counts::default()
        };
        assert_eq!(read(output), expected);
    }

    #[test]
    fn a_failed_test_that_says_it_was_skipped_has_failed() {
        let output = "\
failures:

---- up stdout ----
skipped: postgres (but it is required)

failures:
    up

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let expected = Counts {
            passed: 1,
            failed: 1,
            ..Counts::default()
        };
        assert_eq!(read(output), expected);
    }

    #[test]
    fn tests_are_listed_without_benchmarks_and_totals() {
        let list = "\
postgres::rotates: test
src/lib.rs - postgres (line 3): test
postgres::speed: benchmark

2 tests, 1 benchmark
";
        let listed: Vec<_> = listed(list).collect();
        assert_eq!(
            listed,
            ["postgres::rotates", "src/lib.rs - postgres (line 3)"]
        );
    }

    #[test]
    fn a_test_needs_the_services_whose_names_are_words_of_its_path() {
        assert!(needs("postgres::rotates", "postgres"));
        assert!(needs("a_rotation_waits_on_postgres", "postgres"));
        assert!(!needs("sqlite::rotates", "postgres"));
        assert!(needs("faults::aws::a_disabled_key", "aws"));
        assert!(!needs("draws::keys", "aws"));
        assert!(!needs("aws_lc_rs::seals", "aws"));
        assert!(!needs("providers::with_aws_lc_rs", "aws"));
        assert!(needs("aws_lc_rs_seals_for_aws", "aws"));
    }
}
