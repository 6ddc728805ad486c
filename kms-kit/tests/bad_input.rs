//! What bad input gets: an error of its own kind that names what it is about, and nothing changed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use kms_kit::prelude::*;
use kms_kit::{ErrorKind, PostgresRepository, RewrapKeys, SqliteRepository};
use support::process::{child, engine, order};
use support::{DATABASE, Database, OIDC, World};

on_both_databases! {
    names_that_no_database_should_hold_are_refused_and_the_longest_and_strangest_round_trip
    a_schema_of_another_version_is_named_with_what_to_do
    a_database_without_our_tables_says_to_migrate
    a_blob_that_is_truncated_empty_foreign_or_flipped_does_not_open
    a_key_row_altered_in_the_database_fails_by_name
    a_pool_without_a_free_connection_is_an_error_after_a_bounded_wait
    of_two_processes_that_create_one_scope_one_wins_and_the_other_is_told
    two_processes_that_rotate_one_scope_both_succeed_with_consecutive_versions
}

async fn names_that_no_database_should_hold_are_refused_and_the_longest_and_strangest_round_trip(
    world: &World,
) {
    let long = "x".repeat(256);
    for bad in [
        "",
        " ",
        "\t",
        " o_1",
        "o_1 ",
        "o\0",
        "\u{a0}o",
        long.as_str(),
    ] {
        assert_eq!(
            ScopeId::new(bad).unwrap_err().kind(),
            ErrorKind::InvalidScope
        );
        assert_eq!(
            Purpose::new(bad).unwrap_err().kind(),
            ErrorKind::InvalidPurpose
        );
    }
    let longest = "ü".repeat(127) + "x";
    for good in [
        "日本 tenant",
        "o'; drop table kms_root_key; --",
        "a\\b\"c",
        longest.as_str(),
    ] {
        let (scope, purpose) = (ScopeId::new(good).unwrap(), Purpose::new(good).unwrap());
        let kms = world
            .builder()
            .purposes([purpose.clone()])
            .build()
            .await
            .unwrap();
        let quoted = good.replace('\'', "''");
        world.database.execute(&format!(
            "insert into organization (id) values ('{quoted}')"
        ));
        kms.create_keys(&scope, std::slice::from_ref(&purpose))
            .await
            .unwrap();
        kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
        let keys = kms.list_keys(&scope).await.unwrap();
        assert_eq!(
            (keys[1].scope.as_str(), keys[1].purpose.as_str()),
            (good, good)
        );
        let blob = kms
            .wrapper(&scope, &purpose)
            .await
            .unwrap()
            .encrypt(b"x", b"")
            .unwrap();
        let other = world.builder().build().await.unwrap();
        assert_eq!(
            other
                .decrypt(&scope, &purpose, &blob, b"")
                .await
                .unwrap()
                .expose(),
            b"x"
        );
    }
    assert_eq!(world.kms.scopes(None, 100).await.unwrap().len(), 4);
}

async fn a_schema_of_another_version_is_named_with_what_to_do(world: &World) {
    world
        .database
        .execute("update kms_schema_version set version = 'v0.0.1'");
    let error = world.builder().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaVersion);
    assert_eq!(error.context("expected"), Some("v0.0.2"));
    assert_eq!(error.context("found"), Some("v0.0.1"));
    assert!(error.to_string().contains("run the migrations"), "{error}");
}

async fn a_database_without_our_tables_says_to_migrate(world: &World) {
    let empty = match &world.database {
        Database::Sqlite { .. } => Database::empty_sqlite(),
        Database::Postgres { .. } => Database::empty_postgres().unwrap(),
    };
    drop(empty.connect());
    let error = world
        .builder_on(empty.repository())
        .build()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaVersion, "{error}");
    assert_eq!(error.context("found"), Some("none"));
}

