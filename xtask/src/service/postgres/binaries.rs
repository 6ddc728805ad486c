//! Finding Postgres binaries that work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::OLDEST;
use crate::account::Account;
use crate::command;

/// A folder with `initdb` and `postgres`.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(super) folder: PathBuf,
    /// Whether the folder has to be copied to where the server's account can read it.
    pub(super) copy: bool,
}

/// Folders outside PATH where packages put them; `*` stands for a version.
const PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/lib/postgresql/*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
];

/// The first binaries that run here and are new enough.
pub(super) fn find() -> Result<Binaries> {
    let mut reasons = Vec::new();
    for folder in candidates() {
        match check(&folder) {
            Ok(()) => {
                return Ok(Binaries {
                    folder,
                    copy: false,
                });
            }
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    if reasons.is_empty() {
        bail!("no `initdb` and `postgres` in PATH, `pg_config --bindir` or the usual folders");
    }
    bail!("{}", reasons.join(", "));
}

/// Fails unless both programs in the folder run, as the account that they will run under, and are
/// new enough.
pub(super) fn check(folder: &Path) -> Result<()> {
    let account = Account::for_server("postgres")?;
    for program in ["initdb", "postgres"] {
        let mut command = Command::new(folder.join(program));
        command.arg("--version").current_dir("/");
        if let Some(account) = &account {
            account.run(&mut command);
        }
        let said = command::output(&mut command)?;
        let major = major_version(&said).with_context(|| format!("no version in {said:?}"))?;
        ensure!(
            major >= OLDEST,
            "{} is version {major}, and {OLDEST} or newer is wanted",
            folder.display()
        );
    }
    Ok(())
}

/// Folders that hold both programs, each once, in the order to try them.
fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(folder) = command::output(Command::new("pg_config").arg("--bindir")) {
        folders.push(folder.trim().into());
    }
    folders.extend(PLACES.iter().flat_map(|place| expand(place)));
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        // A link in PATH may stand alone: the program finds its files by where it really is.
        let Ok(program) = folder.join("initdb").canonicalize() else {
            continue;
        };
        let Some(folder) = program.parent() else {
            continue;
        };
        if folder.join("postgres").exists() && !found.iter().any(|known| known == folder) {
            found.push(folder.to_owned());
        }
    }
    found
}

/// The folders that a pattern with at most one `*` stands for, newest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![pattern.into()];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let after = after.trim_start_matches('/');
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix(prefix)?;
            let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
            Some((digits.parse().unwrap_or(0), entry.path().join(after)))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The major version in what `postgres --version` prints.
fn major_version(said: &str) -> Option<u32> {
    let (_, after) = said.split_once("(PostgreSQL) ")?;
    let end = after.find(|c: char| !c.is_ascii_digit());
    after[..end.unwrap_or(after.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{expand, major_version};

    #[test]
    fn the_major_version_is_read_from_every_form() {
        let cases = [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
                Some(15),
            ),
            ("initdb (PostgreSQL) 17.10\n", Some(17)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("psql 15", None),
        ];
        for (said, expected) in cases {
            assert_eq!(major_version(said), expected, "{said}");
        }
    }

    #[test]
    fn a_place_with_a_star_gives_the_newest_version_first() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "17", "15"] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
        }
        let root = folder.path().display().to_string();
        let found = expand(&format!("{root}/*/bin"));
        let expected = ["17", "15", "9"].map(|version| folder.path().join(version).join("bin"));
        assert_eq!(found, expected);
    }
}
