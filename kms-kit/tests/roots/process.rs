//! An engine in a process of its own, which does what its parent writes to it, line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use kms_kit::core::KeyVersionId;
use kms_kit::prelude::*;
use kms_kit::{CampaignOptions, Result, RootWrapper};

use crate::root::Root;
use crate::support::{DATABASE, Database, OIDC};

/// Where a child finds its database; the variable's presence makes the child's test do the work.
const DATABASE_URL: &str = "KMS_TEST_ROOTS_CHILD";

/// Every answer begins with it: the test runner prints lines of its own.
const MARK: &str = "> ";

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
        let Database::Postgres { url, .. } = database else {
            panic!("these tests are about Postgres")
        };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "process::the_child", "--nocapture"])
            .env(DATABASE_URL, url)
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
        loop {
            let mut line = String::new();
            assert_ne!(
                self.answers.read_line(&mut line).unwrap(),
                0,
                "the child is gone"
            );
            if let Some((_, said)) = line.split_once(MARK) {
                return said.trim_end().to_owned();
            }
        }
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

/// What a child does. Without its variable it is an ordinary test that has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child() {
    let Ok(url) = std::env::var(DATABASE_URL) else {
        return;
    };
    let database = Database::borrowed_postgres(url);
    let root = RootWrapper::from_env().unwrap();
    let kms = kms_kit::builder(database.repository())
        .root_wrapper(Arc::new(root.clone()))
        .purposes([DATABASE, OIDC])
        // A change of the other process is seen at once.
        .freshness(Freshness::Always)
        .build()
        .await
        .unwrap();
    // Ends with the parent: then there are no more lines.
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        match tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(obey(&kms, &root, &words))
        }) {
            Ok(said) => say(&format!("ok {said}")),
            Err(error) => say(&format!("error {:?} {error}", error.kind())),
        }
    }
}

fn say(line: &str) {
    println!("\n{MARK}{line}");
}

async fn obey(kms: &Kms, root: &RootWrapper, words: &[&str]) -> Result<String> {
    let scope = |id: &str| ScopeId::new(id).unwrap();
    match *words {
        ["preflight"] => root.preflight().await?,
        ["create", id] => {
            kms.create_keys(&scope(id), &[DATABASE, OIDC]).await?;
        }
        ["encrypt", id, text] => {
            let wrapper = kms.wrapper(&scope(id), &OIDC).await?;
            let blob = wrapper.encrypt(text.as_bytes(), id.as_bytes())?;
            return Ok(HEXLOWER.encode(&blob.encode()));
        }
        ["decrypt", id, blob] => {
            let blob = Blob::decode(&HEXLOWER.decode(blob.as_bytes()).unwrap())?;
            let text = kms.decrypt(&scope(id), &OIDC, &blob, id.as_bytes()).await?;
            return Ok(String::from_utf8(text.expose().to_vec()).unwrap());
        }
        ["rotate", id] => {
            kms.rotate_keys(&scope(id), Rewrap::No).await?;
        }
        ["rotate+rewrap", id] => {
            kms.rotate_keys(&scope(id), Rewrap::Yes).await?;
        }
        ["rewrap", id] => {
            kms.rewrap_keys(&scope(id), RewrapKeys::All).await?;
        }
        ["versions", id] => {
            let keys = kms.list_keys(&scope(id)).await?;
            let ids = keys.iter().flat_map(|key| &key.versions);
            let ids: Vec<_> = ids.map(|version| version.id.to_string()).collect();
            return Ok(ids.join(" "));
        }
        ["revoke", id] => {
            kms.revoke_key_version(&id.parse::<KeyVersionId>()?).await?;
        }
        // Waits for a line after each batch.
        ["rewrap_all", campaign] => {
            let options = CampaignOptions::new(campaign).batch_size(2);
            let outcome = kms
                .rewrap_all(&options, RewrapKeys::All, |progress| {
                    say(&format!("done {}", progress.done));
                    let mut go_on = String::new();
                    std::io::stdin().read_line(&mut go_on).unwrap();
                })
                .await?;
            assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
            return Ok(format!("finished {}", outcome.done));
        }
        ["census"] => {
            let census = kms.census().await?;
            assert_eq!(census.unreadable, 0);
            let roots = census.by_root_key.iter();
            let roots: Vec<_> = roots.map(|(id, count)| format!("{id}={count}")).collect();
            return Ok(roots.join(" "));
        }
        _ => panic!("what is {words:?}?"),
    }
    Ok("done".to_owned())
}
