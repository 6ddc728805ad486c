//! The Go program, told what to do line by line.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::database::Database;
use crate::record::{Bytes, Record};

/// One Go process: its connections, its cache, its root wrapper.
pub(crate) struct Go {
    child: Child,
    pipes: Mutex<Pipes>,
}

struct Pipes {
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What it answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    ok: bool,
    kind: String,
    error: String,
    pub(crate) plaintext: Bytes,
    pub(crate) blob: Bytes,
    pub(crate) key_version: String,
    pub(crate) keys: Vec<GoKey>,
    pub(crate) records: Vec<Record>,
    pub(crate) names: Vec<String>,
    pub(crate) version: String,
}

/// A key as Go lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct GoKey {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) key_purpose: String,
    pub(crate) versions: Vec<GoKeyVersion>,
}

/// A version as Go lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct GoKeyVersion {
    pub(crate) id: String,
    pub(crate) version: i64,
}

/// A refusal of the Go side. Its kind is `not found`, `parameter`, `version`, an SQLSTATE, or `other`.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl Go {
    /// Starts it on a database.
    pub(crate) fn start(program: &Path, database: &Database, root: &str) -> Result<Self> {
        Self::with(program, database, root, &[])
    }

    /// Starts it with further flags.
    pub(crate) fn with(
        program: &Path,
        database: &Database,
        root: &str,
        flags: &[&str],
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("serve")
            .args(["--dialect", database.dialect().go()])
            .args(["--dsn", database.go_address(), "--root", root])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("the Go program {} does not start", program.display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output is piped")?;
        let pipes = Pipes {
            input,
            output: BufReader::new(output),
        };
        Ok(Self {
            child,
            pipes: Mutex::new(pipes),
        })
    }

    /// Asks, and waits for the answer. A refusal is an error that [`Refusal::of`] finds again.
    pub(crate) fn ask(&self, request: &Value) -> Result<Answer> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        let mut pipes = self
            .pipes
            .lock()
            .map_err(|_| anyhow!("the pipes are broken"))?;
        let input = pipes.input.as_mut().context("its input is closed")?;
        input.write_all(line.as_bytes())?;
        input.flush()?;
        let mut line = String::new();
        pipes.output.read_line(&mut line)?;
        if line.is_empty() {
            anyhow::bail!("the Go program has ended: see its standard error");
        }
        let answer: Answer = serde_json::from_str(&line)?;
        if answer.ok {
            return Ok(answer);
        }
        Err(Refusal {
            kind: answer.kind,
            message: answer.error,
        })
        .with_context(|| format!("Go: {}", request["op"].as_str().unwrap_or("?")))
    }

    /// Runs Go's migrations, each file as it is.
    pub(crate) fn migrate(&self) -> Result<()> {
        self.ask(&json!({"op": "migrate"})).map(drop)
    }
}

impl Refusal {
    /// The refusal in an error, if it is one.
    pub(crate) fn of(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Drop for Go {
    fn drop(&mut self) {
        // It ends with its input.
        if let Ok(mut pipes) = self.pipes.lock() {
            pipes.input = None;
        }
        let _ = self.child.wait();
    }
}
