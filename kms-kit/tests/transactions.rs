//! Keys inside the application's own transactions.

mod support;

use std::sync::{Arc, Barrier};
use std::time::Duration;

use kms_kit::prelude::*;
use kms_kit::{ErrorKind, Prepared};
use support::{Connection, DATABASE, OIDC, World};

on_both_databases! {
    a_scope_its_keys_and_an_encrypted_row_are_made_in_one_transaction
    a_receipt_of_a_transaction_that_was_rolled_back_does_no_harm
    a_conflict_changes_nothing_and_leaves_the_transaction_usable
    several_change_sets_are_applied_all_or_none
    rows_seen_in_a_transaction_are_opened_and_forgotten
    pools_of_n_with_n_transactions_that_use_keys_do_not_deadlock
    deleting_the_application_s_scope_row_shreds_its_keys_and_is_noticed_elsewhere
    a_deletion_is_refused_while_a_row_needs_a_key
}

async fn prepared(world: &World, id: &str) -> (ScopeId, Prepared) {
    let scope = ScopeId::new(id).unwrap();
    let prepared = world
        .kms
        .prepare_create_keys(&scope, &[DATABASE, OIDC])
        .await
        .unwrap();
    (scope, prepared)
}

fn found(
    connection: &mut Connection,
    scope: &ScopeId,
    prepared: &Prepared,
) -> Vec<kms_kit::Receipt> {
    let version = prepared.wrapper(&OIDC).unwrap().key_version_id();
    connection.execute(&format!("insert into organization (id) values ('{scope}')"));
    let receipts = connection.apply_changes(&[prepared.change_set()]).unwrap();
    connection.execute(&format!(
        "insert into oidc_client (id, organization_id, key_version_id) values ('c_{scope}', '{scope}', '{version}')"
    ));
    receipts
}

async fn a_scope_its_keys_and_an_encrypted_row_are_made_in_one_transaction(world: &World) {
    let (scope, prepared) = prepared(world, "o_1").await;
    let blob = prepared
        .wrapper(&OIDC)
        .unwrap()
        .encrypt(b"first", b"row")
        .unwrap();
    // Not before the commit.
    let error = world
        .kms
        .decrypt(&scope, &OIDC, &blob, b"row")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
    let receipts = world
        .database
        .connect()
        .transaction(true, |connection| found(connection, &scope, &prepared));
    world.kms.accept(&receipts);
    let plain = world
        .kms
        .decrypt(&scope, &OIDC, &blob, b"row")
        .await
        .unwrap();
    assert_eq!(plain.expose(), b"first");
    assert_eq!(
        prepared
            .wrapper(&OIDC)
            .unwrap()
            .decrypt(&blob, b"row")
            .unwrap()
            .expose(),
        b"first"
    );
}

async fn a_receipt_of_a_transaction_that_was_rolled_back_does_no_harm(world: &World) {
    let scope = world.scope("o_1").await;
    let before = world.kms.wrapper(&scope, &OIDC).await.unwrap();
    let prepared = world
        .kms
        .prepare_rotate_keys(&scope, Rewrap::Yes)
        .await
        .unwrap();
    let receipts = world.database.connect().transaction(false, |connection| {
        connection.apply_changes(&[prepared.change_set()]).unwrap()
    });
    world.kms.accept(&receipts);
    let after = world.kms.wrapper(&scope, &OIDC).await.unwrap();
    assert_eq!(before.key_version_id(), after.key_version_id());
    after.encrypt(b"x", b"").unwrap();
    // Nothing was used up: the same change set can be applied now.
    let receipts = world.database.connect().transaction(true, |connection| {
        connection.apply_changes(&[prepared.change_set()]).unwrap()
    });
    world.kms.accept(&receipts);
    let after = world.kms.wrapper(&scope, &OIDC).await.unwrap();
    assert_ne!(before.key_version_id(), after.key_version_id());
}

