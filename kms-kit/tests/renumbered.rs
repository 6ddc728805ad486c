//! Versions that a copy of the database numbered anew are found, proven by their keys, and get their numbers back.
#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kms_kit::core::KeyBytes;
use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, ErrorKind, KeyVersionId, migrations};
use support::{Connection, OIDC, World};

on_both_databases! {
    numbers_that_a_copy_took_are_proven_and_put_back
    what_opens_under_no_number_is_said_so
}

/// A scope whose first versions were revoked after rotations, so that its numbers have a gap.
async fn rotated(world: &World) -> (ScopeId, Vec<u8>) {
    let scope = world.scope("o_1").await;
    for _ in 0..3 {
        world.kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    }
    for key in world.kms.list_keys(&scope).await.unwrap() {
        let first = &key.versions[0].id;
        world
            .kms
            .dangerous()
            .revoke_key_version(first)
            .await
            .unwrap();
    }
    let wrapper = world.kms.wrapper(&scope, &OIDC).await.unwrap();
    let blob = wrapper.encrypt(b"secret", b"row:1").unwrap();
    (scope, blob.encode())
}

/// Every version with its number.
fn numbers(world: &World) -> Vec<String> {
    world.database.texts(
        "select private_id || ' ' || version as t from kms_root_key_version
         union all select private_id || ' ' || version from kms_data_key_version order by 1",
    )
}

/// As a copy leaves them that counts from 1 again in another order: 4, 2, 3 become 1, 3, 2.
fn number_anew(world: &World) {
    for table in ["kms_root_key_version", "kms_data_key_version"] {
        world.database.execute(&format!(
            "update {table} set version = version + 100;
             update {table} set version = case version when 104 then 1 when 102 then 3 else 2 end"
        ));
    }
}

async fn numbers_that_a_copy_took_are_proven_and_put_back(world: &World) {
    let (scope, blob) = rotated(world).await;
    let before = numbers(world);
    let kms = world.builder().build().await.unwrap();
    assert_eq!(kms.prove_numbers(&scope, 20).await.unwrap(), []);

    number_anew(world);
    let kms = world.builder().build().await.unwrap();
    let blob = Blob::decode(&blob).unwrap();
    let error = kms.decrypt(&scope, &OIDC, &blob, b"row:1").await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TamperedKey);

    let proofs = kms.prove_numbers(&scope, 20).await.unwrap();
    assert_eq!(proofs.len(), before.len());
    let proven: Vec<_> = proofs
        .iter()
        .map(|proof| (proof.id.as_str(), proof.bound.unwrap()))
        .collect();
    match &mut world.database.connect() {
        Connection::Postgres(conn) => migrations::postgres::renumber(conn, &proven).unwrap(),
        Connection::Sqlite(conn) => migrations::sqlite::renumber(conn, &proven).unwrap(),
    }
    assert_eq!(numbers(world), before);
    let kms = world.builder().build().await.unwrap();
    let opened = kms.decrypt(&scope, &OIDC, &blob, b"row:1").await.unwrap();
    assert_eq!(opened.expose(), b"secret");
    assert_eq!(kms.prove_numbers(&scope, 20).await.unwrap(), []);
}

async fn what_opens_under_no_number_is_said_so(world: &World) {
    let (scope, _) = rotated(world).await;
    number_anew(world);
    // Too few numbers tried: the newest had the number 4.
    let kms = world.builder().build().await.unwrap();
    let proofs = kms.prove_numbers(&scope, 3).await.unwrap();
    let roots: Vec<_> = proofs
        .iter()
        .filter(|proof| matches!(proof.id, KeyVersionId::Root(_)))
        .map(|proof| (proof.stored, proof.bound))
        .collect();
    assert_eq!(roots, [(1, None), (2, Some(3)), (3, Some(2))]);
    // Another root key proves nothing, and says so instead.
    let other = AeadWrapper::builder("other").key(KeyBytes::generate().unwrap());
    let builder = kms_kit::builder(world.database.repository()).purposes([OIDC]);
    let kms = builder
        .root_wrapper(std::sync::Arc::new(other.build().unwrap()))
        .root_checked_later()
        .build()
        .await
        .unwrap();
    let error = kms.prove_numbers(&scope, 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey, "{error}");
}
