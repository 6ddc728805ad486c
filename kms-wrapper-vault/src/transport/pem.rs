//! Certificates and keys in PEM: in memory, or in files that somebody renews.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use kms_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

/// Certificates or a key in PEM.
#[derive(Clone)]
pub(crate) enum Pem {
    Bytes(Arc<Zeroizing<Vec<u8>>>),
    File(PathBuf),
    /// All files of a folder.
    Folder(PathBuf),
}

/// What tells that a file was replaced or written, without reading it. `None` for one that can't be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<(SystemTime, u64, u64)>>);

impl Pem {
    pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(Arc::new(Zeroizing::new(bytes.into())))
    }

    pub(crate) fn read(&self) -> Result<Arc<Zeroizing<Vec<u8>>>> {
        match self {
            Self::Bytes(bytes) => Ok(Arc::clone(bytes)),
            Self::File(path) => read_file(path).map(Arc::new),
            Self::Folder(path) => {
                let mut all = Zeroizing::new(Vec::new());
                let unreadable = |cause| {
                    refused("can't read the folder")
                        .with_context("folder", path.display())
                        .with_source(cause)
                };
                for path in files(path).map_err(unreadable)? {
                    all.extend_from_slice(&read_file(&path)?);
                    all.push(b'\n');
                }
                Ok(Arc::new(all))
            }
        }
    }

    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Bytes(_) | Self::Folder(_) => None,
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Bytes(_) => Vec::new(),
            Self::File(path) => vec![path.clone()],
            Self::Folder(path) => files(path).unwrap_or_default(),
        }
    }
}

impl Stamp {
    /// Looks at the files behind these, which may block.
    pub(crate) fn of<'a>(pems: impl IntoIterator<Item = &'a Pem>) -> Self {
        let paths = pems.into_iter().flat_map(Pem::paths);
        Self(paths.map(|path| look_at(&path).ok()).collect())
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(_) => f.write_str("Bytes(hidden)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
        }
    }
}

fn look_at(path: &Path) -> std::io::Result<(SystemTime, u64, u64)> {
    let found = std::fs::metadata(path)?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&found);
    #[cfg(not(unix))]
    let inode = 0;
    Ok((found.modified()?, found.len(), inode))
}

fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    std::fs::read(path).map(Zeroizing::new).map_err(|cause| {
        refused("can't read the file")
            .with_context("file", path.display())
            .with_source(cause)
    })
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}
