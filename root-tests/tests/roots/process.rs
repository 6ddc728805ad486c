//! An engine in a process of its own, which does what its parent writes to it, line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::root::Root;
use crate::support::Database;

/// A child, from the parent's side.
pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a child could not do.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl Process {
    /// Starts an engine whose root wrapper is the first of these, and decrypts with the others too.
    pub(crate) fn start(database: &Database, encrypting: &Root, decrypting: &[&Root]) -> Self {
        Self::start_with(database, encrypting, decrypting, &[])
    }

    /// Starts an engine whose root wrapper the database need not know.
    pub(crate) fn start_with_new_root(database: &Database, root: &Root) -> Self {
        Self::start_with(database, root, &[], &["root-may-be-new"])
    }

    fn start_with(
        database: &Database,
        encrypting: &Root,
        decrypting: &[&Root],
        options: &[&str],
    ) -> Self {
        let Database::Postgres { url, .. } = database else {
            panic!("these tests are about Postgres")
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command
            .arg(url)
            .args(options)
            .env("KMS_ROOT_URL", &encrypting.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let urls: Vec<_> = decrypting.iter().map(|root| root.url.as_str()).collect();
        command.env("KMS_ROOT_DECRYPT_URLS", urls.join(" "));
        for root in decrypting.iter().chain([&encrypting]) {
            command.envs(root.environment.iter().map(|(name, value)| (name, value)));
        }
        let mut child = command.spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            orders,
            answers,
        }
    }

    /// Has something done that must succeed.
    pub(crate) fn ask(&mut self, order: &str) -> String {
        self.try_ask(order)
            .unwrap_or_else(|refusal| panic!("{order}: {refusal:?}"))
    }

    pub(crate) fn try_ask(&mut self, order: &str) -> Result<String, Refusal> {
        self.send(order);
        let answer = self.line();
        match answer.split_once(' ') {
            Some(("ok", said)) => Ok(said.to_owned()),
            Some(("error", said)) => {
                let (kind, message) = said.split_once(' ').unwrap();
                Err(Refusal {
                    kind: kind.to_owned(),
                    message: message.to_owned(),
                })
            }
            _ => panic!("{order}: {answer}"),
        }
    }

    pub(crate) fn send(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// The next line that the child says.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line).unwrap();
        assert_ne!(length, 0, "the child is gone");
        line.trim_end().to_owned()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone, or it goes now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
