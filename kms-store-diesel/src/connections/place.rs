//! What is in the place of the database now, and whether it is what a connection was opened to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use kms_core::{Error, ErrorKind, Result};
use tracing::warn;

/// A file, whatever its name is. Only Unix tells one from another for certain; elsewhere it is the time of its
/// creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
    /// The number of a file that is gone is given to another one.
    created: Option<SystemTime>,
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::metadata(path)?;
        Ok(Self {
            #[cfg(unix)]
            device: metadata.dev(),
            #[cfg(unix)]
            inode: metadata.ino(),
            created: metadata.created().ok(),
        })
    }
}

/// The place of a database that is a file, which somebody may remove, or put another one in its place.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// The file that a connection was opened to last, and its write-ahead log. No foreign code runs while this is
    /// locked.
    last: Mutex<Option<(FileId, Option<FileId>)>>,
    replacements: AtomicU64,
}

impl Place {
    /// The path has to be absolute: the process may go to another folder.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "only SQLite's databases are files")
    )]
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            last: Mutex::default(),
            replacements: AtomicU64::new(0),
        }
    }

    /// How often another file was found in the place of the one before.
    pub(super) fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::Acquire)
    }

    /// Opens a connection, and gives the file that it is to.
    pub(super) fn open<T>(&self, open: impl Fn() -> Result<T>) -> Result<(T, FileId)> {
        // A file of a container's image becomes another one when it is first opened to be written to.
        let (opened, file) = match self.attempt(&open)? {
            Some(opened) => opened,
            None => self.attempt(&open)?.ok_or_else(|| self.replaced())?,
        };
        let now = Some((file, self.log()));
        let before = std::mem::replace(&mut *self.last(), now);
        if before.is_some_and(|(before, _)| before != file) {
            self.replacements.fetch_add(1, Ordering::AcqRel);
            warn!(path = ?self.path, "another file is in the place of the database; connections to the former one are closed");
        }
        Ok((opened, file))
    }

    /// Nothing, if the file was replaced meanwhile, so that it is not known which one was opened.
    fn attempt<T>(&self, open: impl Fn() -> Result<T>) -> Result<Option<(T, FileId)>> {
        let file = self.file()?;
        self.refuse_foreign_log(file)?;
        let opened = open()?;
        Ok((self.file()? == file).then_some((opened, file)))
    }

    #[cfg(all(test, feature = "sqlite", unix))]
    pub(crate) fn site_of<T>(&self, open: impl Fn() -> Result<T>) -> Result<(T, Site<'_>)> {
        let (opened, file) = self.open(open)?;
        Ok((opened, Site(Some((self, file)))))
    }

    /// Fails unless this file is in the place.
    fn check(&self, file: FileId) -> Result<()> {
        if self.file()? == file {
            return Ok(());
        }
        Err(self.replaced())
    }

    fn replaced(&self) -> Error {
        Error::new(ErrorKind::DatabaseUnreachable).with_detail(format!(
            "another file was put in the place of {} just now",
            self.path.display()
        ))
    }

    /// The file that is in the place.
    pub(super) fn file(&self) -> Result<FileId> {
        FileId::of(&self.path).map_err(|error| {
            Error::new(ErrorKind::DatabaseUnreachable)
                .with_detail(format!("{error}: {}", self.path.display()))
                .with_source(error)
        })
    }

    /// SQLite would take the log beside a new file for that file's own, and what is in it for the file's newest pages.
    fn refuse_foreign_log(&self, file: FileId) -> Result<()> {
        let last = *self.last();
        match last {
            Some((before, Some(log))) if before != file && self.log() == Some(log) => {
                let path = self.path.display();
                Err(Error::new(ErrorKind::DatabaseUnreachable).with_detail(format!(
                    "another file was put in the place of {path}, and the write-ahead log of the former one was left \
                     beside it, which would damage it: remove {path}-wal and {path}-shm"
                )))
            }
            _ => Ok(()),
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<(FileId, Option<FileId>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The write-ahead log, which SQLite keeps beside the file that a symbolic link leads to.
    fn log(&self) -> Option<FileId> {
        let mut path = fs::canonicalize(&self.path).ok()?.into_os_string();
        path.push("-wal");
        FileId::of(Path::new(&path)).ok()
    }
}

/// What a call's connection was opened to, if that can be replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a>(pub(super) Option<(&'a Place, FileId)>);

impl Site<'_> {
    /// A server.
    #[cfg(feature = "diesel-async")]
    pub(crate) const SERVER: Self = Self(None);

    /// Fails if it is not in its place any more.
    pub(crate) fn check(self) -> Result<()> {
        self.0.map_or(Ok(()), |(place, file)| place.check(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_while_it_is_opened_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, "former").unwrap();
        fs::write(&other, "new").unwrap();
        let place = Place::new(path.clone());
        let read = || {
            let read = fs::read_to_string(&path).unwrap();
            let _ = fs::rename(&other, &path);
            Ok(read)
        };
        let (opened, file) = place.open(read).unwrap();
        assert_eq!(opened, "new");
        place.check(file).unwrap();
    }

    #[test]
    fn a_file_that_is_replaced_again_and_again_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "").unwrap();
        let place = Place::new(path.clone());
        let replace = || {
            let other = folder.path().join("b");
            fs::write(&other, "").unwrap();
            fs::rename(other, &path).unwrap();
            Ok(())
        };
        let error = place.open(replace).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable, "{error}");
    }
}