async fn a_blob_that_is_truncated_empty_foreign_or_flipped_does_not_open(world: &World) {
    let (mine, other) = (world.scope("o_1").await, world.scope("o_2").await);
    let before = world.database.dump();
    let encrypt = async |scope: &ScopeId| {
        let wrapper = world.kms.wrapper(scope, &OIDC).await.unwrap();
        wrapper.encrypt(b"secret", b"aad").unwrap().encode()
    };
    let (whole, foreign) = (encrypt(&mine).await, encrypt(&other).await);
    let wrapper = world.kms.wrapper(&mine, &OIDC).await.unwrap();
    let locally = |bytes: &[u8]| wrapper.decrypt(&Blob::decode(bytes)?, b"aad").map(drop);
    // Beside the version that it has in the cache, the engine asks the database for any other.
    let asking = async |bytes: &[u8]| {
        let blob = Blob::decode(bytes)?;
        let opened = world.kms.decrypt(&mine, &OIDC, &blob, b"aad").await;
        opened.map(drop)
    };
    locally(&whole).unwrap();
    asking(&whole).await.unwrap();
    for (bytes, kind) in [
        (&b""[..], ErrorKind::InvalidBlob),
        (&b"not a blob"[..], ErrorKind::InvalidBlob),
        (&foreign, ErrorKind::UnknownKeyVersion),
    ] {
        assert_eq!(locally(bytes).unwrap_err().kind(), kind);
        assert_eq!(asking(bytes).await.unwrap_err().kind(), kind);
    }
    let named = asking(&foreign).await.unwrap_err();
    assert_eq!(named.context("scope"), Some("o_1"));
    assert_eq!(named.context("purpose"), Some("oidc"));
    let wrong_aad = wrapper.decrypt(&Blob::decode(&whole).unwrap(), b"other");
    assert_eq!(
        wrong_aad.unwrap_err().kind(),
        ErrorKind::AuthenticationFailed
    );
    for (position, bit) in (0..whole.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
        let mut flipped = whole.clone();
        flipped[position] ^= 1 << bit;
        let error = locally(&flipped).expect_err(&format!("byte {position}, bit {bit}"));
        let expected = [
            ErrorKind::InvalidBlob,
            ErrorKind::AuthenticationFailed,
            ErrorKind::UnknownKeyVersion,
        ];
        assert!(expected.contains(&error.kind()), "byte {position}: {error}");
    }
    for length in 0..whole.len() {
        locally(&whole[..length]).expect_err(&format!("{length} bytes"));
    }
    assert_eq!(world.database.dump(), before);
}

async fn a_key_row_altered_in_the_database_fails_by_name(world: &World) {
    let scope = world.scope("o_1").await;
    let unharmed = world.scope("o_2").await;
    let keys = world.kms.list_keys(&scope).await.unwrap();
    let root_version = keys[0].versions[0].id.clone();
    let wrapper = world.kms.wrapper(&scope, &OIDC).await.unwrap();
    let version = wrapper.key_version_id().clone();

    flip(world, "kms_data_key_version", version.as_str());
    let altered = world.database.dump();
    let kms = world.another_process().await;
    let error = kms.wrapper(&scope, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
    assert_eq!(error.context("scope"), Some("o_1"));
    assert_eq!(error.context("purpose"), Some("oidc"));
    assert_eq!(error.context("key_version"), Some(version.as_str()));
    let error = kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
    assert_eq!(error.context("key_version"), Some(version.as_str()));
    let fine = kms.wrapper(&scope, &DATABASE).await.unwrap();
    fine.encrypt(b"fine", b"").unwrap();
    assert_eq!(world.database.dump(), altered);

    flip(world, "kms_root_key_version", root_version.as_str());
    let altered = world.database.dump();
    let kms = world.another_process().await;
    for error in [
        kms.wrapper(&scope, &DATABASE).await.map(drop).unwrap_err(),
        kms.rewrap_keys(&scope, RewrapKeys::All).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TamperedKey, "{error}");
        assert_eq!(error.context("scope"), Some("o_1"));
        let told = error.to_string();
        assert!(told.contains(root_version.as_str()), "{told}");
    }
    kms.wrapper(&unharmed, &DATABASE).await.unwrap();
    assert_eq!(world.database.dump(), altered);
}

/// Alters one byte of a wrapped key: of its ciphertext, behind the nonce.
fn flip(world: &World, table: &str, id: &str) {
    let altered = if world.database.is_postgres() {
        "set_byte(key, 20, get_byte(key, 20) # 1)"
    } else {
        "cast(substr(key, 1, 20)
              || (case substr(key, 21, 1) when x'00' then x'01' else x'00' end)
              || substr(key, 22) as blob)"
    };
    world.database.execute(&format!(
        "update {table} set key = {altered} where private_id = '{id}'"
    ));
}

