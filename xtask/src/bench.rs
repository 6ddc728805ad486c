//! `cargo xtask bench`: our benches and Go's, in alternation, as one table.
//!
//! Builds the program of `bench/` as applications are built and the Go program of `interop/go`, gets Postgres, and
//! lets one and then the other measure a group of cases, several times over. Of the rounds the fastest counts: what
//! else runs on the machine only ever makes one slower.
//!
//! Both do the same work on the same Postgres server and in the same folder for temporary files: 200 scopes with
//! three purposes, four connections, a local root key, SQLite with `journal_mode = wal` and `synchronous = full`.

mod measuring;
mod peers;
mod results;
mod rows;
mod show;
mod verdict;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::workspace::Workspace;
use results::Results;
use verdict::Judged;

/// What `cargo xtask bench` takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Only rows with one of these in their name or in that of their case
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Fail if a target is missed, or can't be told
    #[arg(long)]
    check: bool,
    /// One short round: rough figures
    #[arg(long)]
    quick: bool,
    /// How often each program measures
    #[arg(long, default_value_t = 3, conflicts_with = "quick")]
    rounds: usize,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take the figures from this file, which `--json` wrote, instead of measuring
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write the table to docs/performance.md, and the rows of common interest to the README
    #[arg(long)]
    readme: bool,
    /// Measure beside what a user would pick instead of kms-kit, and nothing else; builds for many minutes
    #[arg(long, conflicts_with = "check")]
    peers: bool,
}

/// Measures and prints the table. `false` if something was to be checked and failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if options.peers {
        peers::run(workspace, options)?;
        return Ok(true);
    }
    let chosen = rows::ALL
        .iter()
        .filter(|row| row.is_chosen(&options.filters));
    let chosen: Vec<_> = chosen.copied().collect();
    ensure!(!chosen.is_empty(), "no row is named so");
    let results = match &options.from {
        Some(file) => read(file)?,
        None => measuring::measure(workspace, options, &chosen)?,
    };
    let judged: Vec<_> = chosen.iter().map(|row| row.judge(&results)).collect();
    print!("{}", show::table(&judged));
    println!("{}", results.circumstances);
    for missing in &results.missing {
        eprintln!("MISSING: {missing}");
    }
    if let Some(file) = &options.json {
        write(file, &results, &judged)?;
    }
    if options.readme {
        ensure!(
            results.missing.is_empty() && options.filters.is_empty(),
            "pages show whole tables only"
        );
        let pages = [
            ("README.md", show::short_markdown(&judged, &results)),
            (
                "docs/performance.md",
                show::whole_markdown(&judged, &results),
            ),
        ];
        for (page, table) in pages {
            let file = workspace.root.join(page);
            let text = std::fs::read_to_string(&file)?;
            std::fs::write(
                &file,
                show::on_page(show::BEGIN, &text, &table).context(page)?,
            )?;
        }
    }
    if !options.check {
        return Ok(true);
    }
    if !results.missing.is_empty() {
        bail!("nothing to hold it against: {}", results.missing.join("; "));
    }
    let failures = verdict::failures(&judged);
    for failure in &failures {
        eprintln!("FAILED: {failure}");
    }
    Ok(failures.is_empty())
}

fn read(file: &Path) -> Result<Results> {
    let named = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(named)?;
    let value: Value = serde_json::from_str(&text).with_context(named)?;
    Results::from_json(&value).with_context(named)
}

fn write(file: &Path, results: &Results, judged: &[Judged]) -> Result<()> {
    let mut value = results.to_json();
    value["rows"] = judged.iter().map(Judged::to_json).collect();
    std::fs::write(file, format!("{value:#}\n")).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::results::{Results, Samples};
    use super::{Options, rows, run, verdict};
    use crate::workspace::Workspace;

    const ROW: &str = "list_keys_sqlite";

    /// What `cargo xtask bench --check --from` makes of these times for a row that has to be 3 times as fast as Go.
    fn checked(ours: f64, go: Option<f64>, missing: &[&str]) -> anyhow::Result<bool> {
        let samples = |case: &str, ns: f64| {
            let rounds = vec![ns];
            let counts = BTreeMap::new();
            BTreeMap::from([(case.to_owned(), Samples { rounds, counts })])
        };
        let results = Results {
            ours: samples(ROW, ours),
            go: go.map(|ns| samples(ROW, ns)).unwrap_or_default(),
            missing: missing.iter().map(|&missing| missing.to_owned()).collect(),
            ..Results::default()
        };
        let file = tempfile::NamedTempFile::new()?;
        super::write(file.path(), &results, &[])?;
        let options = Options {
            filters: vec![ROW.to_owned()],
            check: true,
            quick: false,
            rounds: 1,
            json: None,
            from: Some(file.path().to_owned()),
            readme: false,
            peers: false,
        };
        run(&Workspace::default(), &options)
    }

    #[test]
    fn the_check_passes_at_the_target_and_fails_under_it() {
        assert!(checked(100.0, Some(300.0), &[]).unwrap());
        assert!(!checked(100.0, Some(299.0), &[]).unwrap());
        assert!(!checked(100.0, None, &[]).unwrap());
    }

    #[test]
    fn without_go_the_check_is_an_error_that_says_so() {
        let error = checked(100.0, None, &["Go (not on this machine)"]).unwrap_err();
        assert!(
            error.to_string().contains("Go (not on this machine)"),
            "{error}"
        );
    }

    #[test]
    fn the_file_that_is_written_holds_each_row_with_its_verdict() {
        let row = rows::ALL.iter().find(|row| row.ours.name == ROW).unwrap();
        let judged = row.judge(&Results::default());
        assert_eq!(verdict::failures(std::slice::from_ref(&judged)).len(), 1);
        let file = tempfile::NamedTempFile::new().unwrap();
        super::write(file.path(), &Results::default(), &[judged]).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["rows"][0]["case"], ROW);
        assert_eq!(value["rows"][0]["targets"][0]["target"], "≥ 3× Go");
        assert!(value["rows"][0]["targets"][0]["met"].is_null());
    }
}
