//! Tenants move between databases by the thousand, from whichever to whichever, and are renamed beside the
//! application's rows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "moving/renaming.rs"]
mod renaming;
#[cfg(unix)]
#[path = "moving/stopping.rs"]
mod stopping;

use std::collections::BTreeMap;
use std::env;

use futures_util::{StreamExt as _, stream};
use kms_kit::prelude::*;
use kms_kit::{Blob, ErrorKind, ExportedScope, Imported};
use support::process::engine;
use support::{DATABASE, Database, OIDC, World};

/// Tenants that move at one time. `KMS_TEST_MOVED_SCOPES` sets another number, such as 10000.
fn many() -> usize {
    let number = env::var("KMS_TEST_MOVED_SCOPES").ok();
    number.map_or(1000, |number| number.parse().unwrap())
}

const PAGE: usize = 100;
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_move_from_postgres_to_postgres() {
    if let (Some(from), Some(to)) = (Database::postgres(), Database::postgres()) {
        thousands_move(&from, &to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_move_from_sqlite_to_postgres() {
    if let Some(to) = Database::postgres() {
        thousands_move(&Database::sqlite(), &to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_move_from_postgres_to_sqlite() {
    if let Some(from) = Database::postgres() {
        thousands_move(&from, &Database::sqlite()).await;
    }
}

/// A tenant's blobs, each by another key version.
type Blobs = BTreeMap<ScopeId, Vec<Blob>>;

async fn thousands_move(from: &Database, to: &Database) {
    let count = many();
    for database in [from, to] {
        add_organizations(database, count);
    }
    let blobs = tenants(from, count).await;
    let source = engine(from).build().await.unwrap();
    let target = engine(to).build().await.unwrap();

    // As it is done in production: lines of a file in between.
    let mut file = Vec::new();
    let mut after = None;
    loop {
        let page = source.export_scopes(after.as_ref(), PAGE).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.scope().clone());
        for exported in &page {
            file.push(serde_json::to_string(exported).unwrap());
        }
    }
    assert_eq!(file.len(), count);
    let started = std::time::Instant::now();
    for lines in file.chunks(PAGE) {
        let page: Vec<ExportedScope> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let report = target.import_scopes(&page).await.unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed.first());
        assert_eq!(report.created.len(), page.len());
    }
    eprintln!("{count} scopes imported in {:?}", started.elapsed());

    assert_opens(&target, &blobs).await;
    // The first ones are given up where they come from; the others go with their database.
    let check = stream::iter(file.iter().enumerate())
        .map(async |(number, line)| {
            let exported = serde_json::from_str(line).unwrap();
            let verified = target.verify_import(&exported).await.unwrap();
            if number < 20 {
                source.delete_exported(&verified).await.unwrap();
            }
        })
        .buffer_unordered(AT_ONCE);
    check.collect::<()>().await;
    let left = from.count("select count(*) as n from kms_root_key");
    assert_eq!(left, i64::try_from(count).unwrap() - 20);
    // In the target everything goes on.
    let (first, blobs) = blobs.first_key_value().unwrap();
    target.rotate_keys(first, Rewrap::Yes).await.unwrap();
    for blob in blobs {
        target.decrypt(first, &OIDC, blob, b"").await.unwrap();
    }
}

/// The application's rows of all tenants.
fn add_organizations(database: &Database, count: usize) {
    let numbers = match database {
        Database::Postgres { .. } => format!("generate_series(0, {}) as s (n)", count - 1),
        Database::Sqlite { .. } => format!(
            "(with recursive s (n) as (select 0 union all select n + 1 from s where n < {}) select n from s)",
            count - 1
        ),
    };
    database.execute(&format!(
        "insert into organization (id) select 'tenant_' || n from {numbers}"
    ));
}

/// Tenants with keys: each tenth was rotated twice, and has a gap where a version was revoked.
async fn tenants(database: &Database, count: usize) -> Blobs {
    let kms = engine(database).build().await.unwrap();
    let tenants = stream::iter(0..count).map(async |number| {
        let id = ScopeId::new(format!("tenant_{number}")).unwrap();
        kms.create_keys(&id, &[OIDC]).await.unwrap();
        let mut blobs = vec![encrypt(&kms, &id).await];
        if number % 10 == 0 {
            for _ in 0..2 {
                kms.rotate_keys(&id, Rewrap::No).await.unwrap();
                blobs.push(encrypt(&kms, &id).await);
            }
            let revoked = blobs.remove(1).key_id().parse().unwrap();
            kms.revoke_key_version(&revoked).await.unwrap();
        }
        (id, blobs)
    });
    tenants.buffer_unordered(AT_ONCE).collect().await
}

async fn encrypt(kms: &Kms, id: &ScopeId) -> Blob {
    let wrapper = kms.wrapper(id, &OIDC).await.unwrap();
    wrapper.encrypt(id.as_str().as_bytes(), b"").unwrap()
}

async fn assert_opens(kms: &Kms, blobs: &Blobs) {
    for (id, blobs) in blobs {
        for blob in blobs {
            let plaintext = kms.decrypt(id, &OIDC, blob, b"").await.unwrap();
            assert_eq!(plaintext.expose(), id.as_str().as_bytes());
        }
    }
}

/// What a child process does. In the parent it is an ordinary test that has nothing to do.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child() {
    stopping::the_child().await;
}

on_both_databases! {
    a_tenant_is_imported_in_the_application_s_own_transaction
    keys_that_the_application_s_rows_use_are_not_deleted_where_they_came_from
}

/// The keys come with the application's rows, or neither do.
async fn a_tenant_is_imported_in_the_application_s_own_transaction(world: &World) {
    let from = Database::sqlite();
    add_organizations(&from, 1);
    let blobs = tenants(&from, 1).await;
    let source = engine(&from).build().await.unwrap();
    let (id, id_blobs) = blobs.first_key_value().unwrap();
    let exported = source.export_scope(id).await.unwrap();
    let to = &world.database;
    let target = engine(to).build().await.unwrap();
    // Without the application's row of it there is no tenant. SQLite does not say which foreign key it was.
    let error = target.import_scope(&exported).await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::MissingScopeRow | ErrorKind::Database
    ));
    for commit in [false, true] {
        let prepared = target.prepare_import_scope(&exported).await.unwrap();
        let prepared = prepared.unwrap();
        let mut connection = to.connect();
        let receipts = connection.transaction(commit, |connection| {
            connection.execute(&format!("insert into organization (id) values ('{id}')"));
            let receipts = connection.apply_changes(&[prepared.change_set()]).unwrap();
            connection.execute(&format!(
                "insert into oidc_client (id, organization_id, key_version_id)
                 values ('c', '{id}', '{}')",
                id_blobs[0].key_id()
            ));
            receipts
        });
        target.accept(&receipts);
        let rows = to.count("select count(*) as n from kms_root_key");
        assert_eq!(rows, i64::from(commit));
    }
    assert_opens(&target, &blobs).await;
    let again = target.import_scope(&exported).await.unwrap();
    assert_eq!(again, Imported::AlreadyHere);
    let again = target.prepare_import_scope(&exported).await.unwrap();
    assert!(again.is_none());
}

/// A source whose rows are in use keeps its keys.
async fn keys_that_the_application_s_rows_use_are_not_deleted_where_they_came_from(world: &World) {
    let (from, to) = (&world.database, Database::sqlite());
    for database in [from, &to] {
        add_organizations(database, 1);
    }
    let source = engine(from).build().await.unwrap();
    let target = engine(&to).build().await.unwrap();
    let id = ScopeId::new("tenant_0").unwrap();
    source.create_keys(&id, &[OIDC, DATABASE]).await.unwrap();
    let used = source.wrapper(&id, &OIDC).await.unwrap();
    from.execute(&format!(
        "insert into oidc_client (id, organization_id, key_version_id) values ('c', '{id}', '{}')",
        used.key_version_id()
    ));
    let exported = source.export_scope(&id).await.unwrap();
    let _ = target.import_scope(&exported).await.unwrap();
    let verified = target.verify_import(&exported).await.unwrap();
    let error = source.delete_exported(&verified).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    from.execute("delete from oidc_client");
    source.delete_exported(&verified).await.unwrap();
    source.delete_exported(&verified).await.unwrap();
    assert_eq!(from.count("select count(*) as n from kms_root_key"), 0);
}