async fn a_pool_without_a_free_connection_is_an_error_after_a_bounded_wait(world: &World) {
    let scope = world.scope("o_1").await;
    let pool = world
        .database
        .shared_pool_waiting(1, Duration::from_millis(300));
    let kms = world.builder_on(pool.repository()).build().await.unwrap();
    let held = pool.hold();
    let started = Instant::now();
    let error = kms.wrapper(&scope, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseBusy);
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(held);
    kms.wrapper(&scope, &OIDC).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there_is_an_error_in_bounded_time_without_its_password() {
    let nowhere = tempfile::tempdir().unwrap();
    let file = nowhere.path().join("missing/keys.sqlite3");
    let wait = Duration::from_millis(500);
    let sqlite = SqliteRepository::builder(file.to_str().unwrap()).connection_timeout(wait);
    let postgres = PostgresRepository::builder("postgres://me:hunter2@127.0.0.1:1/nothing")
        .connection_timeout(Duration::from_secs(1));
    let (sqlite, postgres) = (sqlite.build().unwrap(), postgres.build().unwrap());
    assert!(!format!("{postgres:?}").contains("hunter2"));
    let started = Instant::now();
    for error in [
        kms_kit::builder(std::sync::Arc::new(sqlite))
            .build()
            .await
            .unwrap_err(),
        kms_kit::builder(std::sync::Arc::new(postgres))
            .build()
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
        assert!(error.is_retryable());
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(!file.exists(), "and no file was made");
}

/// Two processes that do the same at the same time; what each printed of its outcome.
fn in_two_processes(world: &World, work: &str) -> Vec<String> {
    let children: Vec<_> = (0..2)
        .map(|_| child(&world.database, &[work]).spawn().unwrap())
        .collect();
    let outputs = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap());
    let mut outcomes: Vec<_> = outputs
        .map(|output| {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let outcome = said
                .split("outcome: ")
                .nth(1)
                .expect("the child said nothing");
            outcome.split_whitespace().next().unwrap().to_owned()
        })
        .collect();
    outcomes.sort();
    outcomes
}

async fn of_two_processes_that_create_one_scope_one_wins_and_the_other_is_told(world: &World) {
    world
        .database
        .execute("insert into organization (id) values ('o_1')");
    assert_eq!(in_two_processes(world, "create"), ["AlreadyExists", "done"]);
    let kms = engine(&world.database).build().await.unwrap();
    let keys = kms.list_keys(&ScopeId::new("o_1").unwrap()).await.unwrap();
    assert_eq!(keys.len(), 3);
}

async fn two_processes_that_rotate_one_scope_both_succeed_with_consecutive_versions(world: &World) {
    let scope = ScopeId::new("o_1").unwrap();
    world
        .database
        .execute("insert into organization (id) values ('o_1')");
    let kms = engine(&world.database).build().await.unwrap();
    kms.create_keys(&scope, &[DATABASE, OIDC]).await.unwrap();
    assert_eq!(in_two_processes(world, "rotate"), ["done", "done"]);
    for key in kms.list_keys(&scope).await.unwrap() {
        let numbers: Vec<_> = key.versions.iter().map(|version| version.version).collect();
        assert_eq!(numbers, (1..=11).collect::<Vec<_>>(), "{}", key.purpose);
    }
    assert_eq!(kms.ensure(&scope).await.unwrap().failures().count(), 0);
}

/// What a child process does. In the parent it is a test that has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
async fn the_child() {
    let Some((database, [work])) = order() else {
        return;
    };
    let kms = engine(&database).build().await.unwrap();
    let scope = ScopeId::new("o_1").unwrap();
    let mut result = Ok(());
    if work == "create" {
        result = kms.create_keys(&scope, &[DATABASE, OIDC]).await;
    } else {
        for _ in 0..5 {
            result = result.and(kms.rotate_keys(&scope, Rewrap::Yes).await);
        }
    }
    match result {
        Ok(()) => println!("outcome: done "),
        Err(error) => println!("outcome: {} ", error.kind().name()),
    }
}
