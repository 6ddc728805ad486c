//! `cargo xtask ci`: what `.ci/run` runs, and what a person runs before a commit.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::ahead::Ahead;
use crate::libpq::Libpq;
use crate::workspace::Workspace;
use crate::{apt, command, features, interop, service, test};

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Step {
    /// See that rustfmt, clippy and libpq are there; install them where that can be done
    Tools,
    /// `cargo fmt --check`
    Format,
    /// Clippy over everything; a warning is an error
    Clippy,
    /// The documentation builds; a warning is an error
    Docs,
    /// What `cargo xtask features` does
    Features,
    /// What `cargo xtask interop` does
    Interop,
    /// What `cargo xtask test` does
    Test,
}

/// Runs steps, or all. Goes on to the next one after a failure; `false` if there was any.
pub(crate) fn run(workspace: &Workspace, steps: &[Step]) -> Result<bool> {
    let mut steps = match steps {
        [] => Step::value_variants().to_vec(),
        some => some.to_vec(),
    };
    steps.sort_unstable();
    steps.dedup();
    let mut succeeded = true;
    let mut summary = Vec::new();
    let mut ahead = None;
    for step in &steps {
        let step = *step;
        let name = step.to_possible_value().context("no step is hidden")?;
        let name = name.get_name();
        println!("\n=== {name}");
        // After the first step, which installs; alone, the tests get what they need themselves.
        let on_services = steps.iter().any(|step| *step >= Step::Interop);
        if step > Step::Tools && step < Step::Interop && on_services {
            ahead.get_or_insert_with(|| Ahead::start(workspace, service::ALL));
        }
        if step >= Step::Interop {
            print_all(&ahead.take().map(Ahead::finish).unwrap_or_default());
        }
        // The last line of the tests stays the last line.
        if step == Step::Test {
            print_all(&summary);
        }
        let start = Instant::now();
        let passed = step.run(workspace)?;
        succeeded &= passed;
        let verdict = if passed { "ok" } else { "FAILED" };
        summary.push(format!(
            "{name:<9} {verdict}, {} s",
            start.elapsed().as_secs()
        ));
        if step == Step::Test {
            // Of a long log often only the end is kept: it has to say what else went wrong.
            if !succeeded {
                println!();
                print_all(&summary);
            }
            return Ok(succeeded);
        }
    }
    println!();
    print_all(&summary);
    Ok(succeeded)
}

fn print_all(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}

impl Step {
    fn run(self, workspace: &Workspace) -> Result<bool> {
        let mut cargo = workspace.cargo();
        match self {
            Self::Tools => return tools(),
            Self::Features => return features::check(workspace),
            // Built as the tests are, so that nothing is compiled twice.
            Self::Interop => return interop::run(workspace, interop::Build::WithAllTests, &[]),
            Self::Test => return test::run(workspace, &[], &[]),
            Self::Format => cargo.args(["fmt", "--all", "--check"]),
            Self::Clippy => cargo
                .args(["clippy", "--workspace", "--all-targets", "--all-features"])
                .args(["--", "-D", "warnings"]),
            Self::Docs => cargo
                .args(["doc", "--workspace", "--no-deps", "--all-features"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        };
        Ok(command::run(&mut cargo)?.success())
    }
}

/// Sees to what the other steps need and a machine may lack.
fn tools() -> Result<bool> {
    let mut complete = true;
    for (component, program) in [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")] {
        if command::output(Command::new(program).arg("--version")).is_ok() {
            println!("{component}: there");
            continue;
        }
        let add = command::run(Command::new("rustup").args(["component", "add", component]));
        if add.is_ok_and(|status| status.success()) {
            println!("{component}: added with rustup");
        } else {
            println!("{component}: missing, `rustup component add {component}` adds it");
            complete = false;
        }
    }
    if Libpq::detect()? == Libpq::System {
        println!("libpq: the system's");
    } else {
        // No failure: it can be built.
        match apt::install(&["libpq-dev"]) {
            Ok(()) => println!("libpq: installed with apt-get"),
            Err(error) => println!("libpq: {error:#}"),
        }
    }
    Ok(complete)
}
