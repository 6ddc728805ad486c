//! A module that fails when it is told to: see `faulty/module.c`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// A copy of the module, for one test.
pub(crate) struct FaultyModule {
    folder: TempDir,
}

impl FaultyModule {
    pub(crate) fn new() -> Self {
        static COMPILED: OnceLock<TempDir> = OnceLock::new();
        let compiled = COMPILED.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let source =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/token/softhsm/faulty/module.c");
            let status = Command::new("cc")
                .args(["-shared", "-fPIC", "-o"])
                .arg(folder.path().join("libfaulty.so"))
                .arg(source)
                .arg("-ldl")
                .status();
            assert!(status.unwrap().success(), "cc");
            folder
        });
        let module = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::copy(compiled.path().join("libfaulty.so"), module.path()).unwrap();
        module
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("libfaulty.so")
    }

    /// From now on: a word and a number, as in `module.c`.
    pub(crate) fn fail(&self, fault: &str) {
        let whole = self.folder.path().join("next");
        std::fs::write(&whole, fault).unwrap();
        std::fs::rename(whole, self.beside("fault")).unwrap();
    }

    pub(crate) fn clear(&self) {
        self.fail("");
    }

    /// How often this function was called.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let calls = std::fs::read_to_string(self.beside("calls")).unwrap_or_default();
        calls.lines().filter(|called| *called == function).count()
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path().into_os_string();
        path.push(format!(".{suffix}"));
        path.into()
    }
}
