//! The table for a terminal, and those of the README and of the page about performance.

use std::fmt;

use anyhow::{Context, Result};

use super::results::Results;
use super::rows::{Machine, Target};
use super::verdict::{Held, Judged};

/// Between these lines stands the table of a page.
pub(super) const BEGIN: &str = "<!-- written by `cargo xtask bench --readme` -->\n";
const END: &str = "<!-- end of what it writes -->\n";

const NOTHING: &str = "–";

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimesGo(least) => write!(f, "≥ {least}× Go"),
            Self::TimesFloor(most) => write!(f, "≤ {most}× floor"),
            Self::Concurrent { alone, least, .. } => write!(
                f,
                "≥ {least}× {}, or {} of what 2 threads of sums reach",
                alone.name,
                Machine::PART
            ),
            Self::AtMost(count, most) => write!(f, "≤ {most} {}", count.replace('_', " ")),
        }
    }
}

/// All figures, in columns.
pub(crate) fn table(rows: &[Judged]) -> String {
    let heads = [
        "case", "ours", "Go", "ratio", "floor", "to floor", "spread", "target", "met",
    ];
    let mut cells = vec![heads.map(str::to_owned)];
    for judged in rows {
        let [about, ours, go, ratio, floor, to_floor] = figures(judged);
        let targets = judged.targets.iter().map(|held| target(judged, held));
        let targets = targets.collect::<Vec<_>>().join(", ");
        let met = met(judged).to_owned();
        let spread = spreads(judged);
        cells.push([
            about, ours, go, ratio, floor, to_floor, spread, targets, met,
        ]);
    }
    let width = |column: usize| {
        let widths = cells
            .iter()
            .map(|row: &[String; 9]| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    let line = |row: &[String; 9]| {
        let cell = |(column, text): (usize, &String)| {
            let width = widths[column];
            match column {
                0 | 7 | 8 => format!("{text:<width$}"),
                _ => format!("{text:>width$}"),
            }
        };
        let line: Vec<_> = row.iter().enumerate().map(cell).collect();
        line.join("  ").trim_end().to_owned() + "\n"
    };
    cells.iter().map(line).collect()
}

/// The rows of common interest, as Markdown.
pub(crate) fn short_markdown(rows: &[Judged], results: &Results) -> String {
    let head = "| | kms-kit | Go kms | times as fast | floor | times the floor |\n\
                |---|---:|---:|---:|---:|---:|\n";
    let shown = rows.iter().filter(|judged| judged.row.is_in_readme);
    let lines: String = shown.map(|judged| line(&figures(judged))).collect();
    format!("{head}{lines}\n{}\n", results.circumstances)
}

/// All rows with their targets, as Markdown.
pub(crate) fn whole_markdown(rows: &[Judged], results: &Results) -> String {
    let head = "| | kms-kit | Go kms | times as fast | floor | times the floor | spread | target | met |\n\
                |---|---:|---:|---:|---:|---:|---:|---|---|\n";
    let whole = |judged: &Judged| {
        let targets = judged.targets.iter().map(|held| target(judged, held));
        let more = [
            spreads(judged),
            targets.collect::<Vec<_>>().join(", "),
            met(judged).to_owned(),
        ];
        line(&[figures(judged).as_slice(), &more].concat())
    };
    let lines: String = rows.iter().map(whole).collect();
    format!("{head}{lines}\n{}\n", results.circumstances)
}

pub(super) fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// The first columns of every table.
fn figures(judged: &Judged) -> [String; 6] {
    [
        judged.row.about.to_owned(),
        or_nothing(judged.ours, time),
        or_nothing(judged.go, time),
        or_nothing(judged.times_go(), ratio),
        or_nothing(judged.floor, time),
        or_nothing(judged.times_floor(), ratio),
    ]
}

/// Ours and Go's.
fn spreads(judged: &Judged) -> String {
    let both = [judged.spread, judged.go_spread];
    both.map(|spread| or_nothing(spread, percent)).join(", ")
}

/// A page with this table instead of the one it has after the line `begin`.
pub(crate) fn on_page(begin: &str, page: &str, table: &str) -> Result<String> {
    let parts = page.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.context("the page has no place for the table")?;
    Ok(format!("{before}{begin}\n{table}\n{END}{after}"))
}

pub(super) fn or_nothing(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), show)
}

