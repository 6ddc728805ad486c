//! What was tried, and what came of it.

use std::fmt;
use std::time::Instant;

use anyhow::Result;

use crate::database::Dialect;

/// Direction × database × operation.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    direction: String,
    database: Dialect,
    operation: String,
    failure: Option<String>,
}

impl Table {
    /// Takes down what came of an operation, and says so at once if it failed.
    pub(crate) fn enter(
        &mut self,
        direction: &str,
        database: Dialect,
        operation: impl Into<String>,
        outcome: Result<()>,
    ) {
        let operation = operation.into();
        let failure = outcome.err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            eprintln!("FAILED {direction}, {database}, {operation}: {failure}");
        }
        self.rows.push(Row {
            direction: direction.to_owned(),
            database,
            operation,
            failure,
        });
    }

    /// Runs an operation and enters it, with the time it took on standard error.
    pub(crate) async fn check(
        &mut self,
        direction: &str,
        database: Dialect,
        operation: &str,
        work: impl Future<Output = Result<()>>,
    ) {
        let start = Instant::now();
        let outcome = work.await;
        eprintln!(
            "{direction}, {database}, {operation}: {} ms",
            start.elapsed().as_millis()
        );
        self.enter(direction, database, operation, outcome);
    }

    pub(crate) fn is_success(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.failure.is_none())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Row) -> usize, head: &str| {
            let rows = self.rows.iter().map(of);
            rows.max().unwrap_or(0).max(head.len())
        };
        let direction = width(|row| row.direction.chars().count(), "direction");
        let operation = width(|row| row.operation.chars().count(), "operation");
        writeln!(
            f,
            "{:direction$} | database | {:operation$} | outcome",
            "direction", "operation"
        )?;
        for row in &self.rows {
            let verdict = match &row.failure {
                None => "passed".to_owned(),
                Some(failure) => format!("FAILED {}", failure.replace('\n', " ")),
            };
            writeln!(
                f,
                "{:direction$} | {:8} | {:operation$} | {verdict}",
                row.direction,
                row.database.to_string(),
                row.operation,
            )?;
        }
        let failed = self.rows.iter().filter(|row| row.failure.is_some()).count();
        write!(f, "\n{} passed, {failed} failed", self.rows.len() - failed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Table};

    #[test]
    fn the_last_line_counts_and_a_failure_is_no_success() {
        let mut table = Table::default();
        assert!(!table.is_success(), "nothing was tried");
        table.enter("Go → Rust", Dialect::Sqlite, "rotate", Ok(()));
        assert!(table.is_success());
        assert!(table.to_string().ends_with("\n1 passed, 0 failed"));
        let failure = Err(anyhow::anyhow!("no\nand no").context("rewrap"));
        table.enter("Rust → Go", Dialect::Postgres, "rewrap", failure);
        assert!(!table.is_success());
        let printed = table.to_string();
        assert!(printed.contains("FAILED rewrap: no and no\n"), "{printed}");
        assert!(printed.ends_with("\n1 passed, 1 failed"), "{printed}");
        let columns = |line: &str| {
            line.match_indices(" | ")
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        let lines: Vec<_> = printed
            .lines()
            .take(2)
            .map(|line| columns(&line.replace('→', ">")))
            .collect();
        assert_eq!(lines[0], lines[1], "{printed}");
    }
}
