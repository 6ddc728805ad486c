//! Making ahead, in the background, what takes minutes and the tests will need.
//!
//! It prints nothing while other steps do; it leaves the processors to them where it can.

use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Result;

use crate::interrupt;
use crate::service::{self, Service};
use crate::workspace::Workspace;

/// The work. Dropping it ends it.
pub(crate) struct Ahead {
    worker: Option<JoinHandle<Vec<String>>>,
}

impl Ahead {
    /// Starts with what these services need, one after the other.
    pub(crate) fn start(workspace: &Workspace, services: &[&'static dyn Service]) -> Self {
        let workspace = workspace.clone();
        let services = services.to_vec();
        let worker = std::thread::spawn(move || {
            services
                .into_iter()
                .filter(|_| !interrupt::leaving())
                .filter_map(|service| {
                    let start = Instant::now();
                    let made = service::prepare(service, &workspace, &|_| {});
                    told(service.name(), &made, start.elapsed().as_secs())
                })
                .collect()
        });
        Self {
            worker: Some(worker),
        }
    }

    /// Waits for the end. Gives a line per thing that was made, or wasn't: whoever needs it tries
    /// again, and says more.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let worker = self.worker.take();
        if worker.as_ref().is_some_and(|worker| !worker.is_finished()) {
            println!("waiting for what is made in the background for the tests");
        }
        let lines = worker.map(JoinHandle::join);
        lines.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            interrupt::abandon();
            let _ = worker.join();
        }
    }
}

fn told(name: &str, made: &Result<()>, seconds: u64) -> Option<String> {
    match made {
        // It was there.
        Ok(()) if seconds < 3 => None,
        Ok(()) => Some(format!("{name}: made in the background, {seconds} s")),
        Err(error) => Some(format!("{name}: not made in the background: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::told;

    #[test]
    fn what_was_there_is_not_worth_a_line() {
        assert_eq!(told("vault", &Ok(()), 0), None);
        assert!(told("vault", &Ok(()), 260).is_some());
        let error = told("vault", &Err(anyhow!("no go")), 0).unwrap();
        assert!(error.ends_with("no go"), "{error}");
    }
}
