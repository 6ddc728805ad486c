//! Running both programs, in turns.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Options;
use super::results::Results;
use super::rows::{Group, Row};
use crate::libpq::Libpq;
use crate::service::Service;
use crate::service::postgres::Postgres;
use crate::suite::{Suite, Tests};
use crate::test::services::Services;
use crate::workspace::Workspace;
use crate::{command, go, interop};

const OURS: &str = "kms-bench";
const POSTGRES: &str = "KMS_TEST_POSTGRES_URL";
const NEEDS: &[&dyn Service] = &[&Postgres];
/// Those of ours, in Go's words.
const PURPOSES: &str = "database,oidc,client-secrets";

/// How long and how often is measured, for both programs.
pub(super) struct Effort {
    pub(super) rounds: usize,
    /// Milliseconds for a quick case.
    pub(super) budget: u32,
    /// Measurements of work that is done a given number of times.
    repetitions: u32,
}

impl Effort {
    pub(super) fn of(options: &Options) -> Self {
        let (rounds, budget, repetitions) = match options.quick {
            true => (1, 100, 2),
            false => (options.rounds, 500, 4),
        };
        Self {
            rounds,
            budget,
            repetitions,
        }
    }

    /// As arguments of ours, which Go takes with one dash or two.
    fn arguments(&self, group: Group) -> [String; 6] {
        // Milliseconds that a measurement of a quick case takes: long enough for Go to collect the garbage of large
        // plaintexts, which else nobody would pay for; elsewhere the shorter, the less disturbed.
        let batch = if group == Group::Blobs { 50 } else { 5 };
        let each = [
            ("--budget", self.budget),
            ("--batch", batch),
            ("--repetitions", self.repetitions),
        ];
        let [one, two, three] = each.map(|(name, value)| [name.to_owned(), value.to_string()]);
        let [[a, b], [c, d], [e, f]] = [one, two, three];
        [a, b, c, d, e, f]
    }
}

/// Measures what these rows take.
pub(super) fn measure(workspace: &Workspace, options: &Options, rows: &[Row]) -> Result<Results> {
    let effort = Effort::of(options);
    let mut results = Results::default();
    let ours = our_program(workspace)?;
    let go = match go_program(workspace) {
        Ok(go) => Some(go),
        Err(error) => {
            results.missing.push(format!("Go ({error:#})"));
            None
        }
    };
    let needs = Suite {
        name: "bench",
        about: "",
        tests: Tests::Docs(&[]),
        needs: NEEDS,
    };
    let services = Services::obtain(workspace, &[&needs])?;
    for (service, why) in &services.missing {
        results.missing.push(format!("{} ({why})", service.name()));
    }
    for missing in &results.missing {
        eprintln!("MISSING: {missing}: its columns stay empty");
    }
    let needed = services.needed(&needs);
    let has_postgres = needed.value_of(POSTGRES).is_ok();
    let cases: Vec<_> = rows.iter().flat_map(Row::cases).collect();
    for group in Group::ALL {
        let mut names: Vec<_> = cases.iter().filter(|case| case.group == group).collect();
        names.dedup();
        if names.is_empty() {
            continue;
        }
        let mine = rows.iter().filter(|row| row.ours.group == group);
        let gos: BTreeSet<_> = mine.filter_map(|row| row.go).collect();
        let time = group.time();
        for round in 1..=effort.rounds {
            eprintln!(
                "bench: {}, round {round} of {}",
                group.name(),
                effort.rounds
            );
            let mut command = Command::new(&ours);
            command.arg(group.name()).args(effort.arguments(group));
            command.args(names.iter().flat_map(|case| ["--only", case.name]));
            command.envs(needed.variables());
            lines(command, |line| Results::keep(&mut results.ours, time, line))?;
            let Some(go) = go.as_ref().filter(|_| !gos.is_empty()) else {
                continue;
            };
            for dialect in dialects(group, has_postgres) {
                let mut command = Command::new(&go.program);
                command.args(["bench", "--groups", group.name(), "--dialect", dialect]);
                command
                    .args(["--purposes", PURPOSES])
                    .args(effort.arguments(group));
                let gos: Vec<_> = gos.iter().copied().collect();
                command.arg("--cases").arg(gos.join(","));
                command.envs(needed.variables());
                lines(command, |line| Results::keep(&mut results.go, time, line))?;
            }
        }
    }
    let go = go.map_or_else(|| "no Go".to_owned(), |go| go.version);
    results.circumstances = format!(
        "Measured with `cargo xtask bench` on {}, {}, with {go}; rounds: {}, of which the fastest counts.",
        machine(),
        today()?,
        effort.rounds,
    );
    Ok(results)
}