async fn a_conflict_changes_nothing_and_leaves_the_transaction_usable(world: &World) {
    let scope = world.scope("o_1").await;
    let stale = world
        .kms
        .prepare_rotate_keys(&scope, Rewrap::Yes)
        .await
        .unwrap();
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    let before = world
        .database
        .count("select version as n from kms_collection_version");
    world.database.connect().transaction(true, |connection| {
        let error = connection.apply_changes(&[stale.change_set()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.context("scope"), Some("o_1"));
        connection.execute("insert into organization (id) values ('written after the conflict')");
    });
    assert_eq!(
        world
            .database
            .count("select version as n from kms_collection_version"),
        before
    );
    assert_eq!(
        world
            .database
            .count("select count(*) as n from organization"),
        2
    );
    assert_eq!(
        world.kms.list_keys(&scope).await.unwrap()[0].versions.len(),
        2
    );
}

async fn several_change_sets_are_applied_all_or_none(world: &World) {
    let (first, second) = (world.scope("o_1").await, world.scope("o_2").await);
    let good = world
        .kms
        .prepare_rotate_keys(&first, Rewrap::No)
        .await
        .unwrap();
    let stale = world
        .kms
        .prepare_rotate_keys(&second, Rewrap::No)
        .await
        .unwrap();
    world.kms.rotate_keys(&second, Rewrap::No).await.unwrap();
    world.database.connect().transaction(true, |connection| {
        let error = connection
            .apply_changes(&[good.change_set(), stale.change_set()])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    });
    assert_eq!(
        world.kms.list_keys(&first).await.unwrap()[0].versions.len(),
        1
    );
    let fresh = world
        .kms
        .prepare_rotate_keys(&second, Rewrap::No)
        .await
        .unwrap();
    let receipts = world.database.connect().transaction(true, |connection| {
        connection
            .apply_changes(&[good.change_set(), fresh.change_set()])
            .unwrap()
    });
    assert_eq!(receipts.len(), 2);
    assert_eq!(
        world.kms.list_keys(&first).await.unwrap()[0].versions.len(),
        2
    );
    assert_eq!(
        world.kms.list_keys(&second).await.unwrap()[0]
            .versions
            .len(),
        3
    );
}

async fn rows_seen_in_a_transaction_are_opened_and_forgotten(world: &World) {
    let scope = world.scope("o_1").await;
    let before = world.kms.wrapper(&scope, &OIDC).await.unwrap();
    let prepared = world
        .kms
        .prepare_rotate_keys(&scope, Rewrap::No)
        .await
        .unwrap();
    let rows = world.database.connect().transaction(false, |connection| {
        let _ = connection.apply_changes(&[prepared.change_set()]).unwrap();
        connection
            .load_keys(std::slice::from_ref(&scope))
            .unwrap()
            .scopes
            .remove(0)
    });
    let ring = world.kms.open(&rows).await;
    let inside = ring.wrapper(&OIDC).unwrap();
    assert_ne!(inside.key_version_id(), before.key_version_id());
    inside.encrypt(b"x", b"").unwrap();
    // It was rolled back, and the shared cache never saw it.
    let after = world.kms.wrapper(&scope, &OIDC).await.unwrap();
    assert_eq!(after.key_version_id(), before.key_version_id());
}

async fn pools_of_n_with_n_transactions_that_use_keys_do_not_deadlock(world: &World) {
    const N: usize = 4;
    let scope = world.scope("o_1").await;
    // The engine's repository takes its connections from the application's own pool.
    let pool = world.database.shared_pool(N);
    let kms = world.builder_on(pool.repository()).build().await.unwrap();
    let barrier = Arc::new(Barrier::new(N));
    let ring = kms.ensure(&scope).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let transactions: Vec<_> = (0..N)
        .map(|_| {
            let (pool, barrier, kms, scope) = (
                pool.clone(),
                Arc::clone(&barrier),
                kms.clone(),
                scope.clone(),
            );
            let (ring, runtime) = (ring.clone(), runtime.clone());
            tokio::task::spawn_blocking(move || {
                pool.read_transaction(|connection| {
                    // All N connections are in transactions from here on.
                    barrier.wait();
                    ring.wrapper(&OIDC)
                        .unwrap()
                        .encrypt(b"prepared before", b"")
                        .unwrap();
                    let snapshot = connection.load_keys(std::slice::from_ref(&scope));
                    let rows = snapshot.unwrap().scopes.remove(0);
                    let ring = runtime.block_on(kms.open(&rows));
                    ring.wrapper(&OIDC)
                        .unwrap()
                        .encrypt(b"on this connection", b"")
                        .unwrap();
                    barrier.wait();
                });
            })
        })
        .collect();
    let all = futures_util::future::join_all(transactions);
    for result in tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .expect("a deadlock")
    {
        result.unwrap();
    }
}

async fn deleting_the_application_s_scope_row_shreds_its_keys_and_is_noticed_elsewhere(
    world: &World,
) {
    let scope = world.scope("o_1").await;
    world.client("c_1", &scope).await;
    let elsewhere = world
        .builder()
        .freshness(Freshness::Always)
        .build()
        .await
        .unwrap();
    elsewhere.wrapper(&scope, &OIDC).await.unwrap();
    world
        .database
        .execute("delete from organization where id = 'o_1'");
    for table in [
        "kms_root_key",
        "kms_root_key_version",
        "kms_data_key",
        "kms_data_key_version",
        "oidc_client",
    ] {
        assert_eq!(
            world
                .database
                .count(&format!("select count(*) as n from {table}")),
            0,
            "{table}"
        );
    }
    let error = elsewhere.wrapper(&scope, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
}

async fn a_deletion_is_refused_while_a_row_needs_a_key(world: &World) {
    let scope = world.scope("o_1").await;
    let used = world.client("c_1", &scope).await;
    let error = world.kms.delete_keys(&scope).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.context("table").unwrap().contains("oidc_client"));
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    let error = world
        .kms
        .revoke_key_version(&used.parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.context("table").unwrap().contains("oidc_client"));
    world.database.execute("delete from oidc_client");
    world
        .kms
        .revoke_key_version(&used.parse().unwrap())
        .await
        .unwrap();
    world.kms.delete_keys(&scope).await.unwrap();
}