/// The target, and what there is instead where it is missed.
fn target(judged: &Judged, held: &Held) -> String {
    match (held.is_met(), held.actual) {
        (Some(false), Some(actual)) => {
            let limit = judged.limit_of(held);
            format!("{} (is {}{limit})", held.in_words(), ratio(actual))
        }
        _ => held.in_words(),
    }
}

fn met(judged: &Judged) -> &'static str {
    match judged.is_met() {
        _ if judged.targets.is_empty() => "",
        Some(true) => "yes",
        Some(false) => "NO",
        None => "?",
    }
}

/// Three digits.
pub(super) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns => (ns / 1e6, "ms"),
    };
    format!("{} {unit}", three_digits(value))
}

pub(super) fn ratio(value: f64) -> String {
    three_digits(value)
}

fn three_digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

pub(super) fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::results::{Results, Samples};
    use super::super::rows;
    use super::{BEGIN, END, on_page, short_markdown, table, time, whole_markdown};

    fn judged() -> (Results, Vec<super::Judged>) {
        let samples = |ns: f64| Samples {
            rounds: vec![ns],
            ..Samples::default()
        };
        let mut results = Results {
            circumstances: "Two processors, today.".to_owned(),
            ..Results::default()
        };
        results.ours.insert("row_1024".to_owned(), samples(400.0));
        let floor = "floor_encrypt_ring_1024".to_owned();
        results.ours.insert(floor, samples(250.0));
        results
            .go
            .insert("row_1024_postgres".to_owned(), samples(48_000.0));
        let rows = rows::ALL.iter().map(|row| row.judge(&results)).collect();
        (results, rows)
    }

    #[test]
    fn the_table_has_a_line_for_each_row_and_dashes_for_what_was_not_measured() {
        let table = table(&judged().1);
        assert_eq!(table.lines().count(), rows::ALL.len() + 1);
        let line = |part: &str| table.lines().find(|line| line.contains(part)).unwrap();
        let row = line("row of 1 KiB");
        for part in [
            "400 ns",
            "48.0 µs",
            "  120  ",
            "≤ 1.3× floor (is 1.60)",
            "NO",
        ] {
            assert!(row.contains(part), "{row}");
        }
        let cold = line("wrapper, cold");
        assert!(cold.contains('–') && cold.ends_with('?'), "{cold}");
    }

    #[test]
    fn times_have_three_digits_and_the_unit_that_suits_them() {
        assert_eq!(time(84.23), "84.2 ns");
        assert_eq!(time(2180.0), "2.18 µs");
        assert_eq!(time(138_000.0), "138 µs");
        assert_eq!(time(6_900_000.0), "6.90 ms");
    }

    #[test]
    fn pages_show_their_rows_and_where_they_were_measured() {
        let (results, rows) = judged();
        let text = short_markdown(&rows, &results);
        assert!(text.contains("| 400 ns | 48.0 µs | 120 |"), "{text}");
        assert!(text.contains("Two processors, today."), "{text}");
        assert!(!text.contains("aes-gcm"), "{text}");
        let whole = whole_markdown(&rows, &results);
        assert!(whole.contains("aes-gcm"), "{whole}");
        assert!(whole.contains("| ≤ 1.3× floor (is 1.60) | NO |"), "{whole}");
        assert_eq!(whole.lines().count(), rows.len() + 4);
    }

    #[test]
    fn the_table_takes_the_place_of_the_one_before_it() {
        let readme = format!("# Title\n{BEGIN}\nold\n\n{END}The rest.\n");
        let written = on_page(BEGIN, &readme, "new\n").unwrap();
        assert_eq!(
            written,
            format!("# Title\n{BEGIN}\nnew\n\n{END}The rest.\n")
        );
        assert_eq!(on_page(BEGIN, &written, "new\n").unwrap(), written);
        assert!(on_page(BEGIN, "# Title\n", "new\n").is_err());
    }
}
