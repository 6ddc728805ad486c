//! What takes long to make and is the same for every clone: kept once per user of this machine.
//!
//! An entry is a folder named after what it was made from, so it is never out of date: other input,
//! other entry. It is made beside its place and renamed, so that one made by half is never taken for
//! a whole one, and under a lock, so that two runs at once make it once.
//!
//! The whole folder may be removed at any time while nothing of it runs.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;
use crate::workspace::Workspace;

const FOLDER: &str = "kms-kit-xtask";

/// Longer than anything takes that is made under a lock.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// Takes one line about what is going on.
pub(crate) type Say<'a> = &'a dyn Fn(&str);

/// A place in the cache, and whether something is there.
#[derive(Debug)]
pub(crate) struct Entry {
    parent: PathBuf,
    name: String,
}

impl Entry {
    /// The entry `name` for what is made from `inputs`.
    pub(crate) fn new(workspace: &Workspace, name: &str, inputs: &[&str]) -> Result<Self> {
        Ok(Self {
            parent: parent(workspace, |name| env::var_os(name))?,
            name: format!("{name}-{:016x}", fingerprint(inputs)),
        })
    }

    /// What is kept here, if it is there and still `works`.
    pub(crate) fn kept(&self, works: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let folder = self.parent.join(&self.name);
        (folder.exists() && works(&folder)).then_some(folder)
    }

    /// What is kept here, made first if it isn't there or doesn't work any more.
    ///
    /// `make` fills an empty folder; what it fills is renamed afterwards.
    pub(crate) fn kept_or_made(
        &self,
        say: Say<'_>,
        works: impl Fn(&Path) -> bool,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(folder) = self.kept(&works) {
            return Ok(folder);
        }
        let _lock = self.lock(say)?;
        // Whoever held the lock may have made it.
        if let Some(folder) = self.kept(&works) {
            return Ok(folder);
        }
        self.remove_remains()?;
        let scratch = tempfile::Builder::new()
            .prefix(&self.scratch_prefix())
            .tempdir_in(&self.parent)?;
        make(scratch.path())?;
        let folder = self.parent.join(&self.name);
        fs::rename(scratch.path(), &folder)
            .with_context(|| format!("cannot keep {}", folder.display()))?;
        // It is not there any more to be removed.
        let _ = scratch.keep();
        Ok(folder)
    }

    /// Waits for the lock. It goes when the file is closed, however that comes about.
    fn lock(&self, say: Say<'_>) -> Result<File> {
        let path = self.parent.join(format!("{}.lock", self.name));
        let file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let deadline = Instant::now() + PATIENCE;
        let mut said = false;
        loop {
            interrupt::check()?;
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {}
                Err(TryLockError::WouldBlock) => bail!("another run holds {}", path.display()),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            if !said {
                say(&format!("waiting for another run that makes {}", self.name));
                said = true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Removes an entry that doesn't work any more, and what killed runs left half made.
    fn remove_remains(&self) -> Result<()> {
        let prefix = self.scratch_prefix();
        for entry in fs::read_dir(&self.parent)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name == self.name.as_str() || name.starts_with(&prefix) {
                let path = entry.path();
                fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn scratch_prefix(&self) -> String {
        format!(".{}.", self.name)
    }
}

/// The folder of the cache: the user's, else the workspace's.
fn parent(
    workspace: &Workspace,
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<PathBuf> {
    let absolute = |name: &str| {
        let path = variable(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let users = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    if let Some(folder) = users.map(|folder| folder.join(FOLDER))
        && fs::create_dir_all(&folder).is_ok()
        && tempfile::tempfile_in(&folder).is_ok()
    {
        return Ok(folder);
    }
    workspace.kept("cache")
}

/// Tells inputs apart: FNV-1a, which stays the same from one Rust to the next, over each with its
/// length.
fn fingerprint(inputs: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for input in inputs {
        let length = (input.len() as u64).to_le_bytes();
        for byte in length.iter().chain(input.as_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::{Result, bail};

    use super::{Entry, FOLDER, fingerprint, parent};
    use crate::workspace::Workspace;

    fn entry(parent: &Path) -> Entry {
        Entry {
            parent: parent.to_owned(),
            name: "thing-0".to_owned(),
        }
    }

    fn fill(folder: &Path) -> Result<()> {
        fs::write(folder.join("whole"), "")?;
        Ok(())
    }

    fn whole(folder: &Path) -> bool {
        folder.join("whole").exists()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != "thing-0.lock").collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_made_is_not_made_again() {
        let parent = tempfile::tempdir().unwrap();
        let entry = entry(parent.path());
        assert!(entry.kept(whole).is_none());
        let made = entry.kept_or_made(&|_| {}, whole, fill).unwrap();
        let again = entry.kept_or_made(&|_| {}, whole, |_| bail!("made twice"));
        assert_eq!(again.unwrap(), made);
        assert_eq!(names(parent.path()), ["thing-0"]);
    }

    #[test]
    fn what_was_made_by_half_is_not_kept() {
        let parent = tempfile::tempdir().unwrap();
        let entry = entry(parent.path());
        let half = entry.kept_or_made(&|_| {}, whole, |folder| {
            fill(folder)?;
            bail!("the network is gone")
        });
        assert!(half.is_err());
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn the_remains_of_a_killed_run_and_what_no_longer_works_are_replaced() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["thing-0", ".thing-0.abc", "thing-1"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let made = entry(parent.path()).kept_or_made(&|_| {}, whole, fill);
        assert!(whole(&made.unwrap()));
        assert_eq!(names(parent.path()), ["thing-0", "thing-1"]);
    }

    #[test]
    fn runs_at_the_same_time_make_it_once() {
        let parent = tempfile::tempdir().unwrap();
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let make = |folder: &Path| {
                        made.fetch_add(1, Ordering::SeqCst);
                        fill(folder)
                    };
                    let kept = entry(parent.path()).kept_or_made(&|_| {}, whole, make);
                    assert!(whole(&kept.unwrap()));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn other_inputs_have_another_entry() {
        let all = [&["ab", "c"][..], &["a", "bc"], &["abc"], &["abc", ""]];
        let mut seen: Vec<u64> = all.iter().map(|inputs| fingerprint(inputs)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all.len());
    }

    #[test]
    fn it_lives_in_the_users_cache_and_without_one_in_the_workspace() {
        let home = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(target.path());
        let path = home.path().display().to_string();
        let found = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let set = variables.iter().find(|(variable, _)| *variable == name);
                set.map(|(_, value)| (*value).into())
            };
            parent(&workspace, variable).unwrap()
        };
        assert_eq!(
            found(&[("HOME", &path)]),
            home.path().join(".cache").join(FOLDER)
        );
        let xdg = [("HOME", "/"), ("XDG_CACHE_HOME", path.as_str())];
        assert_eq!(found(&xdg), home.path().join(FOLDER));
        let nowhere = target.path().join("xtask/cache");
        assert_eq!(found(&[]), nowhere);
        assert_eq!(found(&[("HOME", "relative")]), nowhere);
        assert_eq!(found(&[("HOME", "/dev/null")]), nowhere);
    }
}
