//! A cluster made for one run, in a temporary folder.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::binaries::Binaries;
use super::{settings, variables};
use crate::account::Account;
use crate::command;
use crate::service::server::{Lifetime, Plan, Server};
use crate::service::{Running, on_a_free_port, random_secret};

/// `$1` the folder of the binaries, the rest the server's arguments.
///
/// Both under one server, so that a stop in the middle of `initdb` leaves nothing behind either.
const SCRIPT: &str = r#"
bin=$1
shift
"$bin/initdb" --pgdata=data --username=postgres --pwfile=password --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C --no-sync --no-instructions &&
exec "$bin/postgres" -D data "$@"
"#;

/// On two busy cores it takes about two seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// Makes a cluster and starts its server.
pub(super) fn start(binaries: &Binaries, lifetime: Lifetime) -> Result<Running> {
    on_a_free_port(|port| start_on(port, binaries, lifetime))
}

fn start_on(port: u16, binaries: &Binaries, lifetime: Lifetime) -> Result<Running> {
    let account = Account::for_server("postgres")?;
    let password = random_secret()?;
    let folder = folder(account.as_ref())?;
    write_password(folder.path(), &password, account.as_ref())?;
    let bin = match &account {
        Some(account) if binaries.copy => copy(&binaries.folder, folder.path(), account)?,
        _ => binaries.folder.clone().into(),
    };

    let mut command: Vec<OsString> = ["sh", "-c", SCRIPT, "cluster"].map(Into::into).into();
    command.push(bin);
    command.extend(settings().into_iter().map(Into::into));
    for setting in [
        "listen_addresses=127.0.0.1".into(),
        format!("port={port}"),
        format!("unix_socket_directories={}", folder.path().display()),
    ] {
        command.extend(["-c".into(), setting.into()]);
    }
    let plan = Plan {
        folder,
        command,
        environment: vec![("LC_ALL", "C".to_owned())],
        inherits: true,
        account: account.as_ref(),
        // Fast shutdown, also in the middle of `initdb`; an immediate one there leaves shared memory.
        stop: "INT",
        patience: Duration::from_secs(10),
    };
    let mut server = Server::start(plan, lifetime)?;
    let from = binaries.folder.display();
    server
        .wait_until(PATIENCE, is_ready)
        .with_context(|| format!("the server from {from} did not start"))?;
    Ok(Running {
        variables: variables(&password, port),
        lacks: None,
        how: format!("binaries in {from}, 127.0.0.1:{port}"),
        server: Some(server),
    })
}

/// A folder that the server's account owns and can get at.
fn folder(account: Option<&Account>) -> Result<TempDir> {
    let new = |parent: &Path| {
        tempfile::Builder::new()
            .prefix("kms-postgres-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))
    };
    let folder = new(&std::env::temp_dir())?;
    let Some(account) = account else {
        return Ok(folder);
    };
    account.own(folder.path())?;
    let mut look = Command::new("/bin/ls");
    look.arg(folder.path()).current_dir("/");
    account.run(&mut look);
    if command::output(&mut look).is_ok() {
        return Ok(folder);
    }
    // Root's own temporary folder may be closed to others.
    let folder = new(Path::new("/tmp"))?;
    account.own(folder.path())?;
    Ok(folder)
}

fn write_password(folder: &Path, password: &str, account: Option<&Account>) -> Result<()> {
    let path = folder.join("password");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    writeln!(file, "{password}")?;
    account.map_or(Ok(()), |account| account.own(&path))
}

/// Copies an installation (`bin` with its neighbours) into the folder; gives the new `bin`.
fn copy(bin: &Path, folder: &Path, account: &Account) -> Result<OsString> {
    let root = bin.parent().context("the binaries have no parent folder")?;
    let copied = folder.join("installation");
    command::output(Command::new("cp").arg("-R").arg(root).arg(&copied))?;
    // The account has to remove it in the end.
    account.own_all(&copied)?;
    Ok(copied.join("bin").into())
}

/// Whether the server in this folder takes connections: it says so in its pid file, which is what
/// `pg_ctl` looks at too.
fn is_ready(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("data/postmaster.pid")).is_ok_and(|file| {
        file.lines()
            .nth(7)
            .is_some_and(|line| line.trim() == "ready")
    })
}
