//! Counting the checks of a suite that is a script.

use crate::libtest::Counts;

/// Reads what the script prints, line by line: `ok NAME` or `FAILED NAME: WHY` per check, and at the
/// end `N passed, N failed`.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    counts: Counts,
    last: String,
}

impl Reader {
    /// Takes the next line.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if line.starts_with("ok ") {
            self.counts.passed += 1;
        } else if line.starts_with("FAILED ") {
            self.counts.failed += 1;
        }
        if !line.is_empty() {
            line.clone_into(&mut self.last);
        }
    }

    /// What has been counted.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the script came to its end, and counted the same.
    pub(crate) fn is_whole(&self) -> bool {
        let Counts { passed, failed, .. } = self.counts;
        self.last == format!("{passed} passed, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;

    fn read(output: &str) -> Reader {
        let mut reader = Reader::default();
        output.lines().for_each(|line| reader.line(line));
        reader
    }

    #[test]
    fn checks_are_counted_and_held_against_the_last_line() {
        let reader = read("a word\nok one\nok two\nFAILED three: why\n2 passed, 1 failed\n\n");
        assert_eq!((reader.counts().passed, reader.counts().failed), (2, 1));
        assert!(reader.is_whole());
    }

    #[test]
    fn a_script_that_did_not_come_to_its_end_is_not_whole() {
        assert!(!read("ok one\n").is_whole());
        assert!(!read("ok one\n2 passed, 0 failed\n").is_whole());
        assert!(!read("").is_whole());
    }
}
