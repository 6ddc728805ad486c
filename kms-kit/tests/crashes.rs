//! A process that dies leaves all of a change or none of it, whichever two statements it dies between.
//!
//! For each operation a child process counts the statements that it sends, and kills itself before the k-th,
//! or right behind a commit, for every k there is.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use kms_kit::prelude::*;
use kms_kit::{CampaignOptions, ErrorKind, RewrapKeys, Scopes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::process::{child, engine, order};
use support::{Connection, DATABASE, OIDC, World};

on_both_databases! {
    invariant_03_a_process_that_dies_leaves_all_of_a_creation_or_none
    invariant_03_a_process_that_dies_leaves_all_of_a_rotation_or_none
    invariant_03_a_process_that_dies_leaves_all_of_a_rewrap_or_none
    invariant_03_a_process_that_dies_leaves_all_of_a_reconciliation_or_none
    invariant_03_a_process_that_dies_leaves_all_of_a_revocation_or_none
    invariant_03_a_process_that_dies_leaves_all_of_a_deletion_or_none
    invariant_03_a_process_that_dies_leaves_all_of_a_renaming_or_none
    invariant_03_a_process_that_dies_leaves_an_application_s_rows_with_their_keys_or_neither
    a_campaign_whose_process_dies_is_carried_on_and_does_no_scope_twice
}

/// More statements than any change takes.
const NEVER: usize = 10_000;

async fn invariant_03_a_process_that_dies_leaves_all_of_a_creation_or_none(world: &World) {
    let expected = ["+kdk", "+kdk", "+kdkv", "+kdkv", "+krk", "+krkv"];
    died_at_each_statement(world, "create", &expected).await;
}

async fn invariant_03_a_process_that_dies_leaves_all_of_a_rotation_or_none(world: &World) {
    let expected = [
        "+kdkv",
        "+kdkv",
        "+krkv",
        "~collection",
        "~kdkv",
        "~kdkv",
        "~kdkv",
        "~kdkv",
        "~krkv",
        "~krkv",
    ];
    died_at_each_statement(world, "rotate", &expected).await;
}

async fn invariant_03_a_process_that_dies_leaves_all_of_a_rewrap_or_none(world: &World) {
    let expected = [
        "~collection",
        "~kdkv",
        "~kdkv",
        "~kdkv",
        "~kdkv",
        "~krkv",
        "~krkv",
    ];
    died_at_each_statement(world, "rewrap", &expected).await;
}

async fn invariant_03_a_process_that_dies_leaves_all_of_a_reconciliation_or_none(world: &World) {
    let expected = ["+kdk", "+kdk", "+kdkv", "+kdkv", "~collection"];
    died_at_each_statement(world, "reconcile", &expected).await;
}

async fn invariant_03_a_process_that_dies_leaves_all_of_a_revocation_or_none(world: &World) {
    died_at_each_statement(world, "revoke", &["-kdkv", "~collection"]).await;
}

async fn invariant_03_a_process_that_dies_leaves_all_of_a_deletion_or_none(world: &World) {
    let expected = [
        "-kdk",
        "-kdk",
        "-kdkv",
        "-kdkv",
        "-kdkv",
        "-kdkv",
        "-krk",
        "-krkv",
        "-krkv",
        "~collection",
    ];
    died_at_each_statement(world, "delete", &expected).await;
}

async fn invariant_03_a_process_that_dies_leaves_all_of_a_renaming_or_none(world: &World) {
    let expected = [
        "~collection",
        "~kdkv",
        "~kdkv",
        "~kdkv",
        "~kdkv",
        "~krk",
        "~krkv",
        "~krkv",
    ];
    died_at_each_statement(world, "rename", &expected).await;
}

async fn invariant_03_a_process_that_dies_leaves_an_application_s_rows_with_their_keys_or_neither(
    world: &World,
) {
    let expected = [
        "+client",
        "+kdk",
        "+kdk",
        "+kdkv",
        "+kdkv",
        "+krk",
        "+krkv",
        "+organization",
    ];
    died_at_each_statement(world, "found", &expected).await;
}

/// Has a child do the work on a new scope, and die before its k-th statement, for each k: what it leaves is
/// what was there, or differs from it by all of what is expected.
async fn died_at_each_statement(world: &World, work: &str, expected: &[&str]) {
    let mut ends = Vec::new();
    for k in 1..NEVER {
        let scope = ScopeId::new(format!("o_{k}")).unwrap();
        prepare(world, work, &scope).await;
        let before = picture(world);
        let died = run_child(world, work, &scope, k);
        let difference = difference(&before, &picture(world));
        let all = !difference.is_empty();
        if all {
            assert_eq!(difference, expected, "{work}, died at {k}");
        }
        still_usable(world, &scope).await;
        if !died {
            assert!(all, "{work} did nothing");
            break;
        }
        ends.push(all);
    }
    if work == "create" && world.database.is_postgres() {
        // One statement is the whole transaction, so that there is only the place before it.
        assert_eq!(ends, [false], "{work}");
        return;
    }
    // Of all places one is behind the commit, and it is the last.
    assert!(ends.len() > 4, "{work}: {ends:?}");
    assert_eq!(ends.pop(), Some(true), "{work}: {ends:?}");
    assert!(!ends.contains(&true), "{work}: {ends:?}");
}

async fn a_campaign_whose_process_dies_is_carried_on_and_does_no_scope_twice(world: &World) {
    let kms = engine(&world.database).build().await.unwrap();
    for k in 1..NEVER {
        let scope = ScopeId::new(format!("o_{k}")).unwrap();
        let scopes = in_campaign(&scope);
        for scope in &scopes {
            prepare(world, "campaign", scope).await;
        }
        let died = run_child(world, "campaign", &scope, k);
        // If the child died behind the last commit, the campaign is finished.
        let _ = kms
            .rotate_all(&campaign(&scope), Rewrap::Yes, |_| {})
            .await
            .unwrap();
        let mut campaigns = kms.campaigns().await.unwrap().into_iter();
        let carried_on = campaigns.find(|known| known.id == scope.as_str()).unwrap();
        assert_eq!((carried_on.done, carried_on.failed), (3, 0), "died at {k}");
        assert!(carried_on.finish_time.is_some(), "died at {k}");
        for scope in &scopes {
            for key in kms.list_keys(scope).await.unwrap() {
                assert_eq!(key.versions.len(), 2, "{scope}, died at {k}");
            }
            still_usable(world, scope).await;
        }
        if !died {
            assert!(k > 20, "{k} statements");
            break;
        }
    }
}

/// Three scopes, two of them in one batch.
fn in_campaign(scope: &ScopeId) -> [ScopeId; 3] {
    ["a", "b", "c"].map(|part| ScopeId::new(format!("{scope}{part}")).unwrap())
}

fn campaign(scope: &ScopeId) -> CampaignOptions {
    CampaignOptions::new(scope.as_str())
        .scopes(in_campaign(scope))
        .batch_size(2)
        // Whoever carries it on waits no longer for a process that was killed.
        .lease(Duration::from_millis(100))
}

/// What the work finds.
async fn prepare(world: &World, work: &str, scope: &ScopeId) {
    let kms = engine(&world.database).build().await.unwrap();
    if work != "found" {
        world
            .database
            .execute(&format!("insert into organization (id) values ('{scope}')"));
    }
    match work {
        "create" | "found" => {}
        "campaign" => kms.create_keys(scope, &[DATABASE, OIDC]).await.unwrap(),
        "reconcile" => kms.create_keys(scope, &[]).await.unwrap(),
        "rename" => {
            world.database.execute(&format!(
                "insert into organization (id) values ('{}')",
                renamed(scope)
            ));
            kms.create_keys(scope, &[DATABASE, OIDC]).await.unwrap();
            kms.rotate_keys(scope, Rewrap::No).await.unwrap();
        }
        _ => {
            kms.create_keys(scope, &[DATABASE, OIDC]).await.unwrap();
            kms.rotate_keys(scope, Rewrap::No).await.unwrap();
        }
    }
}

fn renamed(scope: &ScopeId) -> ScopeId {
    ScopeId::new(format!("{scope}_new")).unwrap()
}

/// Runs the child, and gives whether it died before it was done.
fn run_child(world: &World, work: &str, scope: &ScopeId, k: usize) -> bool {
    let words = [work, scope.as_str(), &k.to_string()];
    let output = child(&world.database, &words).output().unwrap();
    assert!(
        output.status.success() || output.status.signal() == Some(Signal::SIGKILL as i32),
        "{work}: {}, {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    !output.status.success()
}

/// Whatever was left, its keys open, and the next change finds nothing in its way.
async fn still_usable(world: &World, scope: &ScopeId) {
    let kms = engine(&world.database).build().await.unwrap();
    for scope in [scope, &renamed(scope)] {
        match kms.ensure(scope).await {
            Ok(ring) => assert_eq!(ring.failures().count(), 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnknownScope),
        }
    }
}

/// Every row of the keys and of the application: its id, and what it holds.
fn picture(world: &World) -> BTreeMap<String, String> {
    let hex = if world.database.is_postgres() {
        "encode(key, 'hex')"
    } else {
        "hex(key)"
    };
    let rows = world.database.texts(&format!(
        "select private_id || ' ' || scope_id as t from kms_root_key
         union all select private_id || ' ' || root_key_id || {hex} from kms_root_key_version
         union all select private_id || ' ' || root_key_id || purpose from kms_data_key
         union all select private_id || ' ' || root_key_version_id || {hex} from kms_data_key_version
         union all select 'collection ' || version from kms_collection_version
         union all select 'organization_' || id || ' ' from organization
         union all select 'client_' || id || ' ' || key_version_id from oidc_client"
    ));
    let rows = rows.iter().map(|row| row.split_once(' ').unwrap());
    rows.map(|(id, held)| (id.to_owned(), held.to_owned()))
        .collect()
}

/// What was added, removed and altered, by kind of row.
fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let kind = |id: &str| id.split('_').next().unwrap().to_owned();
    let added = after.keys().filter(|id| !before.contains_key(*id));
    let removed = before.keys().filter(|id| !after.contains_key(*id));
    let altered = before
        .iter()
        .filter(|(id, held)| after.get(*id).is_some_and(|now| now != *held));
    let mut difference: Vec<_> = added
        .map(|id| format!("+{}", kind(id)))
        .chain(removed.map(|id| format!("-{}", kind(id))))
        .chain(altered.map(|(id, _)| format!("~{}", kind(id))))
        .collect();
    difference.sort();
    difference
}

/// Statements that a child may still send.
static LEFT: AtomicUsize = AtomicUsize::new(NEVER);

fn ending_itself() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        let counts = match event {
            InstrumentationEvent::StartQuery { .. } => true,
            // Committed, and nobody has heard of it.
            InstrumentationEvent::FinishQuery { query, .. } => query.to_string().contains("COMMIT"),
            _ => false,
        };
        if counts && LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Nothing of ours runs any more: no transaction is rolled back, no connection closed. (To exit would
            // clean up OpenSSL under the hands of other threads.)
            kill(Pid::this(), Signal::SIGKILL).unwrap();
            unreachable!("it was killed");
        }
    }))
}