/// On which databases Go measures a group.
fn dialects(group: Group, has_postgres: bool) -> &'static [&'static str] {
    match (group, has_postgres) {
        // On none.
        (Group::Blobs, _) | (_, false) => &["sqlite"],
        (_, true) => &["postgres", "sqlite"],
    }
}

/// Runs a program that prints a measurement on each line.
pub(super) fn lines(mut command: Command, mut keep: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut kept = Ok(());
    let status = command::tee(&mut command, &mut io::sink(), |line| {
        let context = || format!("it printed `{line}`");
        if kept.is_ok() {
            kept = keep(line).with_context(context);
        }
    })?;
    let shown = command::shown(&command);
    ensure!(status.success(), "`{shown}` failed");
    kept.with_context(|| format!("`{shown}`"))
}

/// Builds ours, with the features that an application has by default and the two databases.
fn our_program(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("bench: building {OURS}");
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", OURS]);
    let features = Libpq::detect()?.features(workspace.package(OURS)?);
    if !features.is_empty() {
        build.arg("--features").arg(features.join(","));
    }
    build.args(["--message-format", "json-render-diagnostics"]);
    let mut program = None;
    let status = command::tee(&mut build, &mut io::sink(), |line| {
        program = interop::built(OURS, line).or(program.take());
    })?;
    ensure!(status.success(), "{OURS} does not compile");
    program.with_context(|| format!("cargo built no program {OURS}"))
}

struct GoProgram {
    program: PathBuf,
    version: String,
}

fn go_program(workspace: &Workspace) -> Result<GoProgram> {
    let module = workspace.package(interop::PACKAGE)?.folder.join("go");
    let say = |line: &str| eprintln!("{}: {line}", interop::GO);
    let go = go::for_module(&module, workspace, &say)?;
    say("building the program of interop/go, the first time for minutes");
    let program = interop::go_program(workspace, &go, &module)?;
    let version = go::version(&go, &module)?;
    Ok(GoProgram { program, version })
}

/// The day.
pub(super) fn today() -> Result<String> {
    let day = command::output(Command::new("date").args(["-u", "+%F"]))?;
    Ok(day.trim().to_owned())
}

/// What a reader needs to know of the machine.
pub(super) fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let information = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    described(processors, &information)
}

/// The same from Linux' `cpuinfo`, where there is one.
fn described(processors: usize, information: &str) -> String {
    let value = |name: &str| {
        let mut lines = information.lines();
        let line = lines.find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let flags: BTreeSet<_> = value("flags")
        .into_iter()
        .flat_map(str::split_whitespace)
        .collect();
    let kind = if flags.contains("hypervisor") {
        " of a virtual machine"
    } else {
        ""
    };
    let known = [("vaes", "VAES"), ("avx512f", "AVX-512")];
    let known: Vec<_> = known
        .iter()
        .filter(|(flag, _)| flags.contains(flag))
        .map(|(_, name)| *name)
        .collect();
    let model = value("model name").unwrap_or("of unknown model");
    let extensions = match known.is_empty() {
        true => String::new(),
        false => format!(" with {}", known.join(" and ")),
    };
    format!(
        "{processors} processors{kind} ({model}{extensions}; {} {})",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

#[cfg(test)]
mod tests {
    use super::described;

    #[test]
    fn the_machine_is_described_from_what_the_system_tells() {
        let information =
            "processor : 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu aes hypervisor vaes\n";
        let said = described(2, information);
        let expected = "2 processors of a virtual machine (AMD EPYC with VAES; ";
        assert!(said.starts_with(expected), "{said}");
        assert!(described(4, "").starts_with("4 processors (of unknown model; "));
    }
}
