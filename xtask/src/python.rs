//! Python programs from `PyPI`, each in a virtual environment of its own, kept in the [cache].
//!
//! [cache]: crate::cache

use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::cache::{Entry, Say};
use crate::workspace::Workspace;
use crate::{apt, command};

/// Minor versions of Python 3 that the lock files are for.
const MINORS: RangeInclusive<u32> = 10..=12;

/// Names to look for, best first.
const NAMES: &[&str] = &["python3.11", "python3.12", "python3.10", "python3"];

/// Prints the minor version and where the program really is; `venv` needs `ensurepip` too, which
/// Debian has in a package of its own.
const PROBE: &str =
    "import sys; print(sys.version_info[1], sys.executable); import venv, ensurepip";

/// An install takes 20 to 60 seconds; a registry may be slow.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The packages that one program needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packages<'a> {
    /// What the environment is called in the cache.
    pub(crate) name: &'a str,
    /// The text of a file of requirements, every one of them pinned.
    pub(crate) lock: &'a str,
}

impl Packages<'_> {
    /// The interpreter of an environment with these packages, if one was made before.
    pub(crate) fn kept(self, workspace: &Workspace) -> Result<PathBuf> {
        let kept = self.entry(workspace, &interpreter()?)?.kept(works);
        Ok(python(&kept.context("there is none")?))
    }

    /// The interpreter of an environment with these packages, made if there is none.
    pub(crate) fn kept_or_installed(self, workspace: &Workspace, say: Say<'_>) -> Result<PathBuf> {
        let interpreter = match interpreter() {
            Ok(interpreter) => interpreter,
            Err(error) => {
                apt::install(&["python3", "python3-venv"])
                    .map_err(|apt| anyhow!("{error:#}; apt: {apt:#}"))?;
                interpreter()?
            }
        };
        let entry = self.entry(workspace, &interpreter)?;
        let made = entry.kept_or_made(say, works, |folder| {
            say(&format!("installing {} with pip, once", self.name));
            self.install(&interpreter, folder)
        })?;
        Ok(python(&made))
    }

    fn entry(self, workspace: &Workspace, interpreter: &Path) -> Result<Entry> {
        let interpreter = interpreter.display().to_string();
        Entry::new(workspace, self.name, &[self.lock, &interpreter])
    }

    /// Makes the environment in `folder`. It can be moved afterwards, except for its scripts, which
    /// hold paths: only its interpreter is used.
    fn install(self, interpreter: &Path, folder: &Path) -> Result<()> {
        let lock = folder.join("requirements.lock");
        std::fs::write(&lock, self.lock)?;
        // Isolated: settings and modules of the user's shell stay out.
        let venv = ["-I", "-m", "venv"];
        command::within(PATIENCE, Command::new(interpreter).args(venv).arg(folder))?;
        let pip = ["-I", "-m", "pip", "install", "--quiet", "--no-input"];
        command::within(
            PATIENCE,
            Command::new(python(folder))
                .args(pip)
                .args(["--disable-pip-version-check", "--requirement"])
                .arg(lock),
        )?;
        Ok(())
    }
}

/// An interpreter that can make environments.
fn interpreter() -> Result<PathBuf> {
    let mut reasons = Vec::new();
    for name in NAMES {
        match probe(name) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => reasons.push(format!("{name}: {error:#}")),
        }
    }
    let (oldest, newest) = (MINORS.start(), MINORS.end());
    let reasons = match reasons.as_slice() {
        [] => "none in PATH".to_owned(),
        some => some.join(", "),
    };
    bail!("no Python 3.{oldest} to 3.{newest} with venv ({reasons})");
}

/// The interpreter of this name, if there is one.
fn probe(name: &str) -> Result<Option<PathBuf>> {
    let probed = Command::new(name)
        .args(["-I", "-c", PROBE])
        .stdin(Stdio::null())
        .output();
    let output = match probed {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        probed => probed?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", command::last_lines(&said, 1));
    }
    judge(&String::from_utf8_lossy(&output.stdout)).map(Some)
}

/// The interpreter in what the probe printed, if its version is right.
fn judge(said: &str) -> Result<PathBuf> {
    let (minor, path) = said.trim().split_once(' ').context("it says no version")?;
    let minor: u32 = minor.parse().context("it says no version")?;
    if !MINORS.contains(&minor) {
        bail!("it is 3.{minor}");
    }
    Ok(path.into())
}

fn python(environment: &Path) -> PathBuf {
    environment.join("bin/python")
}

/// Whether the environment still works: the interpreter it was made with may be gone.
fn works(environment: &Path) -> bool {
    let mut look = Command::new(python(environment));
    command::output(look.args(["-I", "-c", ""])).is_ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::judge;

    #[test]
    fn only_the_versions_that_the_lock_files_are_for_will_do() {
        assert_eq!(
            judge("11 /usr/bin/python3\n").unwrap(),
            Path::new("/usr/bin/python3")
        );
        assert!(judge("13 /usr/bin/python3\n").is_err());
        assert!(judge("9 /usr/bin/python3\n").is_err());
        assert!(judge("").is_err());
    }

    #[test]
    fn a_path_may_have_spaces() {
        assert_eq!(
            judge("12 /my tools/python").unwrap(),
            Path::new("/my tools/python")
        );
    }
}
