//! Building the programs of `bench/peers`, and running them in turns.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::super::Options;
use super::super::measuring::{Effort, lines, machine, today};
use super::super::results::Results;
use super::{Peer, Program};
use crate::service::Service;
use crate::service::vault::Vault;
use crate::suite::{Suite, Tests};
use crate::test::services::{Needed, Services};
use crate::workspace::Workspace;
use crate::{command, go, interop};

/// Long enough for Go to collect the garbage of its allocations, which else nobody would pay for.
const BATCH: &str = "50";
/// What a cold build of Go's program may take.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
const VAULT: &str = "vault";
const NEEDS: &[&dyn Service] = &[&Vault];

/// A program that was built.
struct Built {
    key: &'static str,
    path: PathBuf,
    /// What it measures, with its version.
    version: Option<String>,
}

/// Measures these. What can't be had is kept with the reason.
pub(super) fn measure(workspace: &Workspace, options: &Options, peers: &[Peer]) -> Result<Results> {
    let effort = Effort::of(options);
    let mut results = Results::default();
    let needs = Suite {
        name: "peers",
        about: "",
        tests: Tests::Docs(&[]),
        needs: if peers.iter().any(needs_vault) {
            NEEDS
        } else {
            &[]
        },
    };
    let services = Services::obtain(workspace, &[&needs])?;
    let needed = services.needed(&needs);
    let mut built: Vec<Built> = Vec::new();
    let mut keys: Vec<_> = peers.iter().map(key).collect();
    keys.dedup();
    for key in keys {
        let peer = peers.iter().find(|peer| self::key(peer) == key);
        let peer = peer.context("each has a program")?;
        let program = match needed.missing.first() {
            Some((_, why)) if needs_vault(peer) => Err(anyhow!("no Vault: {why}")),
            _ => build(workspace, peer.program),
        };
        match program {
            Ok(program) => built.push(program),
            Err(why) => leave_out(&mut results, peers, key, &why),
        }
    }
    for round in 1..=effort.rounds {
        eprintln!("bench: peers, round {round} of {}", effort.rounds);
        for program in std::mem::take(&mut built) {
            let mut command = Command::new(&program.path);
            command.args(["--budget", &effort.budget.to_string(), "--batch", BATCH]);
            command.envs(needed.variables());
            match lines(command, |line| Results::keep(&mut results.ours, "ns", line)) {
                Ok(()) => built.push(program),
                Err(why) => leave_out(&mut results, peers, program.key, &why),
            }
        }
    }
    let mut versions: Vec<_> = built
        .iter()
        .filter_map(|program| program.version.clone())
        .collect();
    versions.extend(vault_version(&needed));
    let with = match versions.is_empty() {
        true => String::new(),
        false => format!(", with {}", versions.join(", ")),
    };
    results.circumstances = format!(
        "Measured with `cargo xtask bench --peers` on {}, {}{with}; rounds: {}, of which the fastest counts.",
        machine(),
        today()?,
        effort.rounds,
    );
    Ok(results)
}

/// Keeps the reason for which a program's peers have no figures.
fn leave_out(results: &mut Results, peers: &[Peer], program: &str, why: &anyhow::Error) {
    for peer in peers.iter().filter(|peer| key(peer) == program) {
        eprintln!("LEFT OUT: {}: {why:#}", peer.name);
        results.missing.push(format!("{}: {why:#}", peer.name));
        for case in [peer.encrypt(), peer.decrypt()] {
            results.ours.remove(&case);
        }
    }
}

/// What tells its program from others.
fn key(peer: &Peer) -> &'static str {
    match peer.program {
        Program::Rust { name, .. } => name,
        Program::Go { module } => module,
    }
}

fn needs_vault(peer: &Peer) -> bool {
    key(peer) == VAULT
}

/// As its program tells it, where there is one.
fn vault_version(needed: &Needed<'_>) -> Option<String> {
    let program = needed.value_of("KMS_TEST_VAULT_BINARY").ok()?;
    let said = command::output(Command::new(program).arg("version")).ok()?;
    let words: Vec<_> = said.split_whitespace().take(2).collect();
    Some(words.join(" ").trim_end_matches(',').to_owned())
}

fn build(workspace: &Workspace, program: Program) -> Result<Built> {
    let folder = workspace.root.join("bench/peers");
    match program {
        Program::Rust { name, package } => {
            let path = rust(workspace, &folder, name)?;
            let lock = std::fs::read_to_string(folder.join("Cargo.lock"))?;
            let version = package.and_then(|package| locked(&lock, package));
            Ok(Built {
                key: name,
                path,
                version,
            })
        }
        Program::Go { module } => {
            let folder = folder.join("go");
            let (path, toolchain) = asherah(workspace, &folder)?;
            let required = std::fs::read_to_string(folder.join("go.mod"))?;
            let version = required_version(&required, module);
            let version = version.map(|version| format!("Asherah {version} ({toolchain})"));
            Ok(Built {
                key: module,
                path,
                version,
            })
        }
    }
}

/// Builds one of the Rust programs, in a target folder that they share with each other and with nobody else.
fn rust(workspace: &Workspace, folder: &Path, name: &str) -> Result<PathBuf> {
    eprintln!("bench: building {name} of bench/peers, the first time for minutes");
    let mut build = workspace.cargo();
    build
        .args(["build", "--release", "--bin", name, "--features", name])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(workspace.kept("peers")?)
        .args(["--message-format", "json-render-diagnostics"]);
    let mut program = None;
    let status = command::tee(&mut build, &mut io::sink(), |line| {
        program = interop::built(name, line).or(program.take());
    })?;
    ensure!(status.success(), "it does not compile here");
    program.with_context(|| format!("cargo built no program {name}"))
}

/// Builds the Go program. Gives the version of the toolchain too.
fn asherah(workspace: &Workspace, module: &Path) -> Result<(PathBuf, String)> {
    let say = |line: &str| eprintln!("{}: {line}", interop::GO);
    let go = go::for_module(module, workspace, &say)?;
    say("building the program of bench/peers/go");
    let program = workspace.kept("peers")?.join("kms-peers-go");
    let mut build = Command::new(&go);
    build
        .args(["build", "-mod=readonly", "-trimpath", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(module)
        .env("GOWORK", "off");
    command::within(PATIENCE, &mut build)?;
    Ok((program, go::version(&go, module)?))
}

/// The version of a package in `Cargo.lock`, after its name.
fn locked(lock: &str, package: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(format!("{package} {}", rest.split_once('"')?.0))
}

/// The version of a module in `go.mod`.
fn required_version<'a>(required: &'a str, module: &str) -> Option<&'a str> {
    let mut lines = required.lines();
    lines.find_map(|line| line.split_once(module)?.1.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::{locked, required_version};

    #[test]
    fn versions_are_those_that_are_built() {
        let lock = "[[package]]\nname = \"tink-aead\"\nversion = \"0.3.0\"\nsource = \"x\"\n";
        assert_eq!(locked(lock, "tink-aead").unwrap(), "tink-aead 0.3.0");
        assert_eq!(locked(lock, "tink"), None);
        let required = "module a\n\nrequire example.org/b v0.7.0\n";
        assert_eq!(required_version(required, "example.org/b"), Some("v0.7.0"));
    }
}
