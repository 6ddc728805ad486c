//! A server process that can't outlive its purpose.
//!
//! Every server runs under a small shell script, its keeper, which holds a lifeline: a pipe whose
//! other end this program has. When that end closes, the keeper stops the server and removes its
//! folder. The kernel closes it however this program ends (return, panic, Ctrl-C, `kill -9`), so
//! there is one way to stop a server, and nothing that could be left out.
//!
//! A server that `cargo xtask up` leaves running has a named pipe as lifeline, inside its folder,
//! which the keeper holds open itself: `down` writes a line to it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tempfile::TempDir;

use crate::account::Account;
use crate::{command, interrupt};

/// `$1` the server's folder, `$2` the signal that stops it, `$3` after how many fifths of a second it
/// is killed if that signal doesn't, then the server's command.
///
/// The keeper leads a process group of its own, so the signal goes to all that the server started,
/// and a terminal's Ctrl-C to none of it. It ignores signals only after the server was started: an
/// ignored signal would be inherited. It repeats the signal: a program that is just starting loses it.
const KEEPER: &str = r#"
folder=$1 signal=$2 patience=$3
shift 3
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
trap '' HUP INT QUIT TERM
{
    read -r _ <&3
    waited=0
    while kill -s 0 "$server" && [ "$waited" -lt "$patience" ]; do
        [ $((waited % 5)) -ne 0 ] || kill -s "$signal" 0
        sleep 0.2
        waited=$((waited + 1))
    done
    kill -s KILL "$server"
} 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
kill -s KILL "$watcher"
cd /
rm -rf -- "$folder"
"#;

const LIFELINE: &str = "lifeline";
const LOG: &str = "server.log";

/// How long a server lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// At most as long as this program.
    OfThisProgram,
    /// Until `cargo xtask down`.
    UntilDown,
}

/// What to start.
pub(crate) struct Plan<'a> {
    /// The folder of this server: its working folder, removed when it ends.
    pub(crate) folder: TempDir,
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Whether it gets this program's environment too.
    pub(crate) inherits: bool,
    /// The account to run under, if not this program's.
    pub(crate) account: Option<&'a Account>,
    /// The signal that makes it stop at once.
    pub(crate) stop: &'static str,
    /// How long it may take to stop; then it is killed.
    pub(crate) patience: Duration,
}

/// A server that runs. Dropping it stops it, unless it was [left](Server::leave).
#[derive(Debug)]
pub(crate) struct Server {
    keeper: Child,
    lifeline: Option<Lifeline>,
    folder: TempDir,
}

#[derive(Debug)]
enum Lifeline {
    Pipe { _end: ChildStdin },
    Named(File),
}

impl Server {
    /// Starts a server; it need not answer yet.
    pub(crate) fn start(plan: Plan<'_>, lifetime: Lifetime) -> Result<Self> {
        let folder = plan.folder;
        let log = File::create(folder.path().join(LOG))?;
        let mut keeper = Command::new("/bin/sh");
        keeper
            .args(["-c", KEEPER, "keeper"])
            .arg(folder.path())
            .arg(plan.stop)
            .arg((plan.patience.as_millis() / 200).to_string())
            .args(plan.command)
            .current_dir(folder.path())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        if !plan.inherits {
            keeper.env_clear();
        }
        keeper.envs(plan.environment);
        if let Some(account) = plan.account {
            account.run(&mut keeper);
        }
        let named = match lifetime {
            Lifetime::OfThisProgram => {
                keeper.stdin(Stdio::piped());
                None
            }
            Lifetime::UntilDown => {
                let path = folder.path().join(LIFELINE);
                nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
                // For both: opening it for one alone would wait for the other.
                let lifeline = OpenOptions::new().read(true).write(true).open(path)?;
                keeper.stdin(lifeline.try_clone()?);
                Some(Lifeline::Named(lifeline))
            }
        };
        let mut keeper = keeper.spawn().context("cannot run /bin/sh")?;
        let pipe = keeper.stdin.take().map(|end| Lifeline::Pipe { _end: end });
        Ok(Self {
            keeper,
            lifeline: named.or(pipe),
            folder,
        })
    }

    /// Waits until `ready` says yes of the server's folder. Fails when the server ends, or
    /// `patience` does.
    pub(crate) fn wait_until(
        &mut self,
        patience: Duration,
        ready: impl Fn(&Path) -> bool,
    ) -> Result<()> {
        self.wait(patience, |folder, _| ready(folder))
    }

    /// The same, for a server that says in its log when it is ready.
    pub(crate) fn wait_until_log(
        &mut self,
        patience: Duration,
        ready: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.wait(patience, |_, log| ready(log))
    }

    /// The same, for a server that has to say so and answer.
    pub(crate) fn wait(
        &mut self,
        patience: Duration,
        ready: impl Fn(&Path, &str) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        // The keeper removes the folder when the server ends, but not this file while it is open.
        let mut log = File::open(self.folder.path().join(LOG))?;
        let mut said = String::new();
        loop {
            interrupt::check()?;
            let ended = self.keeper.try_wait()?.is_some();
            log.read_to_string(&mut said)?;
            if ended {
                bail!("it ended: {}", command::last_lines(&said, 4));
            }
            if ready(self.folder.path(), &said) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "not ready after {} s: {}",
                    patience.as_secs(),
                    command::last_lines(&said, 4)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server has printed.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join(LOG))?)
    }

    /// The server's folder: what [`stop`] wants to know.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the server running after this program.
    pub(crate) fn leave(mut self) {
        self.lifeline = None;
        self.folder.disable_cleanup(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.lifeline.take() {
            None => return,
            Some(Lifeline::Pipe { .. }) => {}
            Some(Lifeline::Named(mut lifeline)) => {
                let _ = lifeline.write_all(b"\n");
            }
        }
        // Bounded: the keeper kills what does not stop. The folder goes after it.
        let _ = self.keeper.wait();
    }
}

