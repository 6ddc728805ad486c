//! A run that is killed is begun again, and goes on where it was stopped.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use kms_kit::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::Database;
use crate::support::process::{child, engine, order};
use crate::{add_organizations, assert_opens, tenants};

const TENANTS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_goes_on_where_it_was_stopped_on_sqlite() {
    stopped_again_and_again(&Database::sqlite(), &Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_goes_on_where_it_was_stopped_on_postgres() {
    if let Some(to) = Database::postgres() {
        stopped_again_and_again(&Database::sqlite(), &to).await;
    }
}

/// Each time the child sends some more statements before it is killed, until it comes to the end.
async fn stopped_again_and_again(from: &Database, to: &Database) {
    for database in [from, to] {
        add_organizations(database, TENANTS);
    }
    let blobs = tenants(from, TENANTS).await;
    let Database::Sqlite { path, .. } = from else {
        unreachable!()
    };
    let target = engine(to).build().await.unwrap();
    let mut ends = Vec::new();
    for statements in (5..).step_by(10) {
        let output = child(to, &[path, &statements.to_string()])
            .output()
            .unwrap();
        let killed = output.status.signal() == Some(Signal::SIGKILL as i32);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(killed || output.status.success(), "{errors}");
        let here = target.scopes(None, 100).await.unwrap();
        // Whoever is here is here with all keys.
        for id in &here {
            for blob in &blobs[id] {
                target.decrypt(id, &crate::OIDC, blob, b"").await.unwrap();
            }
        }
        ends.push(here.len());
        if !killed {
            break;
        }
    }
    assert!(ends.is_sorted(), "{ends:?}");
    assert_eq!(ends.last(), Some(&TENANTS), "{ends:?}");
    let halfway = |here: &&usize| (1..TENANTS).contains(*here);
    assert!(ends.iter().filter(halfway).count() > 1, "{ends:?}");
    assert_opens(&target, &blobs).await;
}

/// Statements that a child may still send.
static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);

fn ending_itself() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        let is_statement = matches!(event, InstrumentationEvent::StartQuery { .. });
        if is_statement && LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Nothing of ours runs any more: no transaction is rolled back, no connection closed.
            kill(Pid::this(), Signal::SIGKILL).unwrap();
            unreachable!("it was killed");
        }
    }))
}

/// What a child process does. In the parent there is nothing to do.
pub(crate) async fn the_child() {
    let Some((to, [path, statements])) = order() else {
        return;
    };
    set_default_instrumentation(ending_itself).unwrap();
    let from = Database::borrowed_sqlite(path);
    let source = engine(&from).build().await.unwrap();
    let target: Kms = engine(&to).build().await.unwrap();
    LEFT.store(statements.parse().unwrap(), Ordering::SeqCst);
    let mut after = None;
    loop {
        let page = source.export_scopes(after.as_ref(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        let report = target.import_scopes(&page).await.unwrap();
        assert!(report.failed.is_empty());
        after = Some(last.scope().clone());
    }
}
