//! Running other programs, so that Ctrl-C ends them and their children.
//!
//! Each runs without stdin, in a process group of its own: a signal for this program reaches it
//! only through [`crate::interrupt`], in one order, and takes its children along.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt::{self, Stoppable};

/// Runs a command to its end, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    let mut child = spawn(command)?;
    let _stoppable = Stoppable::new(group_of(&child)?);
    let status = child.wait()?;
    interrupt::check()?;
    Ok(status)
}

/// Runs a command whose stdout goes to `to` and, line by line, to `on_line`.
pub(crate) fn tee(
    command: &mut Command,
    to: &mut impl Write,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    let mut child = spawn(command.stdout(Stdio::piped()))?;
    let _stoppable = Stoppable::new(group_of(&child)?);
    let mut from = child.stdout.take().context("stdout is piped")?;
    let mut chunk = [0; 8192];
    let mut line = Vec::new();
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        // Bytes are passed on as they come: the tests print half lines while they run.
        to.write_all(&chunk[..read])?;
        to.flush()?;
        for &byte in &chunk[..read] {
            if byte == b'\n' {
                on_line(&String::from_utf8_lossy(&line));
                line.clear();
            } else {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        on_line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait()?;
    interrupt::check()?;
    Ok(status)
}

/// The stdout of a command that has to succeed; what it said on stderr is in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command)?;
    let stoppable = Stoppable::new(group_of(&child)?);
    let output = child.wait_with_output()?;
    drop(stoppable);
    interrupt::check()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            shown(command),
            output.status,
            last_lines(&said, 3)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The stdout of a command that has to succeed within `patience`, for what may take minutes; what it
/// said last is in the error. It may run beside other commands.
pub(crate) fn within(patience: Duration, command: &mut Command) -> Result<String> {
    // Files: a pipe that nobody reads until the end would fill up.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let mut child = spawn(command)?;
    let status = wait(&mut child, patience, interrupt::leaving)?;
    if status.is_none() {
        let group = group_of(&child)?;
        // A package manager has something to put in order first.
        let _ = killpg(group, Signal::SIGTERM);
        wait(&mut child, Duration::from_secs(5), || false)?;
        let _ = killpg(group, Signal::SIGKILL);
        child.wait()?;
    }
    interrupt::check()?;
    if status.is_some_and(|status| status.success()) {
        return written(&mut stdout);
    }
    let why = status.map_or_else(
        || format!("not done after {} s", patience.as_secs()),
        |status| status.to_string(),
    );
    let said = written(&mut stderr)?;
    bail!(
        "`{}` failed ({why}): {}",
        shown(command),
        last_lines(&said, 3)
    );
}

/// Waits for the end of a process, for at most `patience` and until `leaving`.
fn wait(
    child: &mut Child,
    patience: Duration,
    leaving: impl Fn() -> bool,
) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && !leaving() {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

/// What was written to a file.
fn written(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a command succeeds within `patience`; what it prints is dropped.
pub(crate) fn answers(command: &mut Command, patience: Duration) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = spawn(command) else {
        return false;
    };
    if let Ok(Some(status)) = wait(&mut child, patience, interrupt::leaving) {
        return status.success();
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// The last `count` lines with anything on them, as one line.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].join(" | ")
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    words.join(" ")
}

fn spawn(command: &mut Command) -> Result<Child> {
    interrupt::check()?;
    command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run `{}`", shown(command)))
}

fn group_of(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{last_lines, output, tee, within};

    const LONG: Duration = Duration::from_secs(300);

    #[test]
    fn lines_are_seen_whole_also_the_one_without_an_end() {
        let (mut passed_on, mut lines) = (Vec::new(), Vec::new());
        let mut command = Command::new("printf");
        command.arg("one\\ntwo\\n\\nthree");
        let status = tee(&mut command, &mut passed_on, |line| {
            lines.push(line.to_owned());
        })
        .unwrap();
        assert!(status.success());
        assert_eq!(passed_on, b"one\ntwo\n\nthree");
        assert_eq!(lines, ["one", "two", "", "three"]);
    }

    #[test]
    fn the_error_of_a_failed_command_holds_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo it is closed >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("it is closed"), "{error}");
    }

    #[test]
    fn a_long_command_may_print_more_than_a_pipe_holds() {
        let mut command = Command::new("sh");
        let script = "head -c 300000 /dev/zero | tr '\\0' a; head -c 300000 /dev/zero >&2";
        let said = within(LONG, command.args(["-c", script])).unwrap();
        assert_eq!(said.len(), 300_000);
    }

    #[test]
    fn a_long_command_that_fails_is_reported_with_what_it_said() {
        let mut command = Command::new("sh");
        let script = "echo so; echo no disk >&2; exit 3";
        let error = within(LONG, command.args(["-c", script])).unwrap_err();
        assert!(error.to_string().ends_with("no disk"), "{error}");
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.current_dir(folder.path());
        command.args(["-c", "sleep 600 & echo $! > pid; wait"]);
        let error = within(Duration::from_secs(2), &mut command).unwrap_err();
        assert!(error.to_string().contains("not done after 2 s"), "{error}");
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        let deadline = Instant::now() + LONG;
        while nix::sys::signal::kill(pid, None).is_ok() {
            assert!(Instant::now() < deadline, "{pid} is still there");
        }
    }

    #[test]
    fn the_last_lines_leave_out_blank_ones() {
        assert_eq!(last_lines("a\nb\n\n c \n\n", 2), "b | c");
        assert_eq!(last_lines("", 2), "");
    }
}