/// Stops a server that was left running. `false` if nothing keeps it any more.
///
/// Its folder is gone then, unless something killed the keeper before it could remove it.
pub(crate) fn stop(folder: &Path) -> Result<bool> {
    let Ok(mut lifeline) = write_end(&folder.join(LIFELINE)) else {
        return Ok(false);
    };
    lifeline.write_all(b"\n")?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while folder.exists() {
        interrupt::check()?;
        if Instant::now() > deadline {
            bail!("the server in {} does not stop", folder.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// The end of a named pipe to write to; an error when nobody reads.
fn write_end(pipe: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        // Without it, it would wait for a reader.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(pipe)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::{LIFELINE, Lifetime, Plan, Server, stop, write_end};

    const PATIENCE: Duration = Duration::from_secs(20);

    const SLEEP: &str = "echo $$ > new; mv new pid; exec sleep 600";

    /// Starts a shell script as the server; it writes the pid to look at into the file `pid`.
    fn start(script: &str, lifetime: Lifetime) -> Server {
        let plan = Plan {
            folder: tempfile::tempdir().unwrap(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            environment: vec![("PATH", "/usr/bin:/bin".to_owned())],
            inherits: false,
            account: None,
            stop: "TERM",
            patience: Duration::from_secs(1),
        };
        Server::start(plan, lifetime).unwrap()
    }

    fn pid(server: &mut Server) -> nix::unistd::Pid {
        let written = |folder: &Path| folder.join("pid").exists();
        server.wait_until(PATIENCE, written).unwrap();
        let pid = std::fs::read_to_string(server.folder.path().join("pid")).unwrap();
        nix::unistd::Pid::from_raw(pid.trim().parse().unwrap())
    }

    fn lives(pid: nix::unistd::Pid) -> bool {
        nix::sys::signal::kill(pid, None).is_ok()
    }

    #[test]
    fn a_dropped_server_is_gone_with_its_folder() {
        let mut server = start(SLEEP, Lifetime::OfThisProgram);
        let (pid, folder) = (pid(&mut server), server.folder.path().to_owned());
        assert!(lives(pid) && folder.exists());
        drop(server);
        assert!(!lives(pid) && !folder.exists());
    }

    #[test]
    fn what_the_server_started_goes_with_it() {
        let script = "sleep 600 & echo $! > new; mv new pid; wait";
        let mut server = start(script, Lifetime::OfThisProgram);
        let started = pid(&mut server);
        drop(server);
        let deadline = Instant::now() + PATIENCE;
        while lives(started) {
            assert!(Instant::now() < deadline, "{started} is still there");
        }
    }

    #[test]
    fn a_server_that_will_not_stop_is_killed() {
        let script = "trap '' TERM; echo $$ > new; mv new pid; while :; do sleep 1; done";
        let mut server = start(script, Lifetime::OfThisProgram);
        let (pid, folder) = (pid(&mut server), server.folder.path().to_owned());
        drop(server);
        assert!(!lives(pid) && !folder.exists());
    }

    #[test]
    fn a_server_that_ends_by_itself_is_reported_with_what_it_said() {
        let mut server = start("echo no disk >&2; exit 1", Lifetime::OfThisProgram);
        let error = server.wait_until(PATIENCE, |_| false).unwrap_err();
        assert!(error.to_string().contains("no disk"), "{error}");
    }

    #[test]
    fn a_server_left_running_is_stopped_through_its_folder() {
        let mut server = start(SLEEP, Lifetime::UntilDown);
        let pid = pid(&mut server);
        let folder = server.folder().to_owned();
        server.leave();
        assert!(lives(pid) && folder.join(LIFELINE).exists());
        assert!(stop(&folder).unwrap());
        assert!(!folder.exists());
        assert!(!stop(&folder).unwrap(), "it is gone already");
    }

    #[test]
    fn a_server_whose_keeper_was_killed_is_not_waited_for() {
        let mut server = start(SLEEP, Lifetime::UntilDown);
        let pid = pid(&mut server);
        let group = nix::unistd::getpgid(Some(pid)).unwrap();
        nix::sys::signal::killpg(group, nix::sys::signal::SIGKILL).unwrap();
        server.keeper.wait().unwrap();
        server.lifeline = None;
        // Its watcher was killed with it, and may take a moment to go.
        let deadline = Instant::now() + PATIENCE;
        let lifeline = server.folder.path().join(LIFELINE);
        while write_end(&lifeline).is_ok() {
            assert!(Instant::now() < deadline, "somebody still reads");
        }
        assert!(!stop(server.folder()).unwrap());
    }

    #[test]
    fn one_to_be_left_running_is_stopped_when_the_start_fails() {
        let mut server = start(SLEEP, Lifetime::UntilDown);
        let (pid, folder) = (pid(&mut server), server.folder.path().to_owned());
        drop(server);
        assert!(!lives(pid) && !folder.exists());
    }
}