/// What a child process does. In the parent it is an ordinary test that has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child() {
    let Some((database, [work, scope, k])) = order() else {
        return;
    };
    set_default_instrumentation(ending_itself).unwrap();
    let kms = engine(&database).build().await.unwrap();
    let scope = ScopeId::new(scope).unwrap();
    let keys = kms.list_keys(&scope).await.unwrap_or_default();
    let mut connection = database.connect();
    let start = || LEFT.store(k.parse().unwrap(), Ordering::SeqCst);
    start();
    match &*work {
        "create" => kms.create_keys(&scope, &[DATABASE, OIDC]).await.unwrap(),
        "rotate" => kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap(),
        "rewrap" => kms.rewrap_keys(&scope, RewrapKeys::All).await.unwrap(),
        "reconcile" => {
            let scopes = [scope];
            let purposes = [DATABASE, OIDC];
            let outcome = kms.reconcile_keys(Scopes::Only(&scopes), &purposes).await;
            assert_eq!(outcome.unwrap().created.len(), 1);
        }
        "revoke" => kms
            .revoke_key_version(&keys[1].versions[0].id)
            .await
            .unwrap(),
        "delete" => kms.delete_keys(&scope).await.unwrap(),
        "rename" => kms.rename_scope(&scope, &renamed(&scope)).await.unwrap(),
        "found" => found(&kms, &mut connection, &scope).await,
        _ => {
            let outcome = kms.rotate_all(&campaign(&scope), Rewrap::Yes, |_| {}).await;
            assert_eq!(outcome.unwrap().report().unwrap().done, 3);
        }
    }
}

/// The application's transaction: its own rows, and keys.
async fn found(kms: &Kms, connection: &mut Connection, scope: &ScopeId) {
    let prepared = kms
        .prepare_create_keys(scope, &[DATABASE, OIDC])
        .await
        .unwrap();
    let version = prepared.wrapper(&OIDC).unwrap().key_version_id().clone();
    let receipts = connection.transaction(true, |connection| {
        connection.execute(&format!("insert into organization (id) values ('{scope}')"));
        let receipts = connection.apply_changes(&[prepared.change_set()]).unwrap();
        connection.execute(&format!(
            "insert into oidc_client (id, organization_id, key_version_id)
             values ('{scope}', '{scope}', '{version}')"
        ));
        receipts
    });
    kms.accept(&receipts);
}
